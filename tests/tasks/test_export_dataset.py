"""`auglift export-dataset`: what nnU-Net and MONAI open, and who trains in it."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader, Dataset, load_decathlon_datalist
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, LoadImaged, NormalizeIntensityd, SqueezeDimd

from tasks.commands.export_dataset import __main__ as export_dataset
from tasks.commands.export_dataset.folds import folds_by_patient
from tests.tasks.augmented_fixtures import augmented_run, write_releases
from tests.tasks.fake_run import Run, write
from tests.tasks.test_release import release

Export = Callable[..., Path]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A synthetic and an augmented release of two modalities; nobody writes to them."""
    return write_releases(tmp_path_factory.mktemp("releases"))


def export(root: Path, kind: str, out: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr("sys.argv", ["export-dataset", "--format", kind, "--out", str(out)])
        export_dataset.main()
    return out


def refused(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as ended:
        export(root, "nnunet", out)
    assert not out.exists()
    return ended.value.code, capsys.readouterr().err


def nnunet_python() -> str:
    """The Python that has nnU-Net: this one, or that of AUGLIFT_NNUNET_PYTHON."""
    other = os.environ.get("AUGLIFT_NNUNET_PYTHON")
    if other is None and importlib.util.find_spec("nnunetv2") is None:
        pytest.skip("nnunetv2 is not installed (pip install nnunetv2, or AUGLIFT_NNUNET_PYTHON)")
    return other or sys.executable


VERIFY = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
if __name__ == "__main__":
    verify_dataset_integrity(sys.argv[1], 1)
"""


def verified_by_nnunet(folder: Path, script: Path) -> subprocess.CompletedProcess[str]:
    script.write_text(VERIFY)
    return subprocess.run(
        [nnunet_python(), str(script), str(folder)],
        env={**os.environ, "nnUNet_raw": str(folder.parent)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.verify
def test_nnunets_own_integrity_check_passes_and_does_look(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    out = export(roots["augmented"], "nnunet", tmp_path / "Dataset501_Auglift")
    result = verified_by_nnunet(out, tmp_path / "verify.py")
    assert result.returncode == 0, result.stderr[-500:]
    assert "Error" not in result.stdout
    assert "Warning" not in result.stdout
    next((out / "labelsTr").iterdir()).unlink()
    assert verified_by_nnunet(out, tmp_path / "verify.py").returncode != 0


FIVE_STEPS = """
import sys
from pathlib import Path
if __name__ == "__main__":
    import torch
    from batchgenerators.utilities.file_and_folder_operations import load_json
    from nnunetv2.experiment_planning import plan_and_preprocess_api as planning
    from nnunetv2.paths import nnUNet_preprocessed
    from nnunetv2.run.run_training import get_trainer_from_args

    planning.extract_fingerprints([501], num_processes=1)
    planning.plan_experiments([501])
    planning.preprocess([501], configurations=["2d"], num_processes=[1])
    folder = Path(nnUNet_preprocessed) / "Dataset501_Auglift"
    plans = load_json(str(folder / "nnUNetPlans.json"))
    assert "3d_fullres" not in plans["configurations"]
    assert plans["configurations"]["2d"]["spacing"] == [3.0, 3.0]
    trainer = get_trainer_from_args("501", "2d", 0, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = 1, 5
    trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    train, val = trainer.do_split()
    print("trained on", len(train), "validated on", *val)
"""


@pytest.mark.verify
def test_nnunet_trains_five_steps_on_it(tmp_path: Path) -> None:
    root = augmented_run(tmp_path / "run", size=64, unoutlined=False)
    path = root / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    train = table.loc[table["partition_0"] == "train", "subject"].unique()
    table.loc[table["subject"].isin(train[4:]), "partition_0"] = "unused"
    table.to_parquet(path)
    release(root)
    export(root, "nnunet", tmp_path / "raw/Dataset501_Auglift")
    (tmp_path / "train.py").write_text(FIVE_STEPS)
    places = {f"nnUNet_{name}": str(tmp_path / name) for name in ("raw", "preprocessed", "results")}
    for place in places.values():
        Path(place).mkdir(exist_ok=True)
    settings = {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [nnunet_python(), str(tmp_path / "train.py")],
        env={**os.environ, **places, **settings},
        capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("trained on")
    assert "syn" not in last


@pytest.mark.verify
def test_a_unet_of_monai_trains_five_steps_on_the_datalist(tmp_path: Path) -> None:
    root = augmented_run(tmp_path / "run", size=32, channels=2)
    release(root)
    out = export(root, "monai-datalist", tmp_path / "out")
    items = load_decathlon_datalist(out / "dataset.json", True, "training")
    keys = ["image", "label"]
    load = Compose([
        LoadImaged(keys, ensure_channel_first=True),
        SqueezeDimd(keys, dim=-1),
        NormalizeIntensityd(["image"], channel_wise=True),
    ])  # fmt: skip
    torch.manual_seed(0)
    batch = next(iter(DataLoader(Dataset(items, load), batch_size=16, shuffle=True)))
    assert batch["image"].shape == (16, 2, 32, 32)
    network = UNet(
        spatial_dims=2, in_channels=2, out_channels=1, channels=(8, 16), strides=(2,)
    )  # fmt: skip
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    loss_of = DiceCELoss(sigmoid=True)
    losses = []
    for _ in range(5):
        optimiser.zero_grad()
        loss = loss_of(network(batch["image"]), batch["label"])
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("contents", ["augmented", "synthetic"])
def test_a_raw_data_set_keeps_nnunets_documented_rules(
    contents: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    out = export(roots[contents], "nnunet", tmp_path / "out")
    dataset = json.loads((out / "dataset.json").read_text())
    channels = len(dataset["channel_names"])
    assert channels == (2 if contents == "augmented" else 1)
    assert dataset["labels"] == {"background": 0, "tumour": 1}
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (out / "labelsTr").iterdir())
    assert len(cases) == dataset["numTraining"] > 0
    images = {path.name for path in (out / "imagesTr").iterdir()}
    assert images == {f"{case}_{c:04d}.nii.gz" for case in cases for c in range(channels)}
    for case in cases:
        mask = nib.load(out / f"labelsTr/{case}.nii.gz")
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
        for c in range(channels):
            image = nib.load(out / f"imagesTr/{case}_{c:04d}.nii.gz")
            assert image.shape == mask.shape == (16, 16, 1)
            assert np.array_equal(image.affine, mask.affine)
            assert image.header.get_zooms() == (3.0, 3.0, 999.0)
            assert (b"SYNTHETIC" in image.header["descrip"].tobytes()) == ("syn" in case)


def test_patients_never_cross_nnunets_folds_and_synthetic_cases_never_validate(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    out = export(roots["augmented"], "nnunet", tmp_path / "out")
    splits = json.loads((out / "splits_final.json").read_text())
    table = pd.read_csv(roots["augmented"] / "data/release/slices.csv").set_index("name")
    cases = {path.name.removesuffix(".nii.gz") for path in (out / "labelsTr").iterdir()}
    validated: list[str] = []
    assert len(splits) == 5
    for split in splits:
        assert set(split["train"]) | set(split["val"]) == cases
        subjects = [set(table.loc[split[part], "subject"]) for part in ("train", "val")]
        assert not subjects[0] & subjects[1]
        assert set(table.loc[split["val"], "origin"]) == {"real"}
        validated += split["val"]
    assert sorted(validated) == sorted(case for case in cases if "syn" not in case)


def test_synthetic_slices_alone_have_no_folds(roots: dict[str, Path], tmp_path: Path) -> None:
    out = export(roots["synthetic"], "nnunet", tmp_path / "out")
    assert not (out / "splits_final.json").exists()
    assert "synthetic cases must never validate" in (out / "README.md").read_text()


def test_a_slice_without_an_outline_is_no_case_and_is_listed_apart_by_monai(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    root = roots["augmented"]
    table = pd.read_csv(root / "data/release/slices.csv").set_index("name")
    unknown = set(table.index[~table["mask_known"]])
    assert unknown
    out = export(root, "nnunet", tmp_path / "nnunet")
    assert not unknown & {p.name.removesuffix(".nii.gz") for p in (out / "labelsTr").iterdir()}
    out = export(root, "monai-datalist", tmp_path / "monai")
    apart = load_decathlon_datalist(out / "dataset.json", True, "training_without_mask")
    assert {Path(item["image"][0]).name[: -len("_FLAIR.nii.gz")] for item in apart} == unknown
    assert all("label" not in item and item["tumor"] == 1 for item in apart)


def test_monai_opens_the_datalist_and_reads_images_and_masks(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    for contents, root in roots.items():
        out = export(root, "monai-datalist", tmp_path / contents)
        items = load_decathlon_datalist(out / "dataset.json", True, "training")
        table = pd.read_csv(root / "data/release/slices.csv")
        assert len(items) == table["mask_known"].sum()
        assert {item["origin"] for item in items} == set(table["origin"])
        load = LoadImaged(["image", "label"], ensure_channel_first=True)
        item = load(items[0])
        assert item["image"].shape == ((2 if contents == "augmented" else 1), 16, 16, 1)
        assert item["label"].shape == (1, 16, 16, 1)
        assert float(item["label"].max()) == items[0]["tumor"]


def test_a_fold_of_monai_holds_whole_patients_and_no_synthetic_slice(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    out = export(roots["augmented"], "monai-datalist", tmp_path / "out")
    items = load_decathlon_datalist(out / "dataset.json", True, "training")
    fold_of: dict[str, set[int]] = {}
    for item in items:
        assert (item["fold"] == -1) == (item["origin"] == "synthetic")
        if item["fold"] >= 0:
            fold_of.setdefault(item["subject"], set()).add(item["fold"])
    assert all(len(folds) == 1 for folds in fold_of.values())
    assert {fold for folds in fold_of.values() for fold in folds} == set(range(5))


def test_bids_and_folder_are_those_of_the_release(roots: dict[str, Path], tmp_path: Path) -> None:
    for kind, name in (("bids", "bids"), ("folder", "png")):
        out = export(roots["augmented"], kind, tmp_path / kind)
        original = roots["augmented"] / "data/release" / name
        for path in original.rglob("*"):
            assert not path.is_file() or (
                (out / path.relative_to(original)).read_bytes() == path.read_bytes()
            )


def test_folds_are_even_and_one_patient_is_not_divided() -> None:
    subjects = [f"sub-{n}" for n in range(11) for _ in range(n + 1)]
    fold_of = folds_by_patient(subjects)
    sizes = [sum(fold_of[s] == fold for s in subjects) for fold in range(5)]
    assert max(sizes) - min(sizes) <= 2
    assert folds_by_patient(["a", "b", "b"]) == {"b": 0, "a": 1}
    assert folds_by_patient(["a", "a"]) == {}


def test_a_refusal_is_exit_code_3_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "run", Run(verdict="rejected"))
    release(root)
    code, message = refused(root, tmp_path / "out", capsys)
    assert code == 3
    assert "is a refusal" in message
    assert "9.10 times that of real slices" in message


@pytest.mark.parametrize("damage", ["flip", "remove", "add", "no release", "full folder"])
def test_a_damaged_release_or_a_full_folder_is_one_line(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "run", Run(synthetic=2, accept_share=1.0, size=16))
    release(root)
    folder, out = root / "data/release", tmp_path / "out"
    target = folder / "bids/sub-syn00001/anat/sub-syn00001_FLAIR.nii.gz"
    words = {
        "flip": "sub-syn00001_FLAIR.nii.gz was changed", "remove": "is missing",
        "add": "more.txt is not of this release", "no release": "is no release",
        "full folder": "is not empty",
    }  # fmt: skip
    if damage == "flip":
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)
    elif damage == "remove":
        target.unlink()
    elif damage == "add":
        (folder / "more.txt").write_text("x")
    elif damage == "no release":
        (folder / "release.json").unlink()
    else:
        (out / "mine").mkdir(parents=True)
        with pytest.raises(SystemExit) as ended:
            export(root, "folder", out)
        assert ended.value.code == 2
        assert words[damage] in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["mine"]
        return
    code, message = refused(root, out, capsys)
    assert code == 2
    assert words[damage] in message
    assert len(message.splitlines()) == 1
