"""Render montages of slices with mask outlines, for the report and the release."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from skimage.measure import find_contours

OUTLINE: Final = (230, 159, 0)  # Okabe and Ito's orange: seen apart from grey by every eye
TILE_PX = 144


def slice_montage(
    images: NDArray[np.floating],
    masks: NDArray[np.integer] | None,
    *,
    marks: Sequence[str],
    columns: int,
    tile_px: int = TILE_PX,
    gap: int = 4,
) -> Image.Image:
    """Arrange slices in a grid, rows first, each with its outline and its mark.

    Args:
        images: (N,H,W) in [-1, 1], rows anterior to posterior, columns patient right to left:
            the radiological convention, with the patient's right at the left of the image.
        masks: (N,H,W), above 0 inside; None: no outlines.
        marks: one text a tile for its lower corner, such as SYNTHETIC.
        columns: tiles in a row.
        tile_px: width and height of a tile in pixels.
        gap: between tiles in pixels.
    """
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    size = (columns * (tile_px + gap) - gap, rows * (tile_px + gap) - gap)
    canvas = Image.new("RGB", size, "white")
    for number, image in enumerate(images):
        mask = None if masks is None else masks[number]
        place = ((number % columns) * (tile_px + gap), (number // columns) * (tile_px + gap))
        canvas.paste(outlined_tile(image, mask, mark=marks[number], tile_px=tile_px), place)
    return canvas


def outlined_tile(
    image: NDArray[np.floating], mask: NDArray[np.integer] | None, *, mark: str, tile_px: int
) -> Image.Image:
    """Render one enlarged slice with mask outline, mark, and an R at the patient's right."""
    enlarged = Image.fromarray(to_grey(image)).resize((tile_px, tile_px), Image.Resampling.BICUBIC)
    enlarged = enlarged.convert("RGB")
    draw = ImageDraw.Draw(enlarged)
    if mask is not None:
        for outline in find_contours(np.pad(mask > 0, 1).astype(float), 0.5):
            # Undo the padding, go from pixel centres to image coordinates, (row, col) to (x, y).
            points = (outline - 0.5) * (tile_px / np.array(image.shape)) - 0.5
            draw.line([tuple(point) for point in points[:, ::-1]], fill=OUTLINE, width=2)
    font = ImageFont.load_default(max(10, tile_px // 13))
    for corner, text, anchor in (((4, tile_px - 3), mark, "ls"), ((4, 4), "R", "lt")):
        draw.text(
            corner, text, fill="white", font=font, anchor=anchor, stroke_width=2,
            stroke_fill="black",
        )  # fmt: skip
    return enlarged


def to_grey(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Convert (H,W) in [-1, 1] to 8 bits; NaN becomes black."""
    clean = np.nan_to_num(image.astype(np.float32), nan=-1.0, posinf=1.0, neginf=-1.0)
    scaled = np.rint((clean.clip(-1, 1) + 1) / 2 * 255).astype(np.uint8)
    return np.asarray(scaled)


def evenly_spaced(candidates: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Take at most `count` positions, evenly spaced in their order: none is picked by eye."""
    if len(candidates) <= count:
        return candidates
    return candidates[np.linspace(0, len(candidates) - 1, count).round().astype(np.intp)]
