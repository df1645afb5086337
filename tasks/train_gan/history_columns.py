"""The columns of `history.csv`: the validation metrics and losses of a training."""

from collections.abc import Mapping

COLUMNS = {
    "step": "training steps done",
    "loss_d": "the discriminator's loss, mean since the row before",
    "loss_g": "the generator's adversarial loss, likewise",
    "r1": "the R1 penalty, likewise",
    "l1": "L1 to the label-wise mean, likewise",
    "feature_matching": "distance of mean features, likewise",
    "augment": "probability of each augmentation",
    "score_train": "mean discriminator score of training slices, in [0, 1]",
    "score_val": "the same of validation slices; far below score_train: learnt by heart",
    "score_fake": "the same of generated slices",
    "std_z_none": "standard deviation over z, mean over pixels, as a share of the real slices'",
    "std_z_tumor": "the same of tumour slices",
    "ssim_none": "mean SSIM of pairs of generated slices; near 1: they are all one",
    "ssim_tumor": "the same of tumour slices",
    "mask_area_none": "mean share of pixels in the mask, slices without tumour: should be 0",
    "mask_area_tumor": "the same of tumour slices",
    "mask_missing": "share of tumour slices whose mask is empty",
    "mask_spurious": "share of slices without tumour that have a mask",
    "fd_ratio_none": "Fréchet distance to validation slices over that of training slices",
    "fd_ratio_tumor": "the same of tumour slices",
    "event": "empty, or what happened: best, young or collapsed with the reason, ...",
}
IMAGE_COLUMNS = {  # where a second discriminator sees images without masks
    "loss_d_images": "its loss, mean since the row before",
    "loss_g_images": "the generator's adversarial loss against it, likewise",
    "r1_images": "its R1 penalty, likewise",
    "feature_matching_images": "distance of its mean features, likewise",
}


def history_columns(row: Mapping[str, object]) -> list[str]:
    """Return the columns of a history with such rows; the event is the last one."""
    more = [name for name in IMAGE_COLUMNS if name in row]
    return [*(name for name in COLUMNS if name != "event"), *more, "event"]
