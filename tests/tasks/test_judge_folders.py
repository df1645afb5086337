"""What an image folder does not state is read one way and said, or refused in one line."""

import csv
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.commands.judge import image_folders
from tasks.common.slice_set import SliceSet
from tasks.stage.errors import InputError
from tests.tasks.test_judge import judge

QUICK = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def heads(n: int, seed: int = 0, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """n discs with a bright spot in every other one: images (n,size,size) in [-1,1], masks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    images, masks = [], []
    for number in range(n):
        body = (y / rng.uniform(0.7, 0.9)) ** 2 + (x / rng.uniform(0.6, 0.8)) ** 2 < 1
        spot = (y - rng.uniform(-0.3, 0.3)) ** 2 + (x - rng.uniform(-0.3, 0.3)) ** 2 < 0.06
        spot &= bool(number % 2)
        image = np.where(body, rng.uniform(-0.4, 0) + 0.2 * np.sin(5 * x + number), -1.0)
        images.append(np.where(spot, 0.8, image).astype(np.float32))
        masks.append(spot.astype(np.uint8))
    return np.stack(images), np.stack(masks)


def picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(((image + 1) * 127.5).round().astype(np.uint8))


def write_rows(
    path: Path, header: list[str], rows: list[list[object]], separator: str = ","
) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header, *rows])


def fresh(tmp_path: Path) -> Path:
    folder = tmp_path / f"folder-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        image_folders.read_folder(folder, name="real")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(one: SliceSet, other: SliceSet, *, atol: float = 1 / 127) -> bool:
    """Equal slices, masks and labels."""
    return (
        one.images.shape == other.images.shape
        and np.allclose(one.images, other.images, atol=atol)
        and np.array_equal(one.masks, other.masks)
        and one.table["label"].tolist() == other.table["label"].tolist()
    )


AXES = {
    "(N,H,W)": lambda a: a,
    "(N,1,H,W)": lambda a: a[:, None],
    "(N,H,W,1)": lambda a: a[..., None],
    "(H,W,N)": lambda a: a.transpose(1, 2, 0),
    "(H,W,N,1)": lambda a: a.transpose(1, 2, 0)[..., None],
    "(1,N,H,W)": lambda a: a[None],
    "(H,W,1,N)": lambda a: a.transpose(1, 2, 0)[:, :, None],
}
RANGES = {
    "[-1,1]": (lambda a: a, True),
    "[-1,1] float16": (lambda a: a.astype(np.float16), True),
    "[0,1]": (lambda a: (a + 1) / 2, True),
    "[0,1] double": (lambda a: (a.astype(float) + 1) / 2, True),
    "bytes": (lambda a: ((a + 1) * 127.5).round().astype(np.uint8), True),
    "[0,255] floats": (lambda a: (a + 1) * 127.5, False),
    "int16": (lambda a: (a * 900).astype(np.int16), False),
    "[0,1] after a cubic filter": (lambda a: (a + 1) / 2 - 0.02, False),
    "half contrast": (lambda a: a * 0.4, False),
    "0 and 1": (lambda a: (a > 0).astype(np.uint8), False),
    "NaN": (lambda a: np.where(a > 0.7, np.nan, a), False),
}


@QUICK
@given(
    axes=st.sampled_from(sorted(AXES)),
    values=st.sampled_from(sorted(RANGES)),
    n=st.integers(20, 50),
)
def test_arrays_are_read_as_they_were_meant_or_rejected(
    tmp_path: Path, axes: str, values: str, n: int
) -> None:
    images, masks = heads(n)
    folder = fresh(tmp_path)
    change, expected = RANGES[values]
    np.save(folder / "images.npy", AXES[axes](change(images)))
    np.save(folder / "masks.npy", masks)
    try:
        side = image_folders.read_folder(folder, name="real")
    except InputError as error:
        assert "\n" not in str(error)
        assert not (expected and axes in ("(N,H,W)", "(N,1,H,W)", "(N,H,W,1)"))
        return
    assert expected
    assert np.allclose(side.slices.images, images[:, None], atol=1 / 127)
    assert np.array_equal(side.slices.masks, masks)
    assert side.assumed["range"] and side.assumed["axes"]


def test_slices_of_one_picture_repeated_are_no_other_order_of_axes(tmp_path: Path) -> None:
    images, _ = heads(1)
    np.save(tmp_path / "images.npy", np.repeat(images, 30, axis=0))
    assert len(image_folders.read_folder(tmp_path, name="synthetic").slices) == 30


NAMES = {
    "1.png, 10.png": lambda n: [f"{number}.png" for number in range(1, n + 1)],
    "001.PNG": lambda n: [f"{number:03}.PNG" for number in range(n)],
    "P1_3.Png": lambda n: [f"P{number % 4}_{number // 4}.Png" for number in range(n)],
}
CELLS = {
    "as they are": lambda name: name,
    "a folder before them": lambda name: f"images/{name}",
    "without ending": lambda name: name[:-4],
    "lower case": lambda name: name.lower(),
}


@QUICK
@given(
    names=st.tuples(st.sampled_from(sorted(NAMES)), st.sampled_from(sorted(CELLS))),
    column=st.sampled_from(["file", "File", "filename", "name"]),
    written=st.tuples(st.sampled_from([",", ";", "\t"]), st.booleans()),
    order=st.randoms(use_true_random=False),
)
def test_rows_in_any_order_are_joined_by_file(
    tmp_path: Path,
    names: tuple[str, str],
    column: str,
    written: tuple[str, bool],
    order: random.Random,
) -> None:
    separator, masked = written
    images, masks = heads(24)
    folder = fresh(tmp_path)
    called = NAMES[names[0]](24)
    for name, image, mask in zip(called, images, masks, strict=True):
        picture(image).save(folder / name)
        if masked:
            Image.fromarray(mask * 255).save(folder / f"{name[:-4]}_mask{name[-4:]}")
    rows = [
        [CELLS[names[1]](name), f"00{number}", number % 2] for number, name in enumerate(called)
    ]
    order.shuffle(rows)
    write_rows(folder / "slices.csv", [column, "subject", "label"], rows, separator)
    side = image_folders.read_folder(folder, name="real")
    meant = {name: number for number, name in enumerate(called)}
    places = [meant[name] for name in side.slices.table["file"]]
    assert np.allclose(side.slices.images[:, 0], images[places], atol=1 / 127)
    assert side.slices.table["label"].tolist() == [place % 2 for place in places]
    assert side.slices.table["subject"].tolist() == [f"00{place}" for place in places]
    assert np.array_equal(side.slices.masks, masks[places] if masked else masks * 0)
    assert side.assumed["rows"].startswith("by the column")


def write_pngs(folder: Path, names: list[str], images: np.ndarray) -> None:
    for name, image in zip(names, images, strict=True):
        picture(image).save(folder / name)


def test_without_file_names_rows_are_joined_only_where_one_order_is_possible(
    tmp_path: Path,
) -> None:
    images, _ = heads(12)
    rows: list[list[object]] = [[f"P{number}", number % 2] for number in range(12)]
    natural, padded, equal = (tmp_path / name for name in ("natural", "padded", "equal"))
    for folder, names in (
        (natural, [f"{number}.png" for number in range(12)]),
        (padded, [f"{number:02}.png" for number in range(12)]),
        (equal, [f"{number}.png" for number in range(12)]),
    ):
        folder.mkdir()
        write_pngs(folder, names, images)
        write_rows(folder / "slices.csv", ["subject", "label"], rows)
    assert "column file" in refusal(natural)
    side = image_folders.read_folder(padded, name="real")
    assert "for want of a column file" in side.assumed["rows"]
    assert side.slices.table["subject"].tolist() == [f"P{number}" for number in range(12)]
    write_rows(equal / "slices.csv", ["label"], [[1]] * 12)
    assert image_folders.read_folder(equal, name="real").slices.table["label"].tolist() == [1] * 12


def test_a_table_that_does_not_fit_the_files_is_rejected(tmp_path: Path) -> None:
    images, _ = heads(3)
    names = ["a.png", "b.png", "c.png"]
    write_pngs(tmp_path, names, images)
    path = tmp_path / "slices.csv"
    for rows, words in (
        ([["a.png"], ["b.png"], ["d.png"]], "names 'd.png', which is no image"),
        ([["a.png"], ["b.png"], ["b"]], "several rows for b.png"),
        ([["a.png"], ["b.png"]], "2 rows for 3 slices"),
    ):
        write_rows(path, ["file"], rows)
        assert words in refusal(tmp_path)
    path.write_text("file,label\na.png,1\nb.png,0,7\nc.png,1\n")
    assert "row 3 has 3 cells" in refusal(tmp_path)
    path.write_text("file,label,label\na.png,1,1\n")
    assert "'label' twice" in refusal(tmp_path)
    path.write_text("file,subject\na.png,P1\nb.png,\nc.png,P2\n")
    assert "1 rows without a subject" in refusal(tmp_path)


def test_pictures_and_masks_may_be_of_other_endings_and_cases(tmp_path: Path) -> None:
    images, masks = heads(4)
    for number, (ending, mask_ending) in enumerate(
        ((".PNG", ".png"), (".jpg", ".png"), (".JPEG", ".PNG"), (".png", ".JPG"))
    ):
        picture(images[number]).save(tmp_path / f"s{number}{ending}", quality=95)
        Image.fromarray(masks[number] * 255).save(tmp_path / f"s{number}_MASK{mask_ending}")
    side = image_folders.read_folder(tmp_path, name="real")
    assert np.array_equal(side.slices.masks, masks)
    assert side.slices.table["masked"].all()
    assert np.abs(side.slices.images[:, 0] - images).mean() < 0.02


def test_files_that_may_mean_two_things_are_rejected(tmp_path: Path) -> None:
    images, masks = heads(2)
    write_pngs(tmp_path, ["a.png", "b.png"], images)
    picture(images[0]).save(tmp_path / "A.jpg")
    assert "differ in their ending only" in refusal(tmp_path)
    (tmp_path / "A.jpg").unlink()
    Image.fromarray(masks[0]).save(tmp_path / "z_mask.png")
    assert "z_mask.png is the mask of no image" in refusal(tmp_path)
    (tmp_path / "z_mask.png").unlink()
    picture(images[0]).save(tmp_path / "a_T1w.png")
    assert "b.png has fewer channels" in refusal(tmp_path)
    picture(images[1]).save(tmp_path / "b_T1w.png")
    side = image_folders.read_folder(tmp_path, name="real")
    assert side.slices.images.shape[:2] == (2, 2)
    assert "T1" in side.assumed["channels"]


SPELLINGS = {
    "as they are": lambda number: f"{number}",
    "zeros": lambda number: f"{number:03}",
    "of a float": lambda number: f"{number}.0",
    "BIDS": lambda number: f"sub-{number:02}",
    "spaces": lambda number: f" {number} ",
}


@QUICK
@given(
    start=st.sampled_from([0, 1, 1001]),
    one=st.sampled_from(sorted(SPELLINGS)),
    other=st.sampled_from(sorted(SPELLINGS)),
    apart=st.booleans(),
)
def test_a_patient_on_both_sides_is_found_however_the_id_is_spelled(
    tmp_path: Path, start: int, one: str, other: str, apart: bool
) -> None:
    sides = []
    for number, spelling in enumerate((one, other)):
        folder = fresh(tmp_path)
        images, _ = heads(20, seed=number)
        np.save(folder / "images.npy", images)
        first = start + 50 * (number and apart)
        ids = [[SPELLINGS[spelling](first + row // 2)] for row in range(20)]
        write_rows(folder / "slices.csv", ["subject"], ids)
        sides.append(image_folders.read_folder(folder, name="real"))
        assert sides[-1].slices.table["subject"].nunique() == 10
    if apart:
        assert image_folders.check_separate(*sides) is None
        return
    with pytest.raises(InputError, match="10 patients are in --train and in --real"):
        image_folders.check_separate(*sides)


def test_one_id_in_two_spellings_is_one_patient_and_this_is_reported(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", heads(4)[0])
    write_rows(tmp_path / "slices.csv", ["subject"], [["7"], ["007"], ["7.0"], ["8"]])
    side = image_folders.read_folder(tmp_path, name="real")
    assert side.slices.table["subject"].tolist() == ["7", "7", "7", "8"]
    assert "spelled otherwise" in side.assumed["subjects"]


def test_slices_on_both_sides_are_found_also_where_no_patient_is_named(tmp_path: Path) -> None:
    images, _ = heads(30)
    sides = []
    for chosen in (slice(0, 20), slice(18, 30)):
        folder = fresh(tmp_path)
        np.save(folder / "images.npy", images[chosen])
        sides.append(image_folders.read_folder(folder, name="real"))
    with pytest.raises(InputError, match="2 slices of --real are also in --train"):
        image_folders.check_separate(*sides)


def test_sites_of_one_side_only_are_left_out_and_reported(tmp_path: Path) -> None:
    images, _ = heads(20)
    sides = {}
    for name in ("--train", "--real"):
        folder = fresh(tmp_path)
        np.save(folder / "images.npy", images)
        if name == "--train":
            write_rows(folder / "slices.csv", ["subject", "site"], [[i, "A"] for i in range(20)])
        sides[name] = image_folders.read_folder(folder, name="real").slices
    shared_sites, note = image_folders.drop_lonely_sites(sides)
    assert all("site" not in side.table for side in shared_sites.values())
    assert note is not None and "--real" in note


def test_what_was_assumed_is_one_line_and_stands_in_the_verdict(tmp_path: Path) -> None:
    for name, n, seed in (("real", 30, 1), ("train", 30, 2), ("made", 24, 3)):
        images, _ = heads(n, seed=seed)
        (tmp_path / name).mkdir()
        np.save(tmp_path / f"{name}/images.npy", ((images + 1) / 2)[..., None])
        ids = [[f"{name}{row // 3}", "A"] for row in range(n)]
        write_rows(tmp_path / f"{name}/slices.csv", ["subject", "site"][: 2 - (name == "real")],
                   [fields[: 2 - (name == "real")] for fields in ids])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", RuntimeWarning)
        code, output = judge(tmp_path, "--real", "real", "--synthetic", "made", "--train", "train")
    assert code in (0, 3), output
    (line,) = [line for line in output.splitlines() if line.startswith("assumed:")]
    assert "channels last" in line and "floats in [0, 1]" in line
    verdict = (tmp_path / "judgement/verdict.json").read_text()
    assert '"range": "floats in [0, 1], air at 0"' in verdict
    assert "Sites are named for --train" in output
    assert not re.search("Warning", output)
