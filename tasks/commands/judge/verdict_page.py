"""Render `report.html`: the verdict first, then the figures, then the most suspicious pairs."""

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray
from PIL import Image

from tasks.common.slice_set import SliceSet
from tasks.gate.verdict import FAULT_WORDS, GateResult

PAIRS = 8

TEMPLATE = Path(__file__).with_name("page.html.j2")


def render_page(
    result: GateResult,
    synthetic: SliceSet,
    train: SliceSet,
    notes: list[str],
    assumed: dict[str, dict[str, str]],
) -> str:
    """Render one self-contained HTML page."""
    suspicious = result.samples.sort_values("suspicion", kind="stable").head(PAIRS)
    places = {row: place for place, row in enumerate(train.table["row"])}
    pairs = [
        {
            "row": place,
            "nearest": nearest,
            "by": by,
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
    faults = list(result.samples["reason"].dropna().value_counts().items())
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text())
    return template.render(
        result=result,
        notes=notes,
        pairs=pairs,
        faults=faults,
        fault_words=FAULT_WORDS,
        format_figure=format_figure,
        format_limit=format_limit,
        assumed=assumed,
    )


def format_figure(value: float | None) -> str:
    """Format a figure with three digits, or a dash when it was not measured."""
    return "–" if value is None else f"{value:.3g}"  # noqa: RUF001


def format_limit(limit: tuple[float | None, float | None]) -> str:
    """Format a limit in words."""
    low, high = limit
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def encode_pair(left: NDArray[np.float32], right: NDArray[np.float32]) -> str:
    """Encode two slices (C,H,W) side by side as a PNG in base64."""
    both = np.hstack([left.mean(axis=0), right.mean(axis=0)])
    grey = Image.fromarray(((both + 1) * 127.5).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
