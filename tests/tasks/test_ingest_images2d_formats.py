"""Pictures as viewers show them: inks, palettes, EXIF turns; and masks that lie on them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.tasks.ingest_fixtures import Room
from tests.tasks.synthetic_heads import affine_of, ball, head

SPACING = (2.0, 2.0, 5.0)
SHAPE = (64, 80, 4)
AFFINE = affine_of("LPS", SPACING)
AFFINE[:3, 3] = -AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
GREYS = (head(SHAPE, AFFINE) / 4).clip(0, 255).astype(np.uint8)
DRAWN = ball(SHAPE, AFFINE) * np.uint8(255)
NUMBERED = {"pattern": r"(?P<patient>P\d+)_(?P<slice>\d+)$", "spacing_mm": SPACING}
TURNED = 6  # EXIF: rotate by 90 degrees clockwise to show


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw/b").mkdir(parents=True)
    return Room(tmp_path)


def picture(number: int) -> Image.Image:
    return Image.fromarray(GREYS[:, :, number].T)


def mask(number: int) -> Image.Image:
    return Image.fromarray(DRAWN[:, :, number].T)


def save_turned(image: Image.Image, path: Path, tag: int = TURNED, **how: object) -> None:
    """Store an image turned, with the tag that turns it back."""
    exif = Image.Exif()
    exif[0x0112] = tag
    stored = {1: image, 6: image.transpose(Image.Transpose.ROTATE_90)}[tag]
    stored.save(path, exif=exif, **how)


def lies_right(room: Room, manifest: object) -> bool:
    """Whether the mask is the ball, mirrored as pictures are."""
    data, _ = room.load(manifest["mask"][0])  # type: ignore[index]
    return bool((np.asarray(data)[::-1, ::-1] == DRAWN // 255).all())


@pytest.mark.parametrize(
    "ending", ["cmyk.jpg", "palette.png", "grey16.png", "alpha.png", "one.tif"]
)
def test_greys_are_those_that_viewers_show(room: Room, ending: str) -> None:
    shown = picture(2)
    path = room.raw / f"P1_1.{ending.split('.')[1]}"
    if ending.startswith("cmyk"):
        shown.convert("RGB").convert("CMYK").save(path, quality=100)
    elif ending.startswith("palette"):
        shown.convert("RGB").quantize(256).save(path)
    elif ending.startswith("grey16"):
        Image.fromarray(np.asarray(shown).astype(np.uint16) * 257).save(path)
    elif ending.startswith("alpha"):
        shown.convert("LA").save(path)
    else:
        shown.save(path)
    manifest = room.ingest(pictures=NUMBERED)
    data, _ = room.load(manifest.image[0])
    greys = np.asarray(data, float)[::-1, ::-1, 0] / (257 if "16" in ending else 1)
    assert np.abs(greys - GREYS[:, :, 2]).max() <= (12 if "palette" in ending else 2)


def test_inks_that_are_no_greys_are_refused(room: Room) -> None:
    Image.merge("CMYK", [picture(k) for k in range(4)]).save(room.raw / "P1_1.jpg")
    picture(0).save(room.raw / "P2_1.png")
    assert len(room.ingest(pictures=NUMBERED)) == 1
    assert room.codes() == ["not-greyscale"]


def test_a_tiff_of_16_bits_whose_zero_is_white_is_refused(room: Room) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    wide = Image.fromarray(np.asarray(picture(0)).astype(np.uint16) * 200)
    wide.save(room.raw / "P1_1.tif", tiffinfo=tags)
    picture(0).save(room.raw / "P2_1.png")
    assert len(room.ingest(pictures=NUMBERED)) == 1
    assert room.codes() == ["inverted-greyscale"]


@pytest.mark.parametrize(("image_ending", "mask_ending"), [("jpg", "png"), ("tif", "tif")])
@pytest.mark.parametrize("tags", [(6, 6), (6, 1), (1, 6)])
def test_turned_pictures_and_masks_lie_on_each_other(
    room: Room, tags: tuple[int, int], image_ending: str, mask_ending: str
) -> None:
    for k in range(SHAPE[2]):
        save_turned(picture(k), room.raw / f"P1_{k}.{image_ending}", tags[0])
        save_turned(mask(k), room.raw / f"P1_{k}_mask.{mask_ending}", tags[1])
    manifest = room.ingest(pictures=NUMBERED)
    assert room.codes() == []
    assert lies_right(room, manifest)


def test_a_mask_drawn_on_the_stored_pixels_of_a_turned_picture_is_refused(room: Room) -> None:
    """Its program ignored the tag that the picture's viewer follows."""
    for k in range(SHAPE[2]):
        square = Image.new("L", (80, 80))
        drawn = square.copy()
        square.paste(picture(k))
        drawn.paste(mask(k))
        save_turned(square, room.raw / f"P1_{k}.jpg")
        drawn.transpose(Image.Transpose.ROTATE_90).save(room.raw / f"P1_{k}_mask.png")
    assert list(room.ingest(pictures=NUMBERED).mask_status) == ["missing"]
    assert room.codes() in (["mask-grid"], ["mask-in-air"])


def test_what_a_mask_leaves_transparent_was_not_drawn(room: Room) -> None:
    for k in range(SHAPE[2]):
        picture(k).save(room.raw / f"P1_{k}.png")
        white = Image.new("L", (64, 80), 255)
        Image.merge("LA", [white, mask(k)]).save(room.raw / f"P1_{k}_mask.png")
    assert lies_right(room, room.ingest(pictures=NUMBERED))
