"""Say which keys of `params.yaml` to change after a rejection, and what the change costs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import pandas as pd

from tasks.params.train_gan import TrainGan
from tasks.schemas.metrics import GateMetrics

FEW_PASS: Final = ("too few", "one-sided")
SHAPES: Final = {"tumor_size", "tumor_position", "mask_contrast", "mask_agreement", "mask_label"}
REPEATED: Final = {"collapsed", "diversity", "ms_ssim_diversity"}
SITES: Final = "site_coverage"
LIKENESS: Final = "nearest_ssim"
COPIES: Final = "memorised"
LATE: Final = 0.8  # of the steps; a best checkpoint after it was still getting better


@dataclass(frozen=True)
class Remedy:
    """A key of `params.yaml`, its value in this run, which to try, why, and what that costs."""

    key: str
    now: str
    wanted: str
    why: str
    cost: str


def remedies(
    gates: dict[str, GateMetrics], config: TrainGan, histories: Iterable[pd.DataFrame]
) -> list[Remedy]:
    """List what to change, by the reasons for the rejection; each key once.

    Args:
        gates: of every fold.
        config: the section `train_gan`.
        histories: of the folds' training; empty where the slices came from elsewhere.
    """
    trained = [history for history in histories if not history.empty and "event" in history]
    if not trained:
        return []  # whose generator made the slices is not known here
    named = {name for gate in gates.values() for name in named_causes(gate)}
    advice = []
    if COPIES in named:
        advice += against_copies(config)
    elif named - REPEATED:
        advice.append(more_steps(config, trained))
    if named & SHAPES:
        advice += condition(
            config,
            ("area", "position"),
            "masks then have the sizes and places of real ones more often",
        )
    if SITES in named:
        advice += condition(config, ("site",), "each site is then drawn in its share")
    if named & REPEATED:
        advice.append(
            Remedy(
                "train_gan.seed",
                str(config.seed),
                "another number",
                "a training may collapse by chance",
                "one more training",
            )
        )
    return advice


def named_causes(gate: GateMetrics) -> set[str]:
    """Return the measures outside their limits and the other causes that the reasons begin with.

    What was not measured is left out: its reason names its own remedy.
    """
    causes = set()
    for reason in gate.reasons:
        name = reason.partition(": ")[0]
        measure = gate.measures.get(name)
        if name == LIKENESS and measure is not None and (measure.ratio or 0) > 1:
            name = COPIES
        if name in {COPIES, *REPEATED, *FEW_PASS} or (measure and measure.ratio is not None):
            causes.add(name)
    return causes


def more_steps(config: TrainGan, histories: list[pd.DataFrame]) -> Remedy:
    """Advise to train longer, and say whether the training was still getting better."""
    steps = config.steps
    late = [best_step(history) > LATE * float(history["step"].max()) for history in histories]
    if all(late):
        why = "the generator was still getting nearer to real slices when its training ended"
    else:
        why = (
            "the generator did not get nearer to real slices towards the end, so more training"
            " patients, with or without outlines, may do more than steps"
        )
    return Remedy(
        "train_gan.steps",
        f"{steps:,}",
        f"{3 * steps:,}",
        why,
        "training takes three times as long",
    )


def best_step(history: pd.DataFrame) -> float:
    """Return the step of the checkpoint that was kept; the last where none is marked."""
    kept = history[history["event"].fillna("").astype(str).str.startswith("best")]
    return float((history if kept.empty else kept)["step"].iloc[-1])


def against_copies(config: TrainGan) -> list[Remedy]:
    """Advise what keeps a generator from its training slices."""
    steps = config.steps
    return [
        Remedy(
            "train_gan.steps",
            f"{steps:,}",
            f"{steps // 2:,}",
            "the generator has less time to learn slices by heart",
            "half of the training time; slices may be less sharp",
        ),
        Remedy(
            "slices.train_patients",
            "these patients",
            "more patients, if there are any",
            "each is learnt less by heart; scans without outlines count too",
            "training takes as long as before",
        ),
    ]


def condition(config: TrainGan, names: tuple[str, ...], why: str) -> list[Remedy]:
    """Advise to give the generator conditions that it does not have."""
    now = [str(name) for name in config.conditions]
    missing = [name for name in names if name not in now]
    if not missing:
        return []
    wanted = ", ".join([*now, *missing])
    return [
        Remedy(
            "train_gan.conditions",
            f"[{', '.join(now)}]",
            f"[{wanted}]",
            why,
            "one more training, as long as this one",
        )
    ]
