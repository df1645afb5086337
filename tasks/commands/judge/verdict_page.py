"""Render `report.html`: the verdict first, then the figures, then the most suspicious pairs."""

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.common.slice_set import SliceSet
from tasks.gate.verdict import GateResult
from tasks.generate.slice_table import FILE_COLUMN
from tasks.report import measure_table, subgroup_tables, wording
from tasks.schemas.metrics import GateMetrics

PAIRS = 8

# The page looks like the report, and shares its style and its table of measures.
TEMPLATES = (Path(__file__).parent, Path(wording.__file__).parent / "templates")


def render_page(
    result: GateResult,
    synthetic: SliceSet,
    train: SliceSet,
    notes: list[str],
    assumed: dict[str, dict[str, str]],
) -> str:
    """Render one self-contained HTML page."""
    metrics = GateMetrics.model_validate(result.as_json())
    suspicious = result.samples.sort_values("suspicion", kind="stable").head(PAIRS)
    places = {row: place for place, row in enumerate(train.table["row"])}
    files = synthetic.table.get(FILE_COLUMN)
    pairs = [
        {
            "name": f"image {place}" if files is None else str(files.iloc[int(place)]),
            "nearest": nearest,
            "by": wording.DETECTORS.get(by, by),
            "ratio": f"{ratio:.3f}",
            "rejected": reason == "memorised",
            "image": encode_pair(synthetic.images[int(place)], train.images[places[nearest]]),
        }
        for place, nearest, by, ratio, reason in zip(
            suspicious.index,
            suspicious["suspect_row"],
            suspicious["suspect_by"],
            suspicious["suspect_ratio"],
            suspicious["reason"],
            strict=True,
        )
    ]
    faults = [
        (wording.REJECTION_REASONS.get(str(fault), str(fault)), count)
        for fault, count in result.samples["reason"].dropna().value_counts().items()
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        metrics=metrics,
        uncertain=[wording.measure_entry(name).name for name in metrics.uncertain],
        rows=measure_table.measure_rows(metrics.measures),
        missing=[
            (wording.measure_entry(name).name, why) for name, why in metrics.not_measured.items()
        ],
        parts=subgroup_tables.gate_subgroups(metrics.subgroups, smallest_cell=1),
        notes=notes,
        pairs=pairs,
        faults=faults,
        assumed=assumed,
    )


def encode_pair(left: NDArray[np.float32], right: NDArray[np.float32]) -> str:
    """Encode two slices (C,H,W) side by side as a PNG in base64."""
    both = np.hstack([left.mean(axis=0), right.mean(axis=0)])
    grey = Image.fromarray(((both + 1) * 127.5).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
