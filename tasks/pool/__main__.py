"""Choose the added slices of each arm; without it every new GAN would retrain the real arms.

Reads `data/slices`, `data/synthetic` and `data/gate` of the listed folds; writes
`data/pool/ARM/` for every arm of `downstream.arms`, empty where the arm adds nothing. All arms of
a fold that add slices add equally many: controls as many as the synthetic ones.
"""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import params
from tasks.common import arms
from tasks.common.slice_set import SliceSet, read_slice_set, read_slices, write_slice_set
from tasks.params.pool import Pool, Score, SliceFilter
from tasks.pool.control_arms import CONTROLS, control
from tasks.schemas.samples import GatedSamples, PoolSamples
from tasks.stage import stage_io
from tasks.stage.errors import InputError
from tasks.stage.stage_runtime import run_stage


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Pool)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    asked = {fold: asked_for(fold, config) for fold in folds}
    added = {fold: accepted_samples(fold, config, asked[fold]) for fold in folds}
    # A control adds as many as the synthetic arms; where these have none, as many as asked for.
    equal = {fold: len(samples) or asked[fold] for fold, samples in added.items()}
    with stage_io.atomic_output(Path("data/pool")) as folder:
        for spec in arms.read():
            (folder / spec.name).mkdir()
            slices, wanted = added if spec.synthetic else emptied(added), asked
            if spec.source in CONTROLS:
                slices, wanted = controls(spec.source, equal, config.seed), equal
            write_arm(folder / spec.name, slices, wanted, adds=spec.added)
    for fold, samples in added.items():
        remedy = ""
        if not asked[fold]:
            remedy = "; raise pool.ratio"
        elif len(samples) < asked[fold]:
            remedy = (
                "; the gate accepted no more: raise generate.count"
                if judged(fold)["accepted"].any()
                else "; the gate accepted none, and says why"
            )
        print(
            f"pool: fold {fold}: {len(samples)} synthetic slices of {asked[fold]} asked for"
            f" ({status_of(samples, True)}){remedy}"
        )


def asked_for(fold: str, config: Pool) -> int:
    """How many slices `pool.ratio` asks for: a share of those that networks train on."""
    return round(config.ratio * len(labelled(fold)))


def labelled(fold: str) -> SliceSet:
    """The labelled training slices of a fold."""
    train = read_slices(fold, "train")
    return train.select((train.table["label"] >= 0).to_numpy())


def accepted_samples(fold: str, config: Pool, count: int) -> SliceSet:
    """The accepted synthetic slices of a fold, drawn with the labels' shares of real training.

    None where they are fewer than `pool.min_images`, unless no more were asked for.
    """
    synthetic = read_slice_set(Path("data/synthetic") / fold, "samples.parquet")
    gated = judged(fold)
    labels = labelled(fold).table["label"].to_numpy()
    accepted = gated.loc[gated["accepted"]]
    chosen = draw(
        best(accepted, config.filter) if config.filter and len(accepted) else accepted,
        tumor_share=float((labels == 1).sum() / max(1, len(labels))),
        count=count,
        seed=config.seed,
    )
    if len(chosen) < min(config.min_images, count):
        chosen = chosen[:0]
    table = pd.DataFrame(
        {
            "fold": pd.Series([fold] * len(chosen), dtype="str"),
            "label": gated["label"].to_numpy()[chosen],
            "source_row": chosen,
        }
    )
    return SliceSet(synthetic.images[chosen], synthetic.masks[chosen], table)


def judged(fold: str) -> pd.DataFrame:
    """What the gate said of each synthetic slice of a fold."""
    path = Path("data/gate") / fold / "samples.parquet"
    with stage_io.explain_read_errors(path):
        return GatedSamples.validate(pd.read_parquet(path))


def controls(name: str, counts: dict[str, int], seed: int) -> dict[str, SliceSet]:
    """The added slices of a control, made from each fold's labelled training slices.

    Args:
        name: of the control.
        counts: how many, by fold.
        seed: draws them.
    """
    found = {}
    for fold, count in counts.items():
        train = labelled(fold)
        made = control(name, train, ratio=count / max(1, len(train)), seed=seed)
        table = pd.DataFrame(
            {
                "fold": pd.Series([fold] * len(made), dtype="str"),
                "label": made.table["label"],
                "source_row": made.table["row"],
            }
        )
        found[fold] = SliceSet(made.images, made.masks, table)
    return found


def best(accepted: pd.DataFrame, asked: SliceFilter) -> pd.DataFrame:
    """The best share of each label by one of the gate's scores, rounded up.

    Raises:
        InputError: when `data/gate` holds no such score.
    """
    if asked.score not in accepted:
        there = [name for name in get_args(Score) if name in accepted]
        raise InputError(
            f"pool.filter.score is {asked.score!r}, which data/gate does not hold; it holds"
            f" {', '.join(there) or 'no score'}: change it, or run gate again"
        )
    rank = accepted.groupby("label")[asked.score].rank(method="first")
    of_label = accepted.groupby("label")["row"].transform("size")
    kept: pd.DataFrame = accepted[rank <= np.ceil(asked.keep * of_label)]
    return kept


def draw(accepted: pd.DataFrame, *, tumor_share: float, count: int, seed: int) -> NDArray[np.intp]:
    """Draw up to `count` rows without replacement in the given shares of the two labels.

    When one label runs short, the other is cut too: the label prior of an arm must not differ
    from that of the arm it is compared with.
    """
    generator = np.random.default_rng(seed)
    shares = {1: tumor_share, 0: 1 - tumor_share}
    rows = {
        label: accepted.loc[accepted["label"] == label, "row"].to_numpy(copy=True)
        for label in shares
    }
    total = min([count, *(len(rows[v]) / share for v, share in shares.items() if share > 0)])
    drawn = [
        generator.permutation(rows[label])[: int(total * share + 1e-9)]
        for label, share in shares.items()
    ]
    return np.sort(np.concatenate(drawn)).astype(np.intp)


def emptied(added: dict[str, SliceSet]) -> dict[str, SliceSet]:
    """The same folds with nothing in them."""
    return {fold: samples.select(np.empty(0, dtype=np.intp)) for fold, samples in added.items()}


def status_of(samples: SliceSet, adds: bool) -> str:
    """`none`: the arm adds nothing by design; `too few`: it should have, and cannot."""
    if not adds:
        return "none"
    return "ok" if len(samples) else "too few"


def write_arm(
    folder: Path, added: dict[str, SliceSet], asked: dict[str, int], *, adds: bool
) -> None:
    """Write one arm's slices of all folds, and the status of each fold."""
    table = pd.concat([samples.table for samples in added.values()], ignore_index=True)
    table.insert(0, "row", np.arange(len(table)))
    images, masks = (
        np.concatenate([getattr(samples, name) for samples in added.values()])
        for name in ("images", "masks")
    )
    table["mask_known"] = (table["label"].to_numpy() == 0) | masks.any(axis=(1, 2))
    PoolSamples.validate(table)
    write_slice_set(folder, images, masks)
    table.to_parquet(folder / "samples.parquet", index=False)
    status: dict[str, Any] = {
        fold: {
            "status": status_of(samples, adds),
            "n": len(samples),
            "asked": asked[fold] if adds else 0,
        }
        for fold, samples in added.items()
    }
    (folder / "pool.json").write_text(json.dumps(status, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
