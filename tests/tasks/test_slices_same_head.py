"""Two patients with one head stop the run, however the second copy was made; strangers do not."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from tasks.phantom.simulator import Simulator
from tasks.slices.__main__ import main
from tasks.slices.same_head import HeadPattern, find_same_heads, head_pattern
from tasks.stage.errors import InputError
from tasks.volumes.resampling import largest_body_mask
from tests.tasks.slices_fixtures import ask, head, outputs, rewrite, write_cohort

Volume = np.ndarray


@cache
def phantom(index: int) -> Volume:
    """A patient of the phantom: of one template's anatomy, so hard to tell from the others."""
    return Simulator(7).patient(300 + index).volume


def seen(volume: Volume) -> HeadPattern:
    volume = np.ascontiguousarray(volume, np.float32)
    pattern = head_pattern(volume, largest_body_mask(volume))
    assert pattern is not None
    return pattern


@cache
def of_phantom(index: int) -> HeadPattern:
    return seen(phantom(index))


def biased(volume: Volume) -> Volume:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in volume.shape), indexing="ij")
    return volume * np.exp(0.25 * (x - y * z + 0.5 * y))


def turned(volume: Volume) -> Volume:
    once = ndimage.rotate(volume, 6, axes=(0, 1), reshape=False, order=1)
    return ndimage.rotate(once, -5, axes=(1, 2), reshape=False, order=1)


COPIES: dict[str, Callable[[Volume], Volume]] = {
    "stored twice": lambda v: v,
    "other intensities": lambda v: 4.2 * v + 17,
    "gamma": lambda v: (v / v.max()) ** 0.7,
    "z-scores": lambda v: np.where(v > 0, (v - v[v > 0].mean()) / v[v > 0].std(), 0),
    "bias-corrected": biased,
    "noise": lambda v: v + np.random.default_rng(1).normal(0, 15, v.shape) * (v > 0),
    "finer grid": lambda v: ndimage.zoom(v, (1.5, 1.5, 2), order=1),
    "coarser grid": lambda v: ndimage.zoom(v, (0.75, 0.75, 0.9), order=1),
    "flipped": lambda v: v[::-1],
    "axes exchanged": lambda v: v.transpose(2, 0, 1)[:, :, ::-1],
    "air cut away": lambda v: v[6:-6, 6:-6, 2:-2],
    "more air": lambda v: np.pad(v, ((9, 0), (4, 20), (3, 7))),
    "turned": turned,
    "lowest slices left out": lambda v: v[:, :, 4:],
}


@pytest.mark.parametrize("kind", sorted(COPIES))
def test_a_copy_is_found_among_strangers(kind: str) -> None:
    patterns = [of_phantom(index) for index in range(4)] + [seen(COPIES[kind](phantom(3)))]
    pairs = find_same_heads(patterns, [*map(str, range(4)), "copy"])
    assert [(pair.first, pair.second) for pair in pairs] == [(3, 4)]


def test_patients_of_the_phantom_are_no_copies_of_each_other() -> None:
    assert find_same_heads([of_phantom(index) for index in range(8)], [*map(str, range(8))]) == []


def test_two_visits_of_one_patient_are_not_compared() -> None:
    assert find_same_heads([of_phantom(1), of_phantom(1)], ["P1", "P1"]) == []


def test_objects_without_detail_are_the_same_only_where_they_are_equal() -> None:
    mm = head((48, 48, 24), (4.0, 4.0, 6.0))
    body = (mm[0] / 70) ** 2 + (mm[1] / 85) ** 2 + (mm[2] / 65) ** 2 < 1
    balls = []
    for seed in range(6):
        wave = np.sin(mm[0] / (9 + 0.1 * seed)) + np.sin(mm[1] / 11 + 0.1 * seed)
        balls.append(seen(np.where(body, 300 + 25 * wave, 0)))
    assert max(float((balls[0].values * pattern.values).sum()) for pattern in balls[1:]) > 0.75
    owners = [*map(str, range(6))]
    assert all(pair.correlation >= 0.97 for pair in find_same_heads(balls, owners))
    assert len(find_same_heads([balls[0], balls[5], balls[0]], ["a", "b", "c"])) == 1


def test_a_volume_of_few_slices_or_one_grey_has_no_pattern() -> None:
    body = np.ones((40, 40, 2), bool)
    assert head_pattern(np.ones((40, 40, 2), np.float32), body) is None
    flat = np.zeros((40, 40, 20), np.float32)
    assert head_pattern(flat, np.zeros(flat.shape, bool)) is None
    assert head_pattern(flat + 7, np.ones(flat.shape, bool)) is None


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cohort in which b05 is b02 once more, flipped and on another scale."""
    monkeypatch.chdir(tmp_path)
    write_cohort(tmp_path, same_head="stop")
    folder = tmp_path / "data/volumes/b"
    for name in ("FLAIR", "mask"):
        volume = nib.load(folder / f"sub-b02/{name}.nii")
        data = np.asarray(volume.dataobj)[::-1] * (2 if name == "FLAIR" else 1)
        nib.save(nib.Nifti1Image(data, volume.affine), folder / f"sub-b05/{name}.nii")
    manifest = pd.read_parquet(folder / "manifest.parquet")
    manifest.loc[manifest["subject"] == "sub-b05", "mask_status"] = "segmented"
    rewrite(tmp_path, manifest)
    return tmp_path


def test_two_patients_of_one_head_stop_the_run_in_one_line(root: Path) -> None:
    with pytest.raises(InputError) as caught:
        main()
    line = str(caught.value)
    assert "\n" not in line
    assert "sub-b02 and sub-b05" in line and "more pairs" not in line
    for remedy in ("files.csv", "auglift scan", "slices.same_head"):
        assert remedy in line
    assert not (root / "data/slices").exists()


def test_warn_says_it_and_off_does_not_look(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(root, same_head="warn")
    main()
    assert "sub-b02 and sub-b05" in capsys.readouterr().out
    report = outputs(root)[3]["same_head"]
    assert report["volumes"] == 16
    assert [pair["subjects"] for pair in report["pairs"]] == [["sub-b02", "sub-b05"]]
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("same_head: warn", "same_head: off"))
    main()
    assert outputs(root)[3]["same_head"] == {"mode": "off", "volumes": 0, "pairs": []}


def test_of_patients_who_are_unknown_it_is_said_only(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = pd.read_parquet(root / "data/volumes/b/manifest.parquet")
    rewrite(root, manifest.assign(patient_known=~manifest["subject"].isin(["sub-b02", "sub-b05"])))
    main()
    assert "the split may leak: volumes of two patients" in capsys.readouterr().out


@pytest.mark.parametrize(("brain", "known"), [("extracted", True), (None, None)])
def test_whether_skulls_were_taken_off_is_told_as_the_manifest_says(
    root: Path, brain: str | None, known: bool | None
) -> None:
    ask(root, same_head="off")
    manifest = pd.read_parquet(root / "data/volumes/b/manifest.parquet")
    manifest["brain"] = pd.Series([brain] * len(manifest), dtype="str")
    rewrite(root, manifest)
    main()
    assert outputs(root)[3]["skull_stripped"] is known
