"""Choose the added slices of each arm; without it every new GAN would retrain the real arms.

Reads `data/slices`, `data/synthetic` and `data/gate` of the listed folds; writes
`data/pool/ARM/` for every arm of `downstream.arms`, empty where the arm adds nothing.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks import params, stage
from tasks.arms import Arm
from tasks.arrays import SliceSet, load_set, load_slices, save_set
from tasks.params.pool import Filter, Pool
from tasks.pool.controls import CONTROLS, control
from tasks.stage import StageError
from tasks.tables.samples import GatedSamples, PoolSamples


def main() -> None:
    """Run the stage from the repository's root."""
    config = params.read(Pool)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    arms: list[str] = params.read_key("downstream.arms")
    added = {fold: accepted_samples(fold, config) for fold in folds}
    with stage.output(Path("data/pool")) as folder:
        for arm in arms:
            spec = Arm.parse(arm)
            (folder / arm).mkdir()
            slices = added if spec.synthetic else none_of(added)
            if spec.source in CONTROLS:
                slices = {fold: control_samples(spec.source, fold, config) for fold in folds}
            write_arm(folder / arm, slices, adds=spec.added)
    for fold, samples in added.items():
        print(f"pool: fold {fold}: {len(samples)} synthetic slices ({status_of(samples, True)})")


def accepted_samples(fold: str, config: Pool) -> SliceSet:
    """The accepted synthetic slices of a fold, drawn with the labels' shares of real training."""
    synthetic = load_set(Path("data/synthetic") / fold, "samples.parquet")
    gated = GatedSamples.validate(pd.read_parquet(Path("data/gate") / fold / "samples.parquet"))
    labels = load_slices(fold, "train").table["label"].to_numpy()
    accepted = gated.loc[gated["accepted"]]
    chosen = draw(
        best(accepted, config.filter) if config.filter else accepted,
        tumor_share=float((labels == 1).sum() / max(1, (labels >= 0).sum())),
        count=round(config.ratio * len(labels)),
        seed=config.seed,
    )
    if len(chosen) < config.min_images:
        chosen = chosen[:0]
    table = pd.DataFrame(
        {
            "fold": pd.Series([fold] * len(chosen), dtype="str"),
            "label": gated["label"].to_numpy()[chosen],
            "source_row": chosen,
        }
    )
    return SliceSet(synthetic.images[chosen], synthetic.masks[chosen], table)


def control_samples(name: str, fold: str, config: Pool) -> SliceSet:
    """The added slices of a control, made from the fold's labelled training slices."""
    train = load_slices(fold, "train")
    train = train.take((train.table["label"] >= 0).to_numpy())
    made = control(name, train, ratio=config.ratio, seed=config.seed)
    table = pd.DataFrame(
        {
            "fold": pd.Series([fold] * len(made), dtype="str"),
            "label": made.table["label"],
            "source_row": made.table["row"],
        }
    )
    return SliceSet(made.images, made.masks, table)


def best(accepted: pd.DataFrame, asked: Filter) -> pd.DataFrame:
    """The best share of each label by one of the gate's scores, rounded up.

    Raises:
        StageError: when there is no such score.
    """
    scores = accepted.select_dtypes("number").columns.difference(["row", "seed", "label"])
    if asked.score not in scores:
        raise StageError(
            f"params.yaml: pool.filter.score is {asked.score!r}, which the gate does not give;"
            f" it gives {', '.join(scores)}"
        )
    rank = accepted.groupby("label")[asked.score].rank(
        method="first", ascending=asked.prefer == "lowest"
    )
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


def none_of(added: dict[str, SliceSet]) -> dict[str, SliceSet]:
    """The same folds with nothing in them."""
    return {fold: samples.take(np.empty(0, dtype=np.intp)) for fold, samples in added.items()}


def status_of(samples: SliceSet, adds: bool) -> str:
    """`none`: the arm adds nothing by design; `too few`: it should have, and cannot."""
    if not adds:
        return "none"
    return "ok" if len(samples) else "too few"


def write_arm(folder: Path, added: dict[str, SliceSet], *, adds: bool) -> None:
    """Write one arm's slices of all folds, and the status of each fold."""
    table = pd.concat([samples.table for samples in added.values()], ignore_index=True)
    table.insert(0, "row", np.arange(len(table)))
    PoolSamples.validate(table)
    save_set(
        folder,
        np.concatenate([samples.images for samples in added.values()]),
        np.concatenate([samples.masks for samples in added.values()]),
    )
    table.to_parquet(folder / "samples.parquet", index=False)
    status: dict[str, Any] = {
        fold: {"status": status_of(samples, adds), "n": len(samples)}
        for fold, samples in added.items()
    }
    (folder / "pool.json").write_text(json.dumps(status, indent=1) + "\n")


if __name__ == "__main__":
    stage.run(main)
