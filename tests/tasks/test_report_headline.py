"""What the report says first, and how it writes figures."""

from typing import Any

import pytest

from tasks.common.release_candidate import SIMULATED
from tasks.report import headline, report_page, wording
from tasks.schemas.lift import Contrast, Lift


def lift_of(claims: dict[str, str], **more: Any) -> Lift:
    """A lift of two candidates beside two references, by AUROC of 12 patients."""
    means = {"real": 0.8, "real+classical": 0.9, "real+synthetic": 0.85,
             "real+classical+synthetic": 0.93}  # fmt: skip
    arms = {
        arm: {"mean": mean, "lift_over_real": round(mean - 0.8, 3), "n_patients": 12}
        for arm, mean in means.items()
    }
    contrasts = [
        {"arm": arm, "reference": reference, "lift": round(means[arm] - means[reference], 3),
         "ci95": [-0.1, 0.1], "p_adjusted": 0.5}
        for reference in ("real", "real+classical")
        for arm in ("real+synthetic", "real+classical+synthetic")
    ]  # fmt: skip
    return Lift.model_validate(
        {"claim": claims, "tasks": {task: {"auroc": arms} for task in claims},
         "primary": dict.fromkeys(claims, "auroc"),
         "contrasts": dict.fromkeys(claims, contrasts), "n_patients": 12, "n_seeds": 3,
         "method": "by hand", **more}
    )  # fmt: skip


def test_the_headline_says_verdict_and_claims_in_one_sentence_and_names_a_phantom() -> None:
    both = headline.write_headline(
        True, lift_of({"classify": "no evidence", "segment": "no evidence"}), "real patients"
    )
    assert both == (
        "The gate accepts these synthetic slices, and no lift from them is shown in classification"
        " or segmentation, on 12 test patients."
    )
    mixed = headline.write_headline(
        False, lift_of({"classify": "harms", "segment": "helps"}), SIMULATED
    )
    assert mixed == (
        "The gate rejects these synthetic slices, and they improve segmentation, and they make"
        " classification worse, on 12 simulated test patients (a phantom)."
    )


def test_the_first_plot_is_the_lift_over_the_strongest_training_without_synthetic_slices() -> None:
    strongest = headline.against_strongest("classify", lift_of({"classify": "no evidence"}))
    assert strongest is not None and strongest.arm == "real + augmented"
    assert "real + synthetic: \N{MINUS SIGN}0.05" in strongest.chart.alt
    assert "real + augmented + synthetic: +0.03" in strongest.chart.alt
    assert "(0.9" in strongest.chart.caption
    assert (
        headline.against_strongest("classify", lift_of({"classify": "helps"}, contrasts={})) is None
    )


def test_the_decisive_comparison_is_the_best_arms_hardest_rival() -> None:
    lifts = {("a", "x"): 0.2, ("a", "y"): 0.01, ("b", "x"): 0.05, ("b", "y"): 0.04}
    contrasts = [
        Contrast(arm=a, reference=r, lift=d, ci95=(d - 0.1, d + 0.1), p_adjusted=0.5)
        for (a, r), d in lifts.items()
    ]
    assert "+0.040" in report_page.decisive_contrast(contrasts, "no evidence", "Dice")


@pytest.mark.parametrize(
    ("figure", "text"),
    [(None, "–"), (float("nan"), "–"), (120, "120"), (-0.0312, "−0.031"), (12.34, "12.3")],  # noqa: RUF001
)
def test_figures_are_written_for_people(figure: float | None, text: str) -> None:
    assert wording.format_number(figure) == text


def test_both_ends_of_an_interval_have_the_same_places() -> None:
    assert wording.format_interval((-2.1, -0.9)) == "−2.10 to −0.90"  # noqa: RUF001


def test_an_interval_that_excludes_zero_is_not_rounded_onto_it() -> None:
    assert wording.format_interval((-0.00546, -0.000027)) == "−0.00546 to −0.00003"  # noqa: RUF001
