"""`import auglift`: what a notebook gets is what the commands write."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader

import auglift
from auglift.slices import to_folder_slices
from tasks.common.slice_set import SliceSet
from tests.imports import ROOT
from tests.tasks.augmented_fixtures import write_releases
from tests.tasks.export_fixtures import clone
from tests.tasks.gate_fixtures import oracle, real
from tests.tasks.test_export_generate import ask
from tests.tasks.test_judge import write as write_folder


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A synthetic and an augmented release of two modalities."""
    made = write_releases(tmp_path_factory.mktemp("releases"))
    return {name: root / "data/release" for name, root in made.items()}


def noise() -> SliceSet:
    """Ten slices of four patients: too few to be judged."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (10, 1, 16, 16)).astype(np.float32)
    images[:, :, 0] = -1.0
    masks = (rng.random((10, 16, 16)) < 0.1).astype(np.uint8)
    rows = np.arange(10)
    table = pd.DataFrame({"subject": [f"sub-{row % 4}" for row in rows], "label": rows % 2,
                          "site": ["A"] * 10})  # fmt: skip
    return SliceSet(images, masks, table)


def test_the_package_is_imported_without_torch() -> None:
    code = "import auglift, sys; print(sorted(dir(auglift))); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "judge" in done.stdout


def test_a_release_loads_as_its_files_hold_it(releases: dict[str, Path]) -> None:
    dataset = auglift.load_release(releases["synthetic"])
    table = pd.read_csv(releases["synthetic"] / "slices.csv")
    assert len(dataset) == len(table)
    for item, row in zip(dataset, table.itertuples(), strict=True):
        assert item["image"].shape[0] == 1 and item["label"].shape == item["image"].shape
        assert float(item["image"].min()) >= -1 and float(item["image"].max()) <= 1
        assert (item["name"], item["tumor"], item["origin"]) == (row.name, row.label, "synthetic")
        assert bool(item["label"].any()) == (row.label == 1)
        stored = nib.load(releases["synthetic"] / f"{row.nifti}_label-tumor_mask.nii.gz")
        np.testing.assert_array_equal(item["label"][0], np.asarray(stored.dataobj)[:, :, 0].T)
    assert "SYNTHETIC" in dataset.description and dataset.version


def test_an_augmented_release_divides_patients_and_marks_each_origin(
    releases: dict[str, Path],
) -> None:
    dataset = auglift.load_augmented(releases["augmented"])
    items = list(dataset)
    assert {item["origin"] for item in items} == {"real", "synthetic"}
    assert all(item["fold"] == -1 for item in items if item["origin"] == "synthetic")
    folds = pd.DataFrame([item for item in items if item["origin"] == "real"])
    assert (folds.groupby("subject")["fold"].nunique() == 1).all() and folds["fold"].min() >= 0
    table = pd.read_csv(releases["augmented"] / "slices.csv")
    assert {item["name"] for item in items} == set(table.loc[table["mask_known"], "name"])
    more = auglift.load_augmented(releases["augmented"], masks=False)
    assert len(more) > len(dataset) and "label" not in more[0]
    assert {item["origin"] for item in auglift.load_release(releases["augmented"])} == {"synthetic"}


def test_a_dataloader_batches_items_and_a_transform_is_applied(releases: dict[str, Path]) -> None:
    def invert(item: dict[str, object]) -> dict[str, object]:
        return item | {"image": -torch.as_tensor(item["image"])}

    dataset = auglift.load_augmented(releases["augmented"], transform=invert)
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["image"].shape == (4, 2, 16, 16) and batch["label"].dtype == torch.uint8
    plain = auglift.load_augmented(releases["augmented"])
    assert torch.equal(batch["image"][3], -plain[3]["image"])


def test_what_is_no_release_or_the_wrong_kind_is_said_in_one_line(
    releases: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(auglift.InputError, match="load_release"):
        auglift.load_augmented(releases["synthetic"])
    with pytest.raises(auglift.InputError, match="no release"):
        auglift.load_release(tmp_path)
    (tmp_path / "refusal.json").write_text(json.dumps({"reasons": ["nobody approved it"]}))
    with pytest.raises(auglift.InputError, match="nobody approved it"):
        auglift.load_release(tmp_path)


def test_a_generator_draws_the_slices_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(clone(tmp_path / "clone"))
    generator = auglift.Generator.load("data/gan/0")
    slices = generator.sample(6, label="both", seed=3)
    written = ask(tmp_path / "out", "--count", 6, "--seed", 3, "--format", "nifti")
    assert slices.images.dtype == np.float32 and slices.images.shape[:2] == (6, 1)
    assert {f"{name}/anat/{name}_FLAIR.nii.gz" for name in slices.subjects or ()} <= set(written)
    for name, mask in zip(slices.subjects or (), slices.masks, strict=True):  # type: ignore[arg-type]
        stored = nib.load(tmp_path / f"out/{name}/anat/{name}_label-tumor_mask.nii.gz")
        np.testing.assert_array_equal(mask, np.asarray(stored.dataobj)[:, :, 0].T)
    for wrong in ({"n": 0}, {"n": 1, "label": "tumour"}, {"n": 1, "tumor_area_mm2": 90.0}):
        with pytest.raises(auglift.InputError):
            generator.sample(**wrong)


def test_arrays_are_judged_as_a_folder_of_the_same_slices(tmp_path: Path) -> None:
    cohort = noise()
    columns = cohort.table
    given = auglift.Slices(
        cohort.images, cohort.masks, columns["label"].to_numpy(), list(columns["subject"]),
        list(columns["site"]),
    )  # fmt: skip
    folder = to_folder_slices(write_folder(tmp_path / "real", cohort), name="real")
    arrays = to_folder_slices(given, name="real")
    assert arrays.named and folder.named
    np.testing.assert_array_equal(arrays.slices.images, folder.slices.images)
    np.testing.assert_array_equal(arrays.slices.masks, folder.slices.masks)
    pd.testing.assert_frame_equal(arrays.slices.table, folder.slices.table)
    bare = to_folder_slices(cohort.images[:, 0], name="real")
    assert not bare.named and (bare.slices.table["label"] == -1).all()


def test_a_judgement_leaves_the_callers_torch_as_it_was_also_when_it_fails() -> None:
    torch.use_deterministic_algorithms(False)
    before = (torch.get_num_threads(), torch.backends.cudnn.benchmark)
    few = noise()
    with pytest.raises(auglift.InputError, match="at least"):
        auglift.judge(few.images, few.images, train=few.images[:3])
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == before
    for wrong in (
        auglift.Slices(few.images, few.masks[:, ::2]),
        auglift.Slices(few.images, labels=np.zeros(3)),
        few.images * 5,
    ):
        with pytest.raises(auglift.InputError, match=r"^synthetic"):
            auglift.judge(few.images, wrong)


@pytest.mark.verify
def test_a_verdict_tells_what_the_command_writes(tmp_path: Path) -> None:
    seen, unseen, fresh = real().train, real().val, oracle()
    given = [auglift.Slices(s.images, s.masks, subjects=list(s.table["subject"])) for s in
             (unseen, fresh, seen)]  # fmt: skip
    verdict = auglift.judge(given[0], given[1], train=given[2])
    assert verdict.accepted and not verdict.reasons
    assert len(verdict.samples) == len(fresh) and "ratio" in verdict.measures
    assert str(verdict).startswith("accepted:") and "<iframe" in verdict._repr_html_()
    verdict.save(tmp_path / "out")
    assert json.loads((tmp_path / "out/verdict.json").read_text())["verdict"] == "accepted"
