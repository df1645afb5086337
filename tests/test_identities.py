"""Nothing that names a person leaves `data/raw/`: planted, run through, searched for."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset

from flows.dvc_runner import DvcRunner
from tasks.ingest.privacy.pseudonyms import KEY_VARIABLE, key_fingerprint
from tasks.stage.errors import InputError
from tests.phi_search import below, leaks
from tests.tasks.dicom_cases import write_segmentation, write_series
from tests.tasks.slices_fixtures import head
from tests.test_end_to_end import clone

NAME, ACCENTED = "Mustermann", "Jürgen"
ELEMENTS = {
    "PatientName": "Mustermann^Erika", "PatientBirthDate": "19561103",
    "PatientID": "MRN-0099887766", "OtherPatientNames": "Geb-Schneiderin",
    "InstitutionName": "Charite-Mitte", "InstitutionAddress": "Hauptstrasse-12b",
    "StationName": "STATION-SEVEN", "AccessionNumber": "ACC-998877665",
    "ReferringPhysicianName": "Sauerbruch^Jürgen", "OperatorsName": "Roentgenova",
    "PerformingPhysicianName": "Semmelweis", "StudyDescription": "Bitte-an-Dr-Virchow",
    "SeriesDescription": "FLAIR Mustermann", "ProtocolName": "FLAIR-Prot-Huberin",
    "PatientComments": "is-the-lord-mayor", "PatientAddress": "Lindenweg-4711",
    "PatientTelephoneNumbers": "030-5551234", "DeviceSerialNumber": "SN-55-66-77-88",
    "StudyID": "STUDY-ID-4242", "StudyDate": "20200102", "AcquisitionDate": "20200103",
    "StudyInstanceUID": "1.2.826.0.1.3680043.9.7777.1", "EthnicGroup": "Plantedian",
}  # fmt: skip
PRIVATE, UID_ROOT = "PRIVATE-NOTE-42", "1.2.826.0.1.3680043.9.7777"
NIFTI = {
    "descrip": "DescLehmannova", "aux_file": "AuxSchmidtke", "intent_name": "IntWeberling",
    "db_name": "DbKaiserling",
}  # fmt: skip
EXTENSION, SIDECAR, AUTHOR = "ExtKommentarowa", "SidecarNachname", "ProfessorMabuse"
PNG_TEXT, ZIPPED, ZIP_COMMENT, COLUMN = "PngBesitzerin", "ZipMeierhofer", "ZipKommentar", "TsvNotiz"
WORDS = [
    NAME, "Erika", ACCENTED, "1956-11-03", "Sauerbruch", "Lindenweg", "Charite", "SUB-MUSTERMANN",
    *(value for value in ELEMENTS.values() if "^" not in value and " " not in value),
    PRIVATE, UID_ROOT, *NIFTI.values(), EXTENSION, SIDECAR, AUTHOR, PNG_TEXT, ZIPPED, ZIP_COMMENT,
    COLUMN,
]  # fmt: skip
NIFTI_PATIENTS = 8
KEY = "a secret that only this hospital knows"
TINY = {
    "data": {"batches": ["b"]},
    "ingest": {"min_slices": 3, "key_fingerprint": key_fingerprint(KEY.encode())},
    "slices": {
        "size": 32, "spacing_mm": 6.0, "modalities": ["FLAIR"], "folds": [0], "val_fraction": 0.3,
        "test_fraction": 0.3, "seed": 1, "training_slices": "in-range",
    },
    "synthetic": {"source": "data/gan"},
    "train_gan": {"seed": 1, "threads": 1, "steps": 20, "width": 8, "watch_every": 20},
    "generate": {"count": 40, "seed": 1, "threads": 1},
    "gate": {"seed": 1, "threads": 1, "draws": 20, "segmenter_steps": 0},
    "pool": {"ratio": 1.0, "min_images": 2, "seed": 1},
    "downstream": {
        "tasks": ["classify", "segment"], "arms": ["real", "real+synthetic"], "seeds": [0],
        "reruns": 0, "permutations": 20, "threads": 1,
        "classify": {"steps": 8, "batch": 8, "learning_rate": 0.003, "evaluations": 1},
        "segment": {"steps": 8, "batch": 8, "learning_rate": 0.01, "evaluations": 1},
    },
    "lift": {"draws": 100, "seed": 1},
    "report": {"tiles": 4, "pairs": 2},
    "release": {"version": "0.1.0"},
}  # fmt: skip


def person(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A head with a tumour, (X,Y,Z) int16, and its mask."""
    rng = np.random.default_rng(seed)
    mm = head((48, 48, 14), (4.0, 4.0, 8.0))
    brain = (mm[0] / 65) ** 2 + (mm[1] / 80) ** 2 + (mm[2] / 60) ** 2 < 1
    centre = rng.uniform(-25, 25, 3)
    mask = (np.linalg.norm(mm - centre[:, None, None, None], axis=0) < 20) & brain
    volume = brain * (100.0 + rng.normal(0, 8, brain.shape)) + 60.0 * mask
    return volume.clip(0).astype(np.int16), mask.astype(np.uint8)


def planted(volume: np.ndarray) -> nib.Nifti1Image:
    """A NIfTI whose header and extension tell who it is."""
    image = nib.Nifti1Image(volume, np.diag([-4.0, -4.0, 8.0, 1.0]))
    for field, text in NIFTI.items():
        image.header[field] = text.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", EXTENSION.encode()))
    return image


def plant(_: int, dataset: FileDataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in ELEMENTS.items():
        setattr(dataset, keyword, value)
    dataset.FrameOfReferenceUID = f"{UID_ROOT}.2"
    dataset.private_block(0x0051, "SIEMENS", create=True).add_new(1, "LO", PRIVATE)


def fill(raw: Path) -> None:
    """Patients in BIDS, DICOM, a zip and pictures; their names wherever a name can stand."""
    for number in range(NIFTI_PATIENTS):
        volume, mask = person(number)
        name = f"sub-{NAME}{number:02d}"
        anat = raw / name / "anat"
        marks = raw / "derivatives/masks" / name / "anat"
        anat.mkdir(parents=True)
        marks.mkdir(parents=True)
        nib.save(planted(volume), anat / f"{name}_FLAIR.nii.gz")
        nib.save(planted(mask), marks / f"{name}_label-tumor_mask.nii.gz")
        (anat / f"{name}_FLAIR.json").write_text(json.dumps({"PatientName": SIDECAR}))
    (raw / "dataset_description.json").write_text(json.dumps({"Authors": [AUTHOR]}))
    rows = [f"sub-{NAME}{n:02d}\tCharite\t{COLUMN}\t1956-11-03" for n in range(NIFTI_PATIENTS)]
    columns = "participant_id\tsite\tnote\tbirth"
    (raw / "participants.tsv").write_text("\n".join([columns, *rows]))

    volume, mask = person(20)
    folder = raw / f"{NAME}_Erika_19561103"
    write_series(folder, volume.T, change=plant, seed="one", spacing=(4.0, 4.0), gap=8.0)
    write_segmentation(folder / f"seg_{ACCENTED}.dcm", folder, mask.T)
    apart = raw.parent / "apart"
    write_series(
        apart, person(21)[0].T, patient="two", change=plant, seed="two", spacing=(4.0, 4.0), gap=8.0
    )
    short = raw.parent / "short"  # and a series that ingest must tell of
    write_series(short, volume.T[:2], patient="three", change=plant, seed="three")
    with zipfile.ZipFile(raw / f"{ACCENTED}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = ZIP_COMMENT.encode()
        for path in sorted(apart.iterdir()):
            archive.write(path, f"{ZIPPED}/{path.name}")
        for path in sorted(short.iterdir()):
            archive.write(path, f"Charite-Mitte/{path.name}")
    shutil.rmtree(apart)
    shutil.rmtree(short)

    text = PngInfo()
    text.add_text("Author", PNG_TEXT, zip=True)
    picture = Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64))
    picture.save(raw / f"{NAME}_{ACCENTED}_T2.png", pnginfo=text)
    (raw / "pictures.csv").write_text(f"file,patient\n{NAME}_{ACCENTED}_T2.png,{NAME}\n")
    # What cannot be read must be told of, and not by its name.
    write_series(raw / "Erika_short", volume.T[:2], change=plant, seed="short")
    (raw / f"{NAME}.docx").write_bytes(NAME.encode())
    broken = bytearray(next(folder.glob("slice*.dcm")).read_bytes())
    broken[300:340] = b"\xff" * 40
    (raw / f"Erika_{ACCENTED}.dcm").write_bytes(bytes(broken))
    (raw / f"{NAME}.nii.gz").write_bytes(b"\x1f\x8b" + NAME.encode())


def run_all(root: Path) -> None:
    """Every stage in its order; the verdict is overruled, so that there is a release to search."""
    from tasks.downstream.__main__ import main as downstream
    from tasks.gate.__main__ import main as gate
    from tasks.generate.__main__ import main as generate
    from tasks.ingest.__main__ import main as ingest
    from tasks.lift.__main__ import main as lift
    from tasks.pool.__main__ import main as pool
    from tasks.release.__main__ import main as release
    from tasks.report.__main__ import main as report
    from tasks.slices.__main__ import main as slices
    from tasks.train_gan.__main__ import main as train_gan

    ingest("b")
    slices()
    train_gan("0")
    generate("0")
    gate("0")
    report_and_release: list[Callable[[], None]] = [report, release]
    judged = root / "data/gate/0"
    samples = pd.read_parquet(judged / "samples.parquet")
    samples.assign(accepted=True, reason=None).astype({"reason": "str"}).to_parquet(
        judged / "samples.parquet"
    )
    metrics = json.loads((judged / "metrics.json").read_text())
    (judged / "metrics.json").write_text(json.dumps(metrics | {"verdict": "accepted"}))
    pool()
    for task in ("classify", "segment"):
        for arm in ("real", "real+synthetic"):
            downstream(task, arm)
    lift()
    for stage in report_and_release:
        stage()


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of the file broken on purpose
def test_no_planted_identity_is_in_any_output_log_report_or_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    raw = tmp_path / "data/raw/b"
    raw.mkdir(parents=True)
    fill(raw)
    unseen = set(WORDS) - {word for word, _ in leaks(below(raw), WORDS, damaged=True)}
    assert not unseen, f"these were never planted, or the search is blind to them: {unseen}"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY))
    (tmp_path / "data/approval.json").write_text('{"decision": "pending"}')
    (tmp_path / "data/review.json").write_text('{"folds": {}}')
    run_all(tmp_path)
    assert (tmp_path / "data/release/release.json").exists()
    assert len(list((tmp_path / "data/release/dicom").rglob("*.dcm"))) > 10
    assert len(pd.read_parquet(tmp_path / "data/volumes/b/rejected.parquet")) >= 5

    alone = tmp_path / "data/raw/c"
    alone.mkdir()
    (alone / f"{NAME}.dcm").write_bytes(b"Erika")
    from tasks.ingest.__main__ import main as ingest

    with pytest.raises(InputError) as refusal:
        ingest("c")
    output = capfd.readouterr()
    logs = [("log", (output.out + output.err + str(refusal.value)).encode())]
    outputs = list(below(tmp_path, without=[tmp_path / "data/raw", tmp_path / ".private"]))
    assert len(outputs) > 100
    assert leaks([*outputs, *logs], [*WORDS, KEY]) == []


def test_no_planted_identity_is_in_what_dvc_and_the_flow_say_or_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines that the runner hands on are those that Prefect logs."""
    root = clone(tmp_path / "repository")
    fill(root / "data/raw/b")
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["data"]["batches"] = ["b"]
    tree["ingest"] |= TINY["ingest"]
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.chdir(root)
    output: list[str] = []
    DvcRunner(root).repro("ingest@b", output.append)
    logs = "\n".join(output)
    assert f"{NIFTI_PATIENTS + 3} volumes" in logs
    private = root / ".private"
    kept = list(below(root, without=[root / "data/raw/b", private]))
    assert "dvc.lock" in dict(kept)
    assert leaks([*kept, ("log", logs.encode())], [*WORDS, KEY]) == []
    assert list((private / "dvc").rglob("*.db"))  # its paths of raw files, for the owner's eyes
    assert private.stat().st_mode & 0o077 == 0
