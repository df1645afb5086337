"""Pictures as viewers show them: inks, palettes, EXIF turns; and masks that lie on them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.tasks.ingest_fixtures import IngestWorkspace
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
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw/b").mkdir(parents=True)
    return IngestWorkspace(tmp_path)


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


def lies_right(workspace: IngestWorkspace, manifest: object) -> bool:
    """Whether the mask is the ball, mirrored as pictures are."""
    data, _ = workspace.load(manifest["mask"][0])  # type: ignore[index]
    return bool((np.asarray(data)[::-1, ::-1] == DRAWN // 255).all())


@pytest.mark.parametrize(
    "ending", ["cmyk.jpg", "palette.png", "grey16.png", "alpha.png", "one.tif"]
)
def test_grey_values_equal_those_that_viewers_show(workspace: IngestWorkspace, ending: str) -> None:
    shown = picture(2)
    path = workspace.raw / f"P1_1.{ending.split('.')[1]}"
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
    manifest = workspace.ingest(pictures=NUMBERED)
    data, _ = workspace.load(manifest.image[0])
    greys = np.asarray(data, float)[::-1, ::-1, 0] / (257 if "16" in ending else 1)
    assert np.abs(greys - GREYS[:, :, 2]).max() <= (12 if "palette" in ending else 2)


def test_inks_that_are_not_grey_are_rejected(workspace: IngestWorkspace) -> None:
    Image.merge("CMYK", [picture(k) for k in range(4)]).save(workspace.raw / "P1_1.jpg")
    picture(0).save(workspace.raw / "P2_1.png")
    assert len(workspace.ingest(pictures=NUMBERED)) == 1
    assert workspace.codes() == ["not-greyscale"]


def test_a_tiff_of_16_bits_whose_zero_is_white_is_rejected(workspace: IngestWorkspace) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    wide = Image.fromarray(np.asarray(picture(0)).astype(np.uint16) * 200)
    wide.save(workspace.raw / "P1_1.tif", tiffinfo=tags)
    picture(0).save(workspace.raw / "P2_1.png")
    assert len(workspace.ingest(pictures=NUMBERED)) == 1
    assert workspace.codes() == ["inverted-greyscale"]


@pytest.mark.parametrize(("image_ending", "mask_ending"), [("jpg", "png"), ("tif", "tif")])
@pytest.mark.parametrize("tags", [(6, 6), (6, 1), (1, 6)])
def test_images_and_masks_with_an_exif_turn_lie_on_each_other(
    workspace: IngestWorkspace, tags: tuple[int, int], image_ending: str, mask_ending: str
) -> None:
    for k in range(SHAPE[2]):
        save_turned(picture(k), workspace.raw / f"P1_{k}.{image_ending}", tags[0])
        save_turned(mask(k), workspace.raw / f"P1_{k}_mask.{mask_ending}", tags[1])
    manifest = workspace.ingest(pictures=NUMBERED)
    assert workspace.codes() == []
    assert lies_right(workspace, manifest)


def test_a_mask_drawn_on_the_stored_pixels_of_an_image_with_an_exif_turn_is_rejected(
    workspace: IngestWorkspace,
) -> None:
    """Its program ignored the tag that the picture's viewer follows."""
    for k in range(SHAPE[2]):
        square = Image.new("L", (80, 80))
        drawn = square.copy()
        square.paste(picture(k))
        drawn.paste(mask(k))
        save_turned(square, workspace.raw / f"P1_{k}.jpg")
        drawn.transpose(Image.Transpose.ROTATE_90).save(workspace.raw / f"P1_{k}_mask.png")
    assert list(workspace.ingest(pictures=NUMBERED).mask_status) == ["missing"]
    assert workspace.codes() in (["mask-grid"], ["mask-in-air"])


def test_transparent_pixels_of_a_mask_are_not_tumour(workspace: IngestWorkspace) -> None:
    for k in range(SHAPE[2]):
        picture(k).save(workspace.raw / f"P1_{k}.png")
        white = Image.new("L", (64, 80), 255)
        Image.merge("LA", [white, mask(k)]).save(workspace.raw / f"P1_{k}_mask.png")
    assert lies_right(workspace, workspace.ingest(pictures=NUMBERED))
