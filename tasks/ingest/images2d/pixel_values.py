"""The greys of one PNG, JPEG or TIFF, as viewers show them: inks, palettes, EXIF turns."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tasks.ingest.core.error_messages import one_line_error
from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.params.ingest import Ingest

FORMATS = ("PNG", "JPEG", "TIFF")
ORIENTATION_TAG, UPRIGHT, EXIF_TURNS = 0x0112, 1, range(2, 9)
PHOTOMETRIC_TAG, WHITE_IS_ZERO = 262, 0


def read_plane(
    source: Source, settings: Ingest, *, mask: bool, channel: int | None = None
) -> tuple[NDArray[np.generic], int]:
    """(rows, columns) of one grey picture as viewers show it, and its EXIF orientation.

    Of a coloured picture the channel given, or that in `ingest.pictures`; of a coloured mask the
    highest channel where it is not transparent.
    """
    try:
        # by file, not by name: Pillow 13 mistakes the sides of a plain TIFF that it maps and turns
        with source.path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise RejectionError("several-volumes", "more than one page in the file")
            if picture.width * picture.height > settings.max_voxels:
                raise RejectionError(
                    "too-large", f"more than {settings.max_voxels} pixels declared"
                )
            turn = int(picture.getexif().get(ORIENTATION_TAG, UPRIGHT))
            check_greys(picture)
            picture.load()  # which turns a TIFF by itself
            upright = picture if picture.format == "TIFF" else ImageOps.exif_transpose(picture)
            values = as_values(upright, mask=mask)
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
        return values, turn
    colours = values[..., :3] if values.shape[-1] in (3, 4) else values[..., :1]
    if mask and values.shape[-1] in (2, 4):
        colours = colours * (values[..., -1:] != 0)
    channel = settings.pictures.channel if channel is None else channel
    if mask or (colours == colours[..., :1]).all():
        return np.asarray(colours.max(axis=-1)), turn
    if channel is None:
        raise RejectionError("not-greyscale", "channels differ; choose ingest.pictures.channel")
    return np.asarray(colours[..., channel]), turn


def check_greys(picture: Image.Image) -> None:
    """Refuse greys of which it is not sure which end is white."""
    if picture.mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        raise RejectionError(
            "not-greyscale", "CMYK without Adobe's marker may or may not be inverted"
        )
    tags = getattr(picture, "tag_v2", {})
    if tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO and picture.mode[0] in "IF":
        raise RejectionError("inverted-greyscale", "a TIFF of more than 8 bits whose zero is white")


def as_values(picture: Image.Image, *, mask: bool) -> NDArray[np.generic]:
    """The picture's values; inks and palettes as the colours that they stand for."""
    if picture.mode in ("P", "PA"):
        see_through = mask and (picture.mode == "PA" or "transparency" in picture.info)
        return np.asarray(picture.convert("RGBA" if see_through else "RGB"))
    return np.asarray(picture.convert("RGB") if picture.mode == "CMYK" else picture)
