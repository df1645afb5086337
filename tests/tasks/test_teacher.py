"""The teacher's opinion on scans without outlines, and the arms that use it."""

import json
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.common.slice_set import SliceSet, read_slice_set
from tasks.implant.__main__ import main as implant
from tasks.params.downstream import Downstream
from tasks.params.teacher import Teacher
from tasks.pool.__main__ import main as pool
from tasks.schemas.samples import PoolSamples
from tasks.schemas.teacher import TeacherOpinions
from tasks.stage.errors import InputError
from tasks.teacher.__main__ import form_opinions, main, mean_pairwise_dice
from tasks.tumors.tumor_pasting import paste_deformed_tumors
from tasks.tumors.tumor_placement import place_deformed_tumors, shift
from tests.tasks.downstream_fixtures import write_slices
from tests.tasks.file_cache import read_files, write_files
from tests.tasks.unlabelled_fixtures import hide_outlines, write_arm_params, write_gate

BOTH = "real+classical+pseudo-label+paste-unlabelled"
ARMS = ["real", "real+pseudo-label", "real+classical+paste-unlabelled", BOTH]


def write_params(root: Path, *, arms: list[str], steps: int = 60) -> None:
    write_arm_params(root, arms, steps=steps, slices={"folds": [0]})


@pytest.fixture(scope="module")
def taught(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """A cohort of which half of the training patients were never outlined, and its teacher."""
    root = tmp_path_factory.mktemp("teacher")
    write_slices(root)
    truth, hidden = hide_outlines(root)
    write_params(root, arms=ARMS)
    write_gate(root)
    with chdir(root):
        main()
        implant()
    return read_files(root), truth, hidden


@pytest.fixture
def root(
    taught: tuple[dict[str, bytes], np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of it."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, taught[0])
    return tmp_path


def read_opinions(root: Path) -> pd.DataFrame:
    return TeacherOpinions.validate(pd.read_parquet(root / "data/teacher/0/unlabelled.parquet"))


def test_the_teacher_finds_most_tumours_that_nobody_outlined(root, taught):
    _, truth, hidden = taught
    opinions = read_opinions(root)
    assert opinions["row"].tolist() == np.flatnonzero(hidden).tolist()
    shows_tumor = truth[opinions["row"]].any(axis=(1, 2))
    sure = opinions["opinion"] != "unsure"
    assert sure.mean() > 0.5
    assert ((opinions["opinion"] == "tumor") == shows_tumor)[sure].mean() > 0.9
    masks = np.load(root / "data/teacher/0/masks.npy")[opinions["opinion"] == "tumor"]
    real = truth[opinions.loc[opinions["opinion"] == "tumor", "row"]]
    assert 2 * (masks & real).sum() / (masks.sum() + real.sum()) > 0.6


def test_the_same_slices_give_the_same_bytes_whatever_the_test_patients_show(root):
    folder = root / "data/teacher/0"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    images = np.load("data/slices/images.npy")
    test = (pd.read_parquet("data/slices/slices.parquet")["partition_0"] == "test").to_numpy()
    images[test] = -images[test]
    np.save("data/slices/images.npy", images)
    main()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_pseudo_labels_are_the_teachers_marks_on_the_slices_it_is_sure_of(root):
    pool()
    arm = read_slice_set(root / "data/pool/real+pseudo-label", "samples.parquet")
    PoolSamples.validate(arm.table)
    slices = read_slice_set(root / "data/slices", "slices.parquet")
    opinions = read_opinions(root).set_index("row")
    marks = np.load(root / "data/teacher/0/masks.npy")
    rows = arm.table["source_row"].to_numpy()
    outlined = slices.table["partition_0"].eq("train") & slices.table["label"].ge(0)
    assert len(arm) == outlined.sum()
    assert (arm.table["label"] == 1).mean() == pytest.approx(
        slices.table.loc[outlined, "label"].mean(), abs=0.05
    )
    assert np.array_equal(arm.images, slices.images[rows])
    opinion_of_row = opinions.loc[rows, "opinion"].to_numpy()
    assert set(opinion_of_row[arm.table["label"] == 1]) == {"tumor"}
    assert set(opinion_of_row[arm.table["label"] == 0]) == {"none"}
    place = opinions.index.get_indexer(rows)
    expected = np.where((arm.table["label"] == 1).to_numpy()[:, None, None], marks[place], 0)
    assert np.array_equal(arm.masks, expected)


def test_tumours_are_pasted_only_into_slices_that_surely_show_none(root):
    pool()
    arm = read_slice_set(root / "data/pool/real+classical+paste-unlabelled", "samples.parquet")
    slices = read_slice_set(root / "data/slices", "slices.parquet")
    opinions = read_opinions(root).set_index("row")["opinion"]
    rows = arm.table["source_row"].to_numpy()
    assert set(opinions.loc[rows]) == {"none"}
    changed = np.abs(arm.images - slices.images[rows])[:, 0] > 1e-3
    tumor = (arm.table["label"] == 1).to_numpy()
    assert not changed[~tumor].any() and not arm.masks[~tumor].any()
    assert arm.masks[tumor].any(axis=(1, 2)).all()
    for image, host, mask, touched in zip(
        arm.images[tumor, 0], slices.images[rows[tumor], 0], arm.masks[tumor] > 0,
        changed[tumor], strict=True,
    ):  # fmt: skip
        assert image[mask].mean() > host[mask].mean() + 0.3  # it is bright, as tumours here are
        spread = mask.copy()
        for rows_by, columns_by in np.ndindex(9, 9):
            spread |= shift(mask, rows_by - 4, columns_by - 4, False)
        assert not (touched & ~spread).any()


def test_arms_of_scans_without_outlines_do_not_apply_where_all_are_outlined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_slices(tmp_path)
    write_params(tmp_path, arms=ARMS)
    write_gate(tmp_path)
    main()
    implant()
    pool()
    for arm in ARMS[1:]:
        status = json.loads((tmp_path / "data/pool" / arm / "pool.json").read_text())["0"]
        assert status["status"] == "not applicable" and status["n"] == 0
    assert "pseudo-label adds none: every training slice is outlined" in capsys.readouterr().out


def test_an_arm_of_two_sources_adds_half_of_each_and_as_many_as_another(root):
    pool()
    arms = {arm: read_slice_set(root / "data/pool" / arm, "samples.parquet") for arm in ARMS[1:]}
    both = arms.pop(BOTH)
    assert abs(len(both) - len(arms["real+pseudo-label"])) <= 1
    tumors = {
        name: arm.images[(arm.table["label"] == 1).to_numpy()]
        for name, arm in (arms | {BOTH: both}).items()
    }
    shared = [
        sum(any(np.array_equal(image, other) for other in tumors[name]) for image in tumors[BOTH])
        for name in arms
    ]
    assert max(shared) - min(shared) <= 1 and sum(shared) == len(tumors[BOTH])
    shares = [float((arm.table["label"] == 1).mean()) for arm in (both, *arms.values())]
    assert max(shares) - min(shares) < 0.1


def test_an_arm_made_of_few_different_scans_is_no_rival(root, capsys):
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["pool"]["min_images"] = 24
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    pool()
    assert "of too few (data/teacher)" in capsys.readouterr().out
    for arm in ("real+classical+paste-unlabelled", BOTH):  # about 12 scans' slices show no tumour
        status = json.loads((root / "data/pool" / arm / "pool.json").read_text())
        assert status["0"]["status"] == "too few"


def test_without_an_arm_that_needs_one_no_teacher_is_trained(root, capsys):
    write_params(root, arms=["real", "real+copy-paste"])
    main()
    assert "no opinion: no arm" in capsys.readouterr().out
    assert read_opinions(root).empty
    assert "no arm" in json.loads((root / "data/teacher/0/teacher.json").read_text())["status"]
    write_params(root, arms=ARMS)
    pool()
    status = json.loads((root / "data/pool/real+pseudo-label/pool.json").read_text())
    assert status["0"]["status"] == "too few"


def test_slices_that_all_have_outlines_leave_nothing_to_ask(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_slices(tmp_path)
    write_params(tmp_path, arms=ARMS)
    main()
    assert "no training slice is without an outline" in capsys.readouterr().out


def test_a_teacher_of_other_slices_is_one_line(root):
    path = root / "data/teacher/0/unlabelled.parquet"
    opinions = pd.read_parquet(path)
    opinions.assign(row=opinions["row"] + 1).to_parquet(path)
    with pytest.raises(InputError, match=r"no training slices of fold 0; .*dvc repro teacher"):
        pool()


def test_agreement_is_the_mean_dice_of_all_pairs():
    masks = np.zeros((3, 2, 4, 4), dtype=bool)
    masks[0, 0, :2] = masks[1, 0, :2] = True  # 8 pixels, equal
    masks[2, 0, 1:3] = True  # 8 pixels, half of them shared
    assert mean_pairwise_dice(masks) == pytest.approx([(1 + 0.5 + 0.5) / 3, 1.0])


def discs(count: int, radius: int, value: float, *, patient: str = "") -> SliceSet:
    y, x = np.mgrid[:64, :64]
    brain = np.where((y - 32) ** 2 + (x - 32) ** 2 < 28**2, -0.2, -1.0)
    mask = (y - 32) ** 2 + (x - 32) ** 2 < radius**2
    images = np.repeat(np.where(mask, value, brain)[None, None], count, axis=0)
    table = pd.DataFrame(
        {
            "row": np.arange(count),
            "position_mm": np.arange(count) * 5.0,
            "label": 0,
            "subject": patient or ("donor" if radius else "host"),
        }
    )
    return SliceSet(
        images.astype(np.float32), np.repeat(mask[None], count, 0).astype(np.uint8), table
    )


def test_pasted_tumours_differ_in_size_and_place_and_stay_in_the_head():
    donors, hosts = discs(3, 6, 0.7), discs(5, 0, 0.0)
    pasted = paste_deformed_tumors(donors, hosts, count=40, rng=np.random.default_rng(0))
    assert len(pasted) == 40 and set(pasted.table["label"]) == {1}
    area = pasted.masks.sum(axis=(1, 2))
    assert area.min() < 0.75 * np.median(area) and area.max() > 1.3 * np.median(area)
    assert abs(np.log(area / donors.masks[0].sum()).mean()) < 0.15
    assert (hosts.images[0, 0][np.any(pasted.masks, axis=0) > 0] > -0.9).mean() > 0.97
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in pasted.masks])
    assert centres.std(axis=0).min() > 2
    again = paste_deformed_tumors(donors, hosts, count=40, rng=np.random.default_rng(0))
    assert np.array_equal(pasted.images, again.images)


def test_a_tumour_larger_than_every_head_is_not_pasted():
    small = discs(2, 0, 0.0)
    y, x = np.mgrid[:64, :64]
    small.images[:, 0, (y - 32) ** 2 + (x - 32) ** 2 > 4**2] = -1
    rng = np.random.default_rng(0)
    assert not len(paste_deformed_tumors(discs(2, 20, 0.7), small, count=3, rng=rng))


def test_no_tumour_is_pasted_into_its_own_patient():
    hosts = discs(5, 0, 0.0, patient="donor")
    assert not len(
        paste_deformed_tumors(discs(3, 6, 0.7), hosts, count=3, rng=np.random.default_rng(0))
    )


@pytest.mark.parametrize(("label", "opinion"), [(-1, "none"), (1, "unsure")])
def test_a_slice_known_to_show_a_tumour_is_never_one_without(label, opinion):
    """Of a class folder's tumour slices only the outline is unknown."""
    slices = discs(4, 0, 0.0)
    slices = SliceSet(slices.images, slices.masks, slices.table.assign(label=label))
    nothing_seen = np.full((3, 4, 64, 64), 0.01)
    opinions = form_opinions(nothing_seen, slices, Teacher())
    assert set(opinions["opinion"]) == {opinion}


def test_one_network_that_sees_a_tumour_is_enough_for_doubt():
    probability = np.full((3, 1, 64, 64), 0.01)
    probability[2, 0, 30:34, 30:34] = 0.57  # the mean is below the limit
    assert set(form_opinions(probability, discs(1, 0, 0.0), Teacher())["opinion"]) == {"unsure"}


def test_a_teacher_that_learnt_nothing_has_no_opinion(root, monkeypatch, capsys):
    write_params(root, arms=ARMS, steps=8)
    monkeypatch.setattr("tasks.teacher.__main__.pooled_dice", lambda *_: 0.1)
    main()
    assert "finds too little" in capsys.readouterr().out
    assert read_opinions(root).empty


def test_no_host_or_no_donor_gives_no_slices():
    nothing = discs(3, 6, 0.7).select(np.empty(0, dtype=np.intp))
    rng = np.random.default_rng(0)
    assert not len(paste_deformed_tumors(nothing, discs(3, 0, 0.0), count=5, rng=rng))
    assert not len(paste_deformed_tumors(discs(3, 6, 0.7), nothing, count=5, rng=rng))


def test_a_shift_moves_whole_pixels_and_fills():
    array = np.arange(12.0).reshape(3, 4)
    assert shift(array, 1, -1, -9).tolist() == [[-9] * 4, [1, 2, 3, -9], [5, 6, 7, -9]]


def test_a_generator_beside_pseudo_labels_needs_its_twin_without_it():
    arms = ["real", "real+pseudo-label+synthetic"]
    settings = {"tasks": ["segment"], "arms": arms, "seeds": [0]}
    with pytest.raises(ValueError, match=r"list 'real\+pseudo-label' too"):
        Downstream.model_validate(settings)
    Downstream.model_validate(settings | {"arms": [*arms, "real+pseudo-label"]})


def test_no_tumour_is_placed_in_the_outer_layers_of_a_head_where_real_ones_lie_deep():
    """Where heads are whole, skull and scalp are tissue too, and no place for a glioma."""
    y, x = np.mgrid[:64, :64]
    radius = np.hypot(y - 32, x - 32)  # a head's is 28
    donors, hosts = discs(6, 6, 0.8), discs(12, 0, 0.0)
    placed = place_deformed_tumors(donors, hosts, count=60, rng=np.random.default_rng(0))
    assert len(placed) == 60
    reached = [radius[mask].max() for mask in placed.masks]
    assert 14 < max(reached) < 28 * 0.75
