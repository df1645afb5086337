"""Read the grey values of a PNG, JPEG or TIFF as viewers show them: inks, palettes, EXIF turns."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tasks.common.synthetic_marks import is_marked_png
from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.params.ingest import Ingest

FORMATS = ("PNG", "JPEG", "TIFF")
ORIENTATION_TAG, UPRIGHT, EXIF_TURNS = 0x0112, 1, range(2, 9)
PHOTOMETRIC_TAG, WHITE_IS_ZERO = 262, 0


class GreyImage(NamedTuple):
    """Grey values (rows, columns) as viewers show them, the EXIF orientation, and a mark."""

    values: NDArray[np.generic]
    turn: int
    synthetic: bool  # whether a text in the file marks it as synthetic


def read_grey_image(
    source: Source, settings: Ingest, *, mask: bool, channel: int | None = None
) -> GreyImage:
    """Read one grey image as viewers show it.

    Of a coloured image the given channel is read, else that of `ingest.pictures`; of a coloured
    mask the highest channel where the mask is not transparent.

    Raises:
        RejectionError: the image is marked as synthetic, cannot be decoded, is too large, has
            several pages or colours, or leaves open which end of its greys is white.
    """
    try:
        # by file, not by name: Pillow 13 swaps the sides of a plain TIFF that it maps and turns
        with source.path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise RejectionError("several-volumes", "more than one page in the file")
            if image.width * image.height > settings.max_voxels:
                raise RejectionError(
                    "too-large", f"more than {settings.max_voxels} pixels declared"
                )
            synthetic = is_marked_png(image.info)
            if synthetic and not settings.allow_synthetic:
                raise RejectionError("synthetic", "marked by a text in the file")
            turn = int(image.getexif().get(ORIENTATION_TAG, UPRIGHT))
            check_greys(image)
            image.load()  # which turns a TIFF by itself
            upright = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
            values = to_array(upright, mask=mask)
    except RejectionError:
        raise
    except Image.DecompressionBombError:
        raise RejectionError("too-large", "the picture declares too many pixels") from None
    except Exception as error:
        raise RejectionError(
            "corrupt", f"not a readable picture: {one_line_error(error)}"
        ) from None
    turn = turn if turn in EXIF_TURNS else UPRIGHT
    if values.ndim == 2:
        return GreyImage(values, turn, synthetic)
    colours = values[..., :3] if values.shape[-1] in (3, 4) else values[..., :1]
    if mask and values.shape[-1] in (2, 4):
        colours = colours * (values[..., -1:] != 0)
    channel = settings.pictures.channel if channel is None else channel
    if mask or (colours == colours[..., :1]).all():
        return GreyImage(np.asarray(colours.max(axis=-1)), turn, synthetic)
    if channel is None:
        raise RejectionError("not-greyscale", "channels differ; choose ingest.pictures.channel")
    return GreyImage(np.asarray(colours[..., channel]), turn, synthetic)


def check_greys(image: Image.Image) -> None:
    """Reject greys of which the white end is not certain.

    Raises:
        RejectionError: `not-greyscale` or `inverted-greyscale`.
    """
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        raise RejectionError(
            "not-greyscale", "CMYK without Adobe's marker may or may not be inverted"
        )
    tags = getattr(image, "tag_v2", {})
    if tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO and image.mode[0] in "IF":
        raise RejectionError("inverted-greyscale", "a TIFF of more than 8 bits whose zero is white")


def to_array(image: Image.Image, *, mask: bool) -> NDArray[np.generic]:
    """Return the image's values; inks and palettes become the colours that they stand for."""
    if image.mode in ("P", "PA"):
        has_transparency = mask and (image.mode == "PA" or "transparency" in image.info)
        return np.asarray(image.convert("RGBA" if has_transparency else "RGB"))
    return np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)
