import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.common.slice_set import SliceSet, read_slice_set
from tasks.generate import __main__ as generate
from tasks.generate.external_images import read_image_folder
from tasks.generate.mask_cleanup import clean_air, clean_mask, mask_matches_label
from tasks.stage.errors import InputError
from tasks.train_gan import __main__ as train_gan
from tests.tasks.train_gan_fixtures import SIZE, fake_generator, write_params, write_workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(workspace: Path, **keys: object) -> SliceSet:
    """What the stage writes with these `generate` params."""
    write_params(workspace, **({"min_tumor_px": 1} | keys))
    generate.main("0")
    return read_slice_set(workspace / "data/synthetic/0", "samples.parquet")


def test_a_slice_is_the_same_whatever_the_count(workspace: Path) -> None:
    fake_generator(workspace)
    few, many = drawn(workspace, count=10), drawn(workspace, count=130)
    assert len(few) and few.table["seed"].isin(many.table["seed"]).all()
    for row, seed in enumerate(few.table["seed"]):
        twin = int(np.flatnonzero(many.table["seed"] == seed)[0])
        assert np.array_equal(few.images[row], many.images[twin])
        assert np.array_equal(few.masks[row], many.masks[twin])


def test_another_seed_gives_other_slices(workspace: Path) -> None:
    fake_generator(workspace)
    assert not set(drawn(workspace).table["seed"]) & set(drawn(workspace, seed=6).table["seed"])


def test_masks_agree_with_labels_and_redraws_are_recorded(workspace: Path) -> None:
    fake_generator(workspace)
    generated = drawn(workspace)
    assert np.array_equal(generated.masks.any((1, 2)), generated.table["label"] == 1)
    summary = json.loads((workspace / "data/synthetic/0/summary.json").read_text())
    assert summary["redraws"] == generated.table["redraws"].sum()
    assert sum(summary["written"].values()) == len(generated)
    weights = (workspace / "data/gan/0/generator.safetensors").read_bytes()
    assert summary["generator_sha256"] == hashlib.sha256(weights).hexdigest()


def test_a_generator_without_masks_leaves_its_tumour_slices_out(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_generator(workspace)
    generated = drawn(workspace, min_tumor_px=SIZE * SIZE + 1, count=20, attempts=2)
    assert not (generated.table["label"] == 1).any()
    assert "never agreed" in capsys.readouterr().err


def test_labels_without_masks_train_a_generator_whose_masks_say_nothing(workspace: Path) -> None:
    write_workspace(workspace)
    masks = workspace / "data/slices/masks.npy"
    np.save(masks, np.zeros_like(np.load(masks)))
    train_gan.main("0")
    generate.main("0")
    generated = read_slice_set(workspace / "data/synthetic/0", "samples.parquet")
    assert set(generated.table["label"]) == {0, 1}
    assert not generated.table["masked"].any()
    assert not generated.masks.any()
    history = pd.read_csv(workspace / "data/gan/0/history.csv")
    assert history["mask_missing"].isna().all()
    assert not history["event"].fillna("").str.contains("no mask").any()


def test_a_missing_generator_is_reported_with_its_remedy(workspace: Path) -> None:
    with pytest.raises(InputError, match=r"dvc repro train_gan@0"):
        drawn(workspace)


def test_a_damaged_generator_is_reported(workspace: Path) -> None:
    fake_generator(workspace)
    (workspace / "data/gan/0/generator.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="cannot be read as a generator"):
        drawn(workspace)


def test_small_islands_and_masks_in_the_air_are_removed() -> None:
    image = np.full((1, 32, 32), -1.0, np.float32)
    image[:, 6:26, 6:26] = 0.0
    soft = np.full((32, 32), -1.0, np.float32)
    soft[10:15, 10:15] = 0.6  # a tumour
    soft[20, 20] = 0.9  # a stray pixel
    soft[0:4, 0:4] = 0.9  # in the air
    expected = np.zeros((32, 32), np.uint8)
    expected[10:15, 10:15] = 1
    assert np.array_equal(clean_mask(soft, image, min_island_px=3), expected)


def test_dark_fluid_inside_the_head_is_no_air() -> None:
    image = np.full((1, 32, 32), -1.0, np.float32)
    image[:, 6:26, 6:26] = 0.0
    image[:, 14:18, 14:18] = -1.0
    assert clean_mask(np.ones((32, 32), np.float32), image, min_island_px=3).sum() == 20 * 20


def test_what_is_nearly_air_becomes_air_but_no_visible_spot_and_nothing_in_the_head() -> None:
    image = np.full((1, 32, 32), -0.93, np.float32)  # as dark as a tanh can be
    image[:, 6:26, 6:26] = 0.0
    image[:, 14:18, 14:18] = -0.95  # fluid
    image[:, 2, 2] = -0.5  # a spot that anybody sees
    cleaned = clean_air(image)
    changed = cleaned != image
    assert not changed[:, 6:26, 6:26].any() and cleaned[0, 2, 2] == -0.5
    assert (cleaned[changed] == -1).all() and changed.sum() == 32 * 32 - 20 * 20 - 1


@pytest.mark.parametrize(
    ("area", "label", "expected"), [(0, 0, True), (1, 0, False), (4, 1, False), (5, 1, True)]
)
def test_a_mask_matches_its_label_by_its_area(area: int, label: int, expected: bool) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask.flat[:area] = 1
    assert mask_matches_label(mask, label, min_tumor_px=5) is expected


def elsewhere(workspace: Path, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, SIZE, SIZE)).astype(np.uint8)
    masks = np.zeros((n, SIZE, SIZE), np.uint8)
    masks[::2, 10:14, 8:14] = 1
    (workspace / "other").mkdir()
    return images, masks


def test_external_slices_are_used_unchanged(workspace: Path) -> None:
    images, masks = elsewhere(workspace)
    np.save(workspace / "other/images.npy", images)
    np.save(workspace / "other/masks.npy", masks)
    generated = drawn(workspace, source="other", count=2)
    assert len(generated) == 6  # a given folder is never cut short
    assert np.allclose(generated.images[:, 0], images / 127.5 - 1, atol=1e-3)
    assert np.array_equal(generated.masks, masks)
    assert generated.table["label"].tolist() == [1, 0, 1, 0, 1, 0]


def test_png_and_nifti_files_read_as_the_arrays_they_were(workspace: Path) -> None:
    images, masks = elsewhere(workspace)
    np.save(workspace / "other/images.npy", images)
    np.save(workspace / "other/masks.npy", masks)
    expected = read_image_folder(workspace / "other")
    for kind in ("png", "nii.gz"):
        folder = workspace / kind
        folder.mkdir()
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            for name, plane in ((f"s{index}", image), (f"s{index}_mask", mask * 255)):
                if kind == "png":
                    Image.fromarray(plane).save(folder / f"{name}.png")
                else:
                    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # to the left, to the back
                    nifti = nib.Nifti1Image(plane.T[:, :, None], affine)
                    nib.save(nifti, folder / f"{name}.nii.gz")
        generated = read_image_folder(folder)
        assert np.array_equal(generated.images, expected.images)
        assert generated.masks is not None and np.array_equal(generated.masks, expected.masks)
        assert np.array_equal(generated.labels, expected.labels)


def refused(workspace: Path) -> str:
    with pytest.raises(InputError) as caught:
        drawn(workspace, source="other")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_size_is_rejected_and_never_resized(workspace: Path) -> None:
    elsewhere(workspace)
    np.save(workspace / "other/images.npy", np.zeros((4, 48, 48), np.uint8))
    np.save(workspace / "other/masks.npy", np.zeros((4, 48, 48), np.uint8))
    message = refused(workspace)
    assert "1 x 48 x 48" in message and "1 x 32 x 32" in message


def test_intensities_of_unknown_range_are_rejected(workspace: Path) -> None:
    images, masks = elsewhere(workspace)
    np.save(workspace / "other/images.npy", images.astype(np.float32))
    np.save(workspace / "other/masks.npy", masks)
    assert "[-1, 1]" in refused(workspace)


def test_tumour_slices_without_masks_are_rejected_while_a_segmenter_is_trained(
    workspace: Path,
) -> None:
    images, _ = elsewhere(workspace)
    np.save(workspace / "other/images.npy", images)
    assert "slices.csv" in refused(workspace)
    pd.DataFrame({"label": [0, 1] * 3}).to_csv(workspace / "other/slices.csv", index=False)
    assert "downstream.tasks" in refused(workspace)


def test_a_folder_that_is_not_there_or_empty_is_rejected(workspace: Path) -> None:
    assert "no folder" in refused(workspace)
    (workspace / "other").mkdir()
    assert "holds no slices" in refused(workspace)


def test_an_image_without_its_mask_is_named(workspace: Path) -> None:
    images, masks = elsewhere(workspace)
    Image.fromarray(images[0]).save(workspace / "other/a.png")
    Image.fromarray(masks[0]).save(workspace / "other/a_mask.png")
    Image.fromarray(images[1]).save(workspace / "other/b.png")
    assert "b.png has no _mask partner" in refused(workspace)
