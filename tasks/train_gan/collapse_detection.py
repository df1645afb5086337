"""Detect divergence and collapse of a generator, and rank its checkpoints.

Losses cannot detect collapse: those of a fully collapsed generator can look healthy.
"""

import math

from models.losses import Loss
from tasks.train_gan.history_columns import IMAGE_COLUMNS

HistoryRow = dict[str, float | str]

# Shares of what real slices show. They separate runs that collapsed from runs that did not.
MIN_STD_Z = 0.25
MAX_SSIM = 0.9
MAX_MISSING = 0.5
MAX_SPURIOUS = 0.5
SATURATED_SCORE = 0.99  # mean scores beyond it: the discriminator is saturated


def nonfinite_metric(row: HistoryRow) -> str:
    """Return which metric of the row is NaN or infinite; empty when all are finite."""
    for name in ("loss_d", "loss_g", "std_z_none", "std_z_tumor", *IMAGE_COLUMNS):
        if not math.isfinite(float(row.get(name, 0.0))):
            return f"{name} is {float(row[name])}"
    return ""


def checkpoint_rank(row: HistoryRow, *, loss: Loss = "logistic") -> tuple[bool, float]:
    """Return the sort key of a checkpoint: whether it collapsed, then its mean Fréchet ratio.

    The checkpoint with the smallest key is the best, so a collapsed one is worse than every other
    one. Without a measured ratio the key is minus the step, and the latest checkpoint is the best.
    """
    if not row:
        return True, math.inf
    ratios = [float(row["fd_ratio_none"]), float(row["fd_ratio_tumor"])]
    finite = [ratio for ratio in ratios if math.isfinite(ratio)]
    ratio = sum(finite) / len(finite) if finite else -float(row["step"])
    return bool(collapse_reason(row, loss=loss)), ratio


def collapse_reason(row: HistoryRow, *, loss: Loss = "logistic") -> str:
    """Return why the generator of this row counts as collapsed; empty when it does not."""
    for name, slices in (("none", "slices without tumour"), ("tumor", "tumour slices")):
        std_z, ssim = float(row[f"std_z_{name}"]), float(row[f"ssim_{name}"])
        if std_z < MIN_STD_Z:
            return f"{slices} vary {std_z:.2f} times as much as real ones (at least {MIN_STD_Z})"
        if ssim > MAX_SSIM:
            return f"{slices} are all alike: pairwise SSIM {ssim:.2f} (at most {MAX_SSIM})"
    missing = float(row["mask_missing"])
    if missing > MAX_MISSING:
        return f"{missing:.0%} of the tumour slices have no mask (at most {MAX_MISSING:.0%})"
    spurious = float(row["mask_spurious"])
    if spurious > MAX_SPURIOUS:
        most = f"at most {MAX_SPURIOUS:.0%}"
        return f"{spurious:.0%} of the slices without tumour have a mask ({most})"
    real_score, fake_score = float(row["score_train"]), float(row["score_fake"])
    saturated = real_score > SATURATED_SCORE and fake_score < 1 - SATURATED_SCORE
    if saturated and loss != "wgan":  # a critic's scores have no scale
        scores = f"{real_score:.3f} for real, {fake_score:.3f} for drawn"
        return f"the discriminator is saturated: scores {scores}"
    return ""
