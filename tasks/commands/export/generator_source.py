"""Find a generator: in `data/gan/FOLD` of a clone, or in an exported package."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from models.dcgan import Generator
from tasks import params
from tasks.commands.export.standalone_generator import (
    INFO_FILE,
    WEIGHTS_FILE,
    GeneratorInfo,
    load_packed_generator,
)
from tasks.common.cohort_counts import count_cohort
from tasks.common.generator_slices import WITHOUT_OUTLINES, teach_a_generator
from tasks.common.membership_table import membership_sentence
from tasks.params.generate import Generate
from tasks.params.release import Release
from tasks.schemas.metrics import GateMetrics, read_metrics
from tasks.stage.errors import InputError
from tasks.stage.stage_io import explain_read_errors

NOT_JUDGED = "not judged"
UNCOUNTED = "not shown: data/slices, which tells how many patients this is about, is not here"
REMEDY = "give --from data/gan/FOLD, or a folder that `auglift export` wrote"


def read_generator_info(folder: Path) -> tuple[GeneratorInfo, Path]:
    """Read the description of a generator, and return it with the path of its weights.

    Raises:
        InputError: when there is none, or not one of ours.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; {REMEDY}")
    if (folder / "config.json").exists():
        return read_trained_info(folder), folder / WEIGHTS_FILE
    packages = sorted(folder.rglob(INFO_FILE))
    if len(packages) == 1:
        return read_package_info(packages[0].parent), packages[0].with_name(WEIGHTS_FILE)
    if (folder / "release.json").exists() or (folder / "refusal.json").exists():
        raise InputError(
            f"{folder} is a release: it holds slices, never the generator that drew them; ask its"
            " makers for what `auglift export` writes"
        )
    raise InputError(f"{folder} holds {len(packages)} generators, expected one; {REMEDY}")


def read_trained_info(folder: Path) -> GeneratorInfo:
    """Describe the generator in `data/gan/FOLD` from the clone's config, params and gate.

    Raises:
        InputError: when it was trained elsewhere, or the clone lacks what belongs to it.
    """
    config = json.loads((folder / "config.json").read_text())
    if config.get("kind") != "dcgan":
        raise InputError(
            f"{folder} holds a generator of kind {config.get('kind')!r}, expected 'dcgan': only"
            " what this pipeline trained can draw on demand"
        )
    stats = folder.parents[1] / "slices/stats.json"
    if not stats.exists():
        raise InputError(f"{stats} is missing; run `dvc repro slices`, or {REMEDY}")
    slice_stats = json.loads(stats.read_text())
    generate, release = params.read_section(Generate), params.read_section(Release)
    weights_sha256 = sha256_of(folder / WEIGHTS_FILE)
    metrics = gate_metrics(folder, weights_sha256)
    membership = "not measured"
    if metrics is not None and metrics.membership:
        membership = describe_membership(folder, metrics, slice_stats)
    return GeneratorInfo(
        architecture=config["architecture"],
        modalities=slice_stats["modalities"],
        pixel_mm=float(slice_stats["pixel_mm"]),
        threads=generate.threads,
        min_island_px=generate.min_island_px,
        min_tumor_px=generate.min_tumor_px,
        attempts=generate.attempts,
        version=release.version,
        date=release.date.isoformat(),
        license_words=release.license,
        verdict=metrics.verdict if metrics is not None else NOT_JUDGED,
        weights_sha256=weights_sha256,
        skull_stripped=slice_stats.get("skull_stripped"),
        training_patients=count_training_patients(
            folder, without_outlines=WITHOUT_OUTLINES in config
        ),
        membership=membership,
    )


def describe_membership(folder: Path, metrics: GateMetrics, slice_stats: dict[str, Any]) -> str:
    """Say what the attacks on the generator in `data/gan/FOLD` found, as the data card may say it.

    Patients are counted in all folds at once, as the card does: a figure that it hides would tell a
    count that it hides.
    """
    data, fold = folder.parents[1], folder.name
    slices = read_slices_table(data / "slices/slices.parquet")
    if slices is None or f"partition_{fold}" not in slices:
        return UNCOUNTED
    gates = {
        path.parent.name: read_metrics(GateMetrics, path)
        for path in sorted((data / "gate").glob("*/metrics.json"))
        if f"partition_{path.parent.name}" in slices
    } | {fold: metrics}
    cohort = count_cohort(
        slices,
        gates,
        params.read_section(Release).smallest_cell,
        slice_stats.get("unused_patients", {}),
    )
    return membership_sentence(fold, gates, cohort)


def read_slices_table(path: Path) -> pd.DataFrame | None:
    """Read `slices.parquet`; None where it is not there."""
    if not path.exists():
        return None
    with explain_read_errors(path):
        return pd.read_parquet(path)


def count_training_patients(folder: Path, *, without_outlines: bool) -> int | None:
    """Count the patients that the generator in `data/gan/FOLD` learnt from; None: not known.

    What was synthetic at its source is no patient's.

    Args:
        folder: `data/gan/FOLD`.
        without_outlines: whether slices without outlines taught it too.
    """
    table = folder.parents[1] / "slices/slices.parquet"
    slices = read_slices_table(table)
    if slices is None:
        return None
    column = f"partition_{folder.name}"
    with explain_read_errors(table):
        if column not in slices:
            raise ValueError(f"no column {column}")
    slices = slices[slices[column] == "train"]
    learnt = teach_a_generator(slices, without_outlines=without_outlines)
    if "marked_synthetic" in slices:
        learnt &= ~slices["marked_synthetic"].to_numpy(dtype=bool)
    return int(slices.loc[learnt, "subject"].nunique())


def gate_metrics(folder: Path, weights_sha256: str) -> GateMetrics | None:
    """Return the gate's result on the generator in `data/gan/FOLD`, if it is on these weights."""
    path = folder.parents[1] / "gate" / folder.name / "metrics.json"
    if not path.exists():
        return None
    metrics = read_metrics(GateMetrics, path)
    return metrics if metrics.generator_sha256 == weights_sha256 else None


def read_package_info(folder: Path) -> GeneratorInfo:
    """Read the description of a generator in a package.

    Raises:
        InputError: when they cannot be read, or are those of other weights.
    """
    try:
        info = GeneratorInfo.load(folder)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / INFO_FILE} cannot be read ({error}); export it again"
        ) from None
    if info.weights_sha256 != sha256_of(folder / WEIGHTS_FILE):
        raise InputError(
            f"{folder / WEIGHTS_FILE} is not the file that {INFO_FILE} beside it describes and the"
            " gate's verdict is about; export the generator again"
        )
    return info


def sha256_of(weights: Path) -> str:
    """Hash a file of weights.

    Raises:
        InputError: when it is missing.
    """
    try:
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise InputError(f"{weights} is missing; {REMEDY}") from None


def build_checked_generator(info: GeneratorInfo, weights: Path) -> Generator:
    """Build the generator from its description and weights.

    Raises:
        InputError: when info and weights do not fit.
    """
    try:
        return load_packed_generator(info, weights)
    except (OSError, SafetensorError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{weights} cannot be read as this generator ({str(error).splitlines()[0]}); train or"
            " export it again"
        ) from None
