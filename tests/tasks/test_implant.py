"""Tumours painted into real slices: where, by what, and that they are never released."""

import json
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import binary_dilation, distance_transform_edt

from models.tumor_painter import cut_windows
from tasks.common.slice_set import SliceSet, read_slice_set
from tasks.common.unreleasable import UNRELEASABLE
from tasks.gate.__main__ import main as gate
from tasks.generate.__main__ import main as generate
from tasks.implant.__main__ import main
from tasks.implant.painting import prepare_regions
from tasks.implant.tumor_copies import find_tumor_copies
from tasks.params.downstream import Downstream
from tasks.pool.__main__ import main as pool
from tasks.schemas.implants import Implants
from tasks.schemas.metrics import GateMetrics, read_metrics
from tasks.teacher.__main__ import main as teach
from tests.tasks.downstream_fixtures import SIZE, write_slices
from tests.tasks.file_cache import read_files, write_files
from tests.tasks.unlabelled_fixtures import hide_outlines, write_arm_params, write_gate

ARM, TWIN = "real+classical+implant", "real+classical+paste-unlabelled"


def write_params(root: Path, arms: list[str]) -> None:
    write_arm_params(
        root,
        arms,
        slices={"folds": [0], "size": SIZE, "modalities": ["FLAIR"]},
        synthetic={"source": "data/implant/0"},
        generate={"count": 1, "seed": 0, "threads": 1},
        gate={"seed": 0, "threads": 1, "draws": 20, "segmenter_steps": 0},
        implant={"steps": 40, "placements": 60, "count": 30, "width": 8},
    )


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A cohort half of whose training patients were never outlined, teacher and painted slices."""
    root = tmp_path_factory.mktemp("implant")
    write_slices(root)
    hide_outlines(root)
    write_params(root, ["real", ARM, TWIN])
    write_gate(root)
    with chdir(root):
        teach()
        main()
    return read_files(root)


@pytest.fixture
def root(painted: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, painted)
    return tmp_path


def read_implants(root: Path) -> SliceSet:
    slices = read_slice_set(root / "data/implant/0", "samples.parquet")
    Implants.validate(slices.table)
    return slices


def test_only_the_surroundings_of_the_painted_tumour_differ_from_the_host(root):
    painted, slices = read_implants(root), read_slice_set(root / "data/slices", "slices.parquet")
    hosts = slices.images[painted.table["host_row"].to_numpy()]
    assert len(painted) == 30
    touched = np.abs(painted.images - hosts)[:, 0] > 2e-3  # float16
    for mask, changed in zip(painted.masks > 0, touched, strict=True):
        distance = distance_transform_edt(~mask)
        assert changed[mask].any()
        assert not changed[distance > 3].any()


def test_hosts_are_training_slices_of_which_the_teacher_is_sure_that_they_show_none(root):
    table = read_implants(root).table
    slices = pd.read_parquet(root / "data/slices/slices.parquet").set_index("row")
    opinions = pd.read_parquet(root / "data/teacher/0/unlabelled.parquet").set_index("row")
    assert set(opinions.loc[table["host_row"], "opinion"]) == {"none"}
    assert set(slices.loc[table["host_row"], "partition_0"]) == {"train"}
    shapes = slices.loc[table["shape_row"]]
    assert set(shapes["partition_0"]) == {"train"} and set(shapes["label"]) == {1}
    hosts = slices.loc[table["host_row"], "subject"].to_numpy()
    assert (hosts != shapes["subject"].to_numpy()).all()  # nobody hosts the own tumour


def test_no_painter_sees_a_validation_or_test_patient(root):
    """Their images may be anything: the bytes stay the same."""
    folder = root / "data/implant/0"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    images = np.load("data/slices/images.npy")
    held_out = pd.read_parquet("data/slices/slices.parquet")["partition_0"].ne("train").to_numpy()
    images[held_out] = -images[held_out]
    np.save("data/slices/images.npy", images)
    main()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_the_pool_adds_accepted_painted_slices_and_names_their_hosts(root):
    path = root / "data/implant/0/samples.parquet"
    table = pd.read_parquet(path)
    table.loc[:9, "accepted"] = False
    table.to_parquet(path)
    pool()
    arm = read_slice_set(root / "data/pool" / ARM, "samples.parquet")
    tumor = (arm.table["label"] == 1).to_numpy()
    painted = read_implants(root)
    rows = [
        next(row for row in range(30) if np.array_equal(painted.images[row], image))
        for image in arm.images[tumor]
    ]
    assert min(rows) >= 10 and tumor.any() and not tumor.all()
    assert arm.table.loc[tumor, "source_row"].tolist() == table.loc[rows, "host_row"].tolist()
    assert (root / "data/pool" / ARM / UNRELEASABLE).exists()  # real heads, wherever copied to


def test_the_twin_without_a_painter_has_the_same_hosts_and_outlines(root):
    path = root / "data/implant/0/samples.parquet"
    table = pd.read_parquet(path)
    table.loc[::2, "accepted"] = False
    table.to_parquet(path)
    pool()
    painted, pasted = (
        read_slice_set(root / "data/pool" / arm, "samples.parquet") for arm in (ARM, TWIN)
    )
    pd.testing.assert_frame_equal(painted.table, pasted.table)
    assert np.array_equal(painted.masks, pasted.masks)
    clear = (painted.table["label"] == 0).to_numpy()
    assert np.array_equal(painted.images[clear], pasted.images[clear])
    differs = np.abs(painted.images - pasted.images)[~clear, 0] > 2e-3  # float16
    for mask, changed in zip(painted.masks[~clear] > 0, differs, strict=True):
        assert changed[mask].any() and not changed[distance_transform_edt(~mask) > 4].any()


def test_the_gate_says_of_painted_slices_that_they_are_not_for_release(root):
    metrics = json.loads((root / "data/implant/0/metrics.json").read_text())
    assert metrics["releasable"] is False and "real patients" in metrics["reason"]
    generate("0")
    gate("0")
    judged = read_metrics(GateMetrics, root / "data/gate/0/metrics.json")
    assert not judged.releasable and "real patients" in str(judged.not_releasable)


def test_without_an_arm_that_adds_them_nothing_is_painted(root, capsys):
    write_params(root, ["real", TWIN])
    main()
    assert "none: no arm" in capsys.readouterr().out
    assert not len(read_implants(root))


def test_an_arm_with_implants_needs_its_twin_without_a_generator():
    parts = {"tasks": ["segment"], "seeds": [0]}
    with pytest.raises(ValueError, match="real\\+classical\\+paste-unlabelled"):
        Downstream.model_validate(parts | {"arms": ["real", ARM]})
    both = "real+classical+pseudo-label+implant"
    with pytest.raises(ValueError, match="list 'real\\+classical\\+pseudo-label' too"):
        Downstream.model_validate(parts | {"arms": ["real", both]})


def discs(count: int, *, seed: int, subject: str) -> SliceSet:
    """Slices of one patient each, with textured tumours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    masks = np.stack([(y - 30) ** 2 + (x - 34) ** 2 < r**2 for r in rng.uniform(6, 10, count)])
    images = np.where(masks, 0.3, -0.3) + 0.3 * rng.normal(size=masks.shape)
    table = pd.DataFrame({"subject": [f"{subject}{i}" for i in range(count)]})
    return SliceSet(images[:, None].astype(np.float32), masks.astype(np.uint8), table)


def test_a_copied_tumour_is_found_in_another_head_and_a_fresh_one_is_not():
    tumors, fresh = discs(20, seed=0, subject="a"), discs(8, seed=1, subject="b")
    elsewhere = discs(8, seed=2, subject="c")
    around = ~binary_dilation(tumors.masks[:8] > 0, iterations=2, axes=(1, 2))
    copied = SliceSet(
        np.where(around[:, None], elsewhere.images, tumors.images[:8]),
        tumors.masks[:8], elsewhere.table,
    )  # fmt: skip
    copies = find_tumor_copies(copied, tumors, workers=1)
    assert copies.copied.all() and copies.rows.tolist() == list(range(8))
    assert not find_tumor_copies(fresh, tumors, workers=1).copied.any()


def test_the_painter_sees_nothing_of_what_it_paints_over():
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 20:30, 25:40] = True
    plain = np.full((1, 1, 64, 64), -0.2, np.float32)
    bright = np.where(masks[:, None], 1.0, plain).astype(np.float32)
    hollow = [
        regions.images * (1 - regions.reach) + regions.filled * regions.reach
        for regions in (prepare_regions(x, masks, torch.device("cpu")) for x in (plain, bright))
    ]
    assert (hollow[0] - hollow[1]).abs().max() < 0.02
    assert (hollow[0] + 0.2).abs().max() < 1e-5


@pytest.mark.parametrize("center", [(0, 0), (31.6, 20.2), (63, 63)])
def test_a_window_holds_the_pixels_around_its_centre_and_stays_inside(center):
    x = torch.arange(2.0 * 64 * 64).reshape(1, 2, 64, 64)
    window = cut_windows(x, torch.tensor([center]), 32)
    top, left = (min(max(round(c) - 16, 0), 32) for c in center)
    assert torch.equal(window, x[:, :, top : top + 32, left : left + 32])
