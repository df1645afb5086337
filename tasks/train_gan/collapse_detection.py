"""Whether a generator diverged or collapsed, and which checkpoint is best.

Losses do not tell: those of a fully collapsed generator can look healthy.
"""

import math

from models.losses import Loss

Row = dict[str, float | str]

# Shares of what real slices show, found on runs that collapsed and runs that did not.
LEAST_STD_Z = 0.25
MOST_SSIM = 0.9
MOST_MISSING = 0.5
MOST_SPURIOUS = 0.5
SURE = 0.99  # mean scores beyond it: the discriminator is never in doubt


def nonfinite_metric(row: Row) -> str:
    """Which figure of this row is no number; empty when all are."""
    for name in ("loss_d", "loss_g", "std_z_none", "std_z_tumor"):
        if not math.isfinite(float(row[name])):
            return f"{name} is {float(row[name])}"
    return ""


def checkpoint_rank(row: Row, *, loss: Loss = "logistic") -> tuple[bool, float]:
    """What the best checkpoint has least of: the mean Fréchet ratio; without one, the latest.

    One that collapsed comes after every one that did not, however small its ratio.
    """
    if not row:
        return True, math.inf
    ratios = [float(row["fd_ratio_none"]), float(row["fd_ratio_tumor"])]
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    ratio = sum(known) / len(known) if known else -float(row["step"])
    return bool(collapse(row, loss=loss)), ratio


def collapse(row: Row, *, loss: Loss = "logistic") -> str:
    """Why the generator of this row counts as collapsed; empty when it does not."""
    for name, slices in (("none", "slices without tumour"), ("tumor", "tumour slices")):
        spread, alike = float(row[f"std_z_{name}"]), float(row[f"ssim_{name}"])
        if spread < LEAST_STD_Z:
            return f"{slices} vary {spread:.2f} times as much as real ones (at least {LEAST_STD_Z})"
        if alike > MOST_SSIM:
            return f"{slices} are all alike: pairwise SSIM {alike:.2f} (at most {MOST_SSIM})"
    missing = float(row["mask_missing"])
    if missing > MOST_MISSING:
        return f"{missing:.0%} of the tumour slices have no mask (at most {MOST_MISSING:.0%})"
    spurious = float(row["mask_spurious"])
    if spurious > MOST_SPURIOUS:
        most = f"at most {MOST_SPURIOUS:.0%}"
        return f"{spurious:.0%} of the slices without tumour have a mask ({most})"
    real, fake = float(row["score_train"]), float(row["score_fake"])
    if loss != "wgan" and real > SURE and fake < 1 - SURE:  # a critic's scores have no scale
        return f"the discriminator is saturated: scores {real:.3f} for real, {fake:.3f} for drawn"
    return ""
