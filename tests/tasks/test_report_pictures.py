"""The pictures and charts of the report: where things lie, and in which colour."""

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tasks.common.arms import ADDED_SOURCES
from tasks.common.slice_montage import OUTLINE, evenly_spaced, slice_montage, to_grey
from tasks.report import charts
from tasks.schemas.lift import ArmFigure


def test_the_outline_lies_on_the_masks_border() -> None:
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[0, 4:12, 6:10] = 1
    image = np.full((1, 16, 16), -1.0, np.float32)
    pixels = np.asarray(slice_montage(image, mask, marks=[""], columns=1, tile_px=160))
    rows, columns = np.nonzero((np.abs(pixels.astype(int) - OUTLINE) < 3).all(axis=-1))
    assert abs(rows.min() - 40) <= 2
    assert abs(rows.max() - 120) <= 2
    assert abs(columns.min() - 60) <= 2
    assert abs(columns.max() - 100) <= 2


def test_the_picture_shows_the_patients_right_at_the_left() -> None:
    image = np.full((1, 16, 16), -1.0, np.float32)
    image[0, :, :4] = 1.0  # low columns: patient right
    pixels = np.asarray(slice_montage(image, None, marks=[""], columns=1, tile_px=160).convert("L"))
    assert pixels[80, :20].mean() > 200
    assert pixels[80, -20:].mean() < 10


def test_grey_maps_the_ends_and_blackens_what_is_no_number() -> None:
    values = np.array([[-1.0, 1.0, np.nan, np.inf]])
    assert to_grey(values).tolist() == [[0, 255, 0, 255]]


def test_a_spread_keeps_both_ends_and_repeats_nothing() -> None:
    chosen = evenly_spaced(np.arange(100), 12)
    assert chosen[0] == 0
    assert chosen[-1] == 99
    assert len(set(chosen)) == 12


@pytest.mark.parametrize(
    ("low", "high", "larger", "colour"),
    [
        (0.1, 0.2, True, charts.BLUE),
        (-0.2, -0.1, True, charts.VERMILLION),
        (-0.2, -0.1, False, charts.BLUE),
        (-0.1, 0.1, True, charts.GREY),
    ],
)
def test_colour_follows_what_is_better(low: float, high: float, larger: bool, colour: str) -> None:
    assert charts.lift_colour(low, high, larger)[0] == colour


def test_a_chart_is_svg_without_clock_or_version() -> None:
    arms = {"real": ArmFigure(mean=0.7), "synthetic": ArmFigure(status="too few")}
    uri = charts.forest_plot("dice", charts.differences_to_real(arms), larger_is_better=True)
    drawn = base64.b64decode(uri.split(",", 1)[1]).decode()
    assert uri == charts.forest_plot(
        "dice", charts.differences_to_real(arms), larger_is_better=True
    )
    assert "<svg" in drawn
    assert "dc:date" not in drawn


def test_the_longest_names_of_arms_leave_room_for_the_plot() -> None:
    sources = [*ADDED_SOURCES, "pseudo-label+implant"]
    names = ["real", *(f"real+paper-augmented+{source}" for source in sources)]
    arms = {name: ArmFigure(mean=0.7, lift_over_real=0.1) for name in names}
    uri = charts.forest_plot("dice", charts.differences_to_real(arms), larger_is_better=True)
    svg = ElementTree.fromstring(base64.b64decode(uri.split(",", 1)[1]))
    width = float(svg.attrib["viewBox"].split()[2])
    axis = next(part for part in svg.iter() if part.attrib.get("id") == "patch_2")
    path = next(part for part in axis.iter() if part.tag.endswith("path")).attrib["d"]
    left, right = (sorted(map(float, re.findall(r"[\d.]+", path)[::2]))[k] for k in (0, -1))
    assert right - left > width / 4
