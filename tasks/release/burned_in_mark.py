"""Burn the word SYNTHETIC into a corner of synthetic images, where `release.burn_in_mark` asks it.

Letters are 5 x 7 pixels from a table here, not from a font of the machine, so that the same release
has the same bytes everywhere and the word is crisp at 64 pixels.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasks.stage.errors import InputError

WORD: Final = "SYNTHETIC"
GLYPHS: Final = {
    "S": ("#####", "#....", "#....", "#####", "....#", "....#", "#####"),
    "Y": ("#...#", "#...#", ".#.#.", "..#..", "..#..", "..#..", "..#.."),
    "N": ("#...#", "##..#", "##..#", "#.#.#", "#..##", "#..##", "#...#"),
    "T": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "..#.."),
    "H": ("#...#", "#...#", "#...#", "#####", "#...#", "#...#", "#...#"),
    "E": ("#####", "#....", "#....", "####.", "#....", "#....", "#####"),
    "I": ("#####", "..#..", "..#..", "..#..", "..#..", "..#..", "#####"),
    "C": ("#####", "#....", "#....", "#....", "#....", "#....", "#####"),
}
LINES: Final = ((WORD,), ("SYNTH", "ETIC"))  # the second where the first is too wide
SCALED_FROM_PX: Final = 128  # a letter's pixel is one image pixel up to twice this width
TALLEST: Final = 0.6  # of the image, for the two lines at 32 pixels


def burn_in_marks(images: NDArray[np.float32], masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a copy of the images with the word in white on black in one corner of each.

    The corner is the first of lower left, lower right, upper left and upper right where the word
    covers no tumour, else the lower left. All channels of a slice are marked alike.

    Args:
        images: (N,C,H,W) in [-1, 1].
        masks: (N,H,W), above 0 inside; they are not changed.

    Raises:
        InputError: the word does not fit.
    """
    H, W = images.shape[2:]
    stamp = word_pixels(H, W)
    marked = images.copy()
    for image, mask in zip(marked, masks, strict=True):
        rows, columns = choose_corner(mask, stamp.shape)
        image[:, rows, columns] = stamp
    return marked


def word_pixels(height: int, width: int) -> NDArray[np.float32]:
    """Draw the word with a border of a pixel: (h,w) of -1 and 1, for an image of that size.

    Raises:
        InputError: it does not fit.
    """
    scale = max(1, width // SCALED_FROM_PX)
    for lines in LINES:
        stamp = np.pad(np.vstack([draw_line(line, len(lines[0])) for line in lines]), (1, 0))
        stamp = np.kron(stamp, np.ones((scale, scale), bool))
        if stamp.shape[0] <= TALLEST * height and stamp.shape[1] <= width:
            return np.where(stamp, np.float32(1), np.float32(-1))
    raise InputError(
        f"params.yaml: release.burn_in_mark is on, and {WORD} does not fit into slices of"
        f" {width} pixels; switch it off, or raise slices.size"
    )


def draw_line(text: str, letters: int) -> NDArray[np.bool_]:
    """Draw a line of text, as wide as `letters` letters, with a gap to the right and below."""
    line = np.zeros((8, 6 * letters), bool)
    for place, letter in enumerate(text):
        glyph = [[pixel == "#" for pixel in row] for row in GLYPHS[letter]]
        line[:7, 6 * place : 6 * place + 5] = glyph
    return line


def choose_corner(mask: NDArray[np.uint8], size: tuple[int, ...]) -> tuple[slice, slice]:
    """Choose the rows and columns of the word in an image with this mask."""
    (height, width), (h, w) = mask.shape, size
    corners = [
        (rows, columns)
        for rows in (slice(height - h, height), slice(0, h))
        for columns in (slice(0, w), slice(width - w, width))
    ]
    return next((corner for corner in corners if not mask[corner].any()), corners[0])
