"""Choose the added slices of each arm, so that a new GAN does not retrain the real arms.

Reads `data/slices`, `data/synthetic` and `data/gate` of the listed folds, and the readers' scores
in `data/review.json` where `pool.filter` asks for them; writes `data/pool/ARM/` for every arm of
`downstream.arms`, empty where the arm adds no slices. All arms of a fold that add slices add
equally many: controls as many as the synthetic ones.
"""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import params
from tasks.common.arms import Arm
from tasks.common.reader_ratings import mean_scores, slice_sha256
from tasks.common.slice_set import (
    SliceSet,
    outline_known,
    read_slice_set,
    read_slices,
    write_slice_set,
)
from tasks.common.unreleasable import UNRELEASABLE
from tasks.params.downstream import read_arms
from tasks.params.pool import RATING, Pool, Score, SliceFilter
from tasks.pool.control_arms import CONTROLS, make_control_slices
from tasks.pool.unlabelled_arms import make_unlabelled_arm_slices
from tasks.schemas.review import REVIEW, read_review
from tasks.schemas.samples import GatedSamples, PoolSamples
from tasks.stage import stage_io
from tasks.stage.errors import InputError
from tasks.stage.stage_runtime import run_stage


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read_section(Pool)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    requested = {fold: requested_count(fold, config) for fold in folds}
    synthetic = {fold: choose_accepted_samples(fold, config, requested[fold]) for fold in folds}
    # A control adds as many as the synthetic arms; where these add none, as many as requested.
    control_counts = {fold: len(samples) or requested[fold] for fold, samples in synthetic.items()}
    all_outlined = {fold for fold in folds if outline_known(read_slices(fold, "train").table).all()}
    slices_of = {"synthetic": synthetic}
    with stage_io.atomic_output(Path("data/pool")) as folder:
        for arm in read_arms():
            (folder / arm.name).mkdir()
            for source in arm.sources:
                if source not in slices_of:
                    build = build_control_arm if source in CONTROLS else build_unlabelled_arm
                    slices_of[source] = build(source, control_counts, config)
            write_arm(
                folder / arm.name,
                {
                    fold: mix_sources([slices_of[source][fold] for source in arm.sources])
                    if arm.sources
                    else samples.select(np.empty(0, dtype=np.intp))
                    for fold, samples in synthetic.items()
                },
                requested if arm.sources == ("synthetic",) else control_counts,
                arm=arm,
                not_applicable=all_outlined if arm.needs_teacher else frozenset(),
            )
    for fold, samples in synthetic.items():
        remedy = ""
        if not requested[fold]:
            remedy = "; raise pool.ratio"
        elif len(samples) < requested[fold] and config.filter and config.filter.by_readers:
            remedy = "; only slices that readers rated are added: let them rate more"
        elif len(samples) < requested[fold]:
            remedy = (
                "; the gate accepted no more: raise generate.count"
                if read_gated_samples(fold)["accepted"].any()
                else "; the gate accepted none, and says why"
            )
        print(
            f"pool: fold {fold}: {len(samples)} synthetic slices of {requested[fold]} asked for"
            f" ({'ok' if len(samples) else 'too few'}){remedy}"
        )


def requested_count(fold: str, config: Pool) -> int:
    """Compute how many slices `pool.ratio` requests: a share of the labelled training slices."""
    return round(config.ratio * len(read_labelled_training_slices(fold)))


def read_labelled_training_slices(fold: str) -> SliceSet:
    """Read the labelled training slices of a fold."""
    train = read_slices(fold, "train")
    return train.select((train.table["label"] >= 0).to_numpy())


def choose_accepted_samples(fold: str, config: Pool, count: int) -> SliceSet:
    """Choose accepted synthetic slices of a fold, with the label shares of real training slices.

    None where they are fewer than `pool.min_images`, unless no more were requested.
    """
    synthetic = read_slice_set(Path("data/synthetic") / fold, "samples.parquet")
    gated = read_gated_samples(fold)
    labels = read_labelled_training_slices(fold).table["label"].to_numpy()
    accepted = gated.loc[gated["accepted"]]
    if config.filter and len(accepted):
        if config.filter.by_readers:
            accepted = add_ratings(accepted, fold, synthetic)
        accepted = keep_best_scored(accepted, config.filter)
    chosen = sample_rows(
        accepted,
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


def read_gated_samples(fold: str) -> pd.DataFrame:
    """Read the gate's decision on each synthetic slice of a fold."""
    path = Path("data/gate") / fold / "samples.parquet"
    with stage_io.explain_read_errors(path):
        return GatedSamples.validate(pd.read_parquet(path))


def build_control_arm(name: str, counts: dict[str, int], config: Pool) -> dict[str, SliceSet]:
    """Make the added slices of a control from each fold's labelled training slices.

    Args:
        name: of the control.
        counts: how many, by fold.
        config: the params; `seed` seeds the choice.
    """
    slices_by_fold = {}
    for fold, count in counts.items():
        train = read_labelled_training_slices(fold)
        ratio = count / max(1, len(train))
        control = make_control_slices(name, train, ratio=ratio, seed=config.seed)
        slices_by_fold[fold] = with_source_rows(control, fold)
    return slices_by_fold


def build_unlabelled_arm(name: str, counts: dict[str, int], config: Pool) -> dict[str, SliceSet]:
    """Make the added slices of an arm from each fold's training slices without outlines.

    None where they come from fewer than `pool.min_images` different slices, as with synthetic ones:
    to beat an arm of a few repeated slices would prove nothing.

    Args:
        name: of the source.
        counts: how many, by fold.
        config: the params; `seed` seeds the choice.
    """
    slices_by_fold = {}
    for fold, count in counts.items():
        train = read_slices(fold, "train")
        labelled = train.select((train.table["label"] >= 0).to_numpy())
        made = make_unlabelled_arm_slices(
            name, fold, train, labelled, count=count, seed=config.seed
        )
        different = made.table["row"].nunique()
        if outline_known(train.table).all():
            print(f"pool: fold {fold}: {name} adds none: every training slice is outlined")
        elif different < min(config.min_images, count) or len(made) < count:
            print(
                f"pool: fold {fold}: {name} adds none: {len(made)} slices of {count} could be made,"
                f" of {different} different scans' slices (at least {config.min_images}); the"
                " teacher is sure of too few (data/teacher), or pasted tumours fit into too few"
            )
            made = made.select(np.empty(0, dtype=np.intp))
        slices_by_fold[fold] = with_source_rows(made, fold)
    return slices_by_fold


def with_source_rows(slices: SliceSet, fold: str) -> SliceSet:
    """Replace the table of real slices by that of a pool: fold, label and row in `data/slices`."""
    table = pd.DataFrame(
        {
            "fold": pd.Series([fold] * len(slices), dtype="str"),
            "label": slices.table["label"],
            "source_row": slices.table["row"],
        }
    )
    return SliceSet(slices.images, slices.masks, table)


def keep_best_scored(accepted: pd.DataFrame, filter_by: SliceFilter) -> pd.DataFrame:
    """Keep the best share of each label by a score, rounded up; slices without it are left out.

    Raises:
        InputError: `data/gate` holds no such score.
    """
    if filter_by.score not in accepted:
        available = [name for name in get_args(Score) if name in accepted]
        raise InputError(
            f"pool.filter.score is {filter_by.score!r}, which data/gate does not hold; it holds"
            f" {', '.join(available) or 'no score'}: change it, or run gate again"
        )
    accepted = accepted.dropna(subset=filter_by.score)
    better_first = not filter_by.by_readers
    scores = accepted.groupby("label")[filter_by.score]
    rank = scores.rank(method="first", ascending=better_first)
    label_counts = accepted.groupby("label")["row"].transform("size")
    best: pd.DataFrame = accepted[rank <= np.ceil(filter_by.keep * label_counts)]
    return best


def add_ratings(accepted: pd.DataFrame, fold: str, synthetic: SliceSet) -> pd.DataFrame:
    """Add the readers' mean scores of each slice, as columns `rating_...`; NaN where unrated.

    Raises:
        InputError: when readers rated none of these slices.
    """
    study = read_review().folds.get(fold)
    means = mean_scores(study) if study is not None else pd.DataFrame()
    rows = accepted["row"].to_numpy()
    hashes = [slice_sha256(synthetic.images[row], synthetic.masks[row]) for row in rows]
    rated = means.reindex(hashes).add_prefix(RATING).set_index(accepted.index)
    if rated.empty or rated.isna().all(axis=None):
        raise InputError(
            f"pool.filter ranks by readers' scores, but {REVIEW} rates no accepted slice of fold"
            f" {fold}: run `auglift review --fold {fold}` and `auglift review export`, or change"
            " pool.filter.score"
        )
    return pd.concat([accepted, rated], axis=1)


def sample_rows(
    accepted: pd.DataFrame, *, tumor_share: float, count: int, seed: int
) -> NDArray[np.intp]:
    """Sample up to `count` rows without replacement in the given shares of the two labels.

    When one label runs short, the other is reduced too: the label prior of an arm must not differ
    from that of the arm it is compared with.
    """
    rng = np.random.default_rng(seed)
    shares = {1: tumor_share, 0: 1 - tumor_share}
    rows = {
        label: accepted.loc[accepted["label"] == label, "row"].to_numpy(copy=True)
        for label in shares
    }
    total = min([count, *(len(rows[v]) / share for v, share in shares.items() if share > 0)])
    sampled = [
        rng.permutation(rows[label])[: int(total * share + 1e-9)] for label, share in shares.items()
    ]
    return np.sort(np.concatenate(sampled)).astype(np.intp)


def mix_sources(sources: list[SliceSet]) -> SliceSet:
    """Take an equal share of each source's slices, label by label; none where one source has none.

    Each source has the number of slices that an arm may add, so the mixture has it too.
    """
    count = len(sources)
    if count == 1 or not all(len(slices) for slices in sources):
        smallest: SliceSet = min(sources, key=len)
        return smallest
    parts = []
    for number, slices in enumerate(sources):
        label = slices.table["label"].to_numpy()
        rows = [np.flatnonzero(label == value)[number::count] for value in (0, 1)]
        parts.append(slices.select(np.sort(np.concatenate(rows))))
    return parts[0].joined_with(*parts[1:])


def arm_status(samples: SliceSet, *, adds: bool, applicable: bool) -> str:
    """Return `none` where the arm adds no slices by design, `too few` where it cannot add any.

    `not applicable` where there is nothing that it could be made from: scans without outlines.
    """
    if not adds:
        return "none"
    if not applicable:
        return "not applicable"
    return "ok" if len(samples) else "too few"


def write_arm(
    folder: Path,
    added: dict[str, SliceSet],
    requested: dict[str, int],
    *,
    arm: Arm,
    not_applicable: Set[str],
) -> None:
    """Write one arm's slices of all folds, and the status of each fold.

    Args:
        folder: of the arm.
        added: its slices, by fold.
        requested: how many were asked for, by fold.
        arm: parsed.
        not_applicable: the folds that have nothing to make its slices from.
    """
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
            "status": arm_status(samples, adds=arm.added, applicable=fold not in not_applicable),
            "n": len(samples),
            "asked": requested[fold] if arm.added else 0,
        }
        for fold, samples in added.items()
    }
    if arm.added and arm.sources != ("synthetic",):
        (folder / UNRELEASABLE).write_text("slices of real patients are among these\n")
    (folder / "pool.json").write_text(json.dumps(status, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
