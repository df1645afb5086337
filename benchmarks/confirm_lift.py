"""Test the claims of a frozen protocol, in its order, on the rows of `benchmarks.baselines`.

    python -m benchmarks.confirm_lift ROWS.csv --candidate implant --sizes 6 11

A claim is an intersection-union: each of its contrasts has a 95 % interval above zero. The sequence
stops at the first claim that fails; what follows is described, not claimed. Success is the first
claim with an estimate of .03 or more in each contrast; a bound below .03 is a proven null.

A contrast is the mean over sizes, draws, networks and test patients of the paired difference. Its
variance is that of a mean over two crossed samples, patients and draws: the sum of the two means'
variances (which counts what is neither twice, so it is a little wide), with the degrees of freedom
of Satterthwaite (1946). A mixed model with both as random effects stands beside it. A draw in which
an arm could not be made is left out of its size for all arms, and named; the first claim is printed
again with differences of 0 there, which is what the pipeline would add, and so is the same contrast
of `pseudo-label`, which is described and not claimed. All draws are of one pool
of patients: their spread says less of other pools.
"""

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats

from benchmarks.baselines import read_rows

RC = "real+classical"
TASK = "segment"
WORTHWHILE = 0.03  # Dice


@dataclass(frozen=True)
class Contrast:
    """A mean difference with its 95 % interval."""

    arm: str
    reference: str
    estimate: float
    error: float
    low: float
    high: float


def main() -> None:
    """Print the tables and what is claimed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--candidate", default="implant", help="word of the arm")
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    options = parser.parse_args()
    rows = read_rows(options.rows)
    rows = rows[(rows["task"] == TASK) & rows["size"].isin(options.sizes)]
    check_one_experiment(rows, options.sizes)
    all_rows, rows = rows, complete_draws(rows)
    means = rows.groupby(["size", "arm"], sort=False)["value"].mean().unstack("size")
    print(means.round(3).to_markdown(), "\n")
    standing = True
    for title, sizes, contrasts in claims(options.candidate, options.sizes):
        chosen = rows[rows["size"].isin(sizes)]
        measured = [measure(chosen, arm, reference) for arm, reference in contrasts]
        table = pd.DataFrame(measured)
        intervals = [mixed_model_interval(differences(chosen, *names)) for names in contrasts]
        table["mixed model"] = [f"{low:+.3f} to {high:+.3f}" for low, high in intervals]
        helps = all(one.low > 0 for one in measured)
        words = ["claimed" if standing and helps else "not claimed"]
        if standing and helps and min(one.estimate for one in measured) < WORTHWHILE:
            words.append(f"but below {WORTHWHILE:+.2f}")
        if standing and not helps:
            words += [
                f"a proven null over {one.reference}: below {WORTHWHILE:+.2f}"
                for one in measured
                if one.high < WORTHWHILE
            ]
        standing = standing and helps
        print(f"{title}: {'; '.join(words)}")
        print(table.round(3).to_markdown(index=False), "\n")
    for arm in (f"{RC}+{options.candidate}", f"{RC}+pseudo-label"):
        for reference in (RC, f"{RC}+copy-paste"):
            one = measure(nothing_added(all_rows, arm, reference), arm, reference)
            interval = f"{one.estimate:+.3f} ({one.low:+.3f} to {one.high:+.3f})"
            print(f"{arm} over {reference}, all draws: {interval}")


def check_one_experiment(rows: pd.DataFrame, sizes: list[int]) -> None:
    """Refuse rows of several settings: their mean would be of no experiment."""
    for size in sizes:
        kinds = rows.loc[rows["size"] == size, ["setting", "unlabelled"]].drop_duplicates()
        if len(kinds) != 1:
            sys.exit(f"size {size}: rows of {len(kinds)} settings; keep those of one in the file")


def nothing_added(rows: pd.DataFrame, arm: str, reference: str) -> pd.DataFrame:
    """Let an arm that could not be made in a draw score what the reference scores there."""
    known = rows[rows["arm"].isin([arm, reference]) & rows["value"].notna()]
    cells = known.groupby(["size", "draw"])["arm"].unique()
    missing = [cell for cell, arms in cells.items() if list(arms) == [reference]]
    alone = pd.MultiIndex.from_frame(known[["size", "draw"]]).isin(missing)
    return pd.concat([known, known[alone].assign(arm=arm)])


def claims(candidate: str, sizes: list[int]) -> list[tuple[str, list[int], list[tuple[str, str]]]]:
    """List the claims in their order: words, sizes, contrasts."""
    arm, both = f"{RC}+{candidate}", f"{RC}+pseudo-label+{candidate}"
    first = [(arm, RC), (arm, f"{RC}+copy-paste")]
    return [
        ("1. more than without further scans", sizes, first),
        ("2. more than its twin without a generator", sizes, [(arm, f"{RC}+paste-unlabelled")]),
        ("3. more beside pseudo-labels", sizes, [(both, f"{RC}+pseudo-label")]),
        *((f"4. the first at size {size}", [size], first) for size in sizes),
    ]


def complete_draws(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out, and name, the draws in which an arm has no value or was not measured yet."""
    keys = ["size", "draw"]
    arms = rows["arm"].nunique()
    known = rows.dropna(subset="value").groupby(keys)["arm"].nunique()
    incomplete = known.index[known < arms].union(
        pd.MultiIndex.from_frame(rows[keys].drop_duplicates()).difference(known.index)
    )
    for size, draw in incomplete:
        print(f"size {size}, draw {draw}: left out, not every arm has a network there")
    kept = rows[~pd.MultiIndex.from_frame(rows[keys]).isin(incomplete)]
    return kept.dropna(subset="value")


def differences(rows: pd.DataFrame, arm: str, reference: str) -> pd.DataFrame:
    """Return the difference of each size, draw and test patient, means over networks."""
    values = rows.pivot_table(index=["size", "draw", "subject"], columns="arm", values="value")
    return (values[arm] - values[reference]).rename("difference").reset_index()


def measure(rows: pd.DataFrame, arm: str, reference: str) -> Contrast:
    """Measure a contrast."""
    difference = differences(rows, arm, reference)
    by_size = difference.groupby("size")["difference"].mean()
    patients = difference.groupby(["size", "subject"])["difference"].mean()
    patients = patients.groupby("subject").mean()
    draws = difference.groupby(["size", "draw"])["difference"].mean().groupby("size")
    parts = [
        (patients.var() / len(patients), len(patients) - 1),
        *((part.var() / len(part) / len(by_size) ** 2, len(part) - 1) for _, part in draws),
    ]
    variance = sum(value for value, _ in parts)
    freedom = variance**2 / sum(value**2 / df for value, df in parts)
    error, estimate = float(np.sqrt(variance)), float(by_size.mean())
    width = float(stats.t.ppf(0.975, freedom)) * error
    return Contrast(arm, reference, estimate, error, estimate - width, estimate + width)


def mixed_model_interval(difference: pd.DataFrame) -> tuple[float, float]:
    """Return the 95 % interval of the mean with patients and draws as crossed random effects."""
    table = difference.assign(
        cell=difference["size"].astype(str) + "-" + difference["draw"].astype(str), one=1
    )
    effects = {"patient": "0 + C(subject)", "draw": "0 + C(cell)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a variance of 0 lies on the edge of what may be
        fitted = smf.mixedlm("difference ~ 1", table, groups="one", vc_formula=effects).fit()
    low, high = fitted.conf_int().loc["Intercept"]
    return float(low), float(high)


if __name__ == "__main__":
    main()
