"""Inputs made after public bug reports (`../shared/data/cases`), each run to its right end.

What is right stands in CASES.md there; several ends are right where it names them.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.generate.external_images import read_image_folder
from tasks.ingest.__main__ import main as run_ingest
from tasks.stage.errors import WRONG_INPUT, InputError
from tasks.stage.stage_runtime import read_items
from tests.tasks.test_judge import judge

ROOT = Path(__file__).parents[1]
MAKER = ROOT.parent / "shared/data/cases/make_cases.py"
TUMOUR, RADIUS = np.array([-26.0, -20.0, 4.0]), 16.0  # of the scene, RAS mm

pytestmark = pytest.mark.skipif(not MAKER.is_file(), reason="../shared/data/cases is absent")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one folder a case, and `expect.json` with the params of each."""
    folder = tmp_path_factory.mktemp("cases")
    made = subprocess.run(
        [sys.executable, str(MAKER), str(folder)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


@dataclass
class Ingested:
    """What ingest made of a case: exit code, error line, manifest, rejected codes."""

    root: Path
    code: int
    error: str
    manifest: pd.DataFrame
    codes: list[str]

    def mask(self, row: Any) -> tuple[np.ndarray, np.ndarray]:
        """The mask of a manifest row as (I,J,K) of bool, and its affine."""
        image = nib.load(self.root / "data/volumes/b" / row.mask)
        return np.asanyarray(image.dataobj) > 0, image.affine

    def dice(self, row: Any, radius: float = RADIUS) -> float:
        """Overlap of a row's mask with the scene's tumour."""
        mask, affine = self.mask(row)
        places = np.moveaxis(np.indices(mask.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
        truth = ((places - TUMOUR) ** 2).sum(axis=-1) <= radius**2
        return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))

    def masks_fit(self) -> bool:
        """Whether each volume has a mask and all lie on the tumour."""
        return all(
            row.mask_status == "segmented" and self.dice(row) > 0.9
            for row in self.manifest.itertuples()
        )

    def is_refused_by(self, code: str) -> bool:
        """Whether nothing was read, in one line, and this code says why."""
        return self.code == 2 and self.manifest.empty and self.codes == [code] and bool(self.error)


def ingest(root: Path, case: Path, params: dict[str, Any]) -> Ingested:
    """Run the stage on a copy of a case."""
    shutil.copytree(case, root / "data/raw/b", symlinks=True)
    tree: dict[str, Any] = {"data": {"batches": ["b"]}, "ingest": {}}
    for key, value in params.items():
        *path, last = key.split(".")
        section = tree
        for word in path:
            section = section.setdefault(word, {})
        section[last] = value
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    code, error = 0, ""
    with chdir(root):
        try:
            run_ingest("b")
        except InputError as caught:
            code, error = WRONG_INPUT, str(caught)
    volumes = root / "data/volumes/b"
    rejected = root / ".private/rejected-b.csv"
    return Ingested(
        root,
        code,
        error,
        pd.read_parquet(volumes / "manifest.parquet") if volumes.exists() else pd.DataFrame(),
        sorted(pd.read_csv(rejected).code.unique()) if rejected.exists() else [],
    )


def labelmap_is_a_mask(got: Ingested) -> bool:
    return len(got.manifest) == 1 and got.masks_fit()


def contours_fill_every_slice(got: Ingested) -> bool:
    rows = {row.modality: row for row in got.manifest.itertuples()}
    fits = got.dice(rows["FLAIR"]) > 0.9
    return fits and (rows["T1"].mask_status == "missing" or got.dice(rows["T1"]) > 0.9)


def one_volume(got: Ingested) -> bool:
    return len(got.manifest) == 1 and list(got.manifest["shape"][0]) == [40, 48, 20]


def one_volume_of_right_size(got: Ingested) -> bool:
    return one_volume(got) and np.allclose(got.manifest.spacing_mm[0], [3.6, 3.6, 5])


def strangers_stay_apart(got: Ingested) -> bool:
    return got.is_refused_by("patient-unknown") or got.is_refused_by("patient-ambiguous")


def patients(count: int, volumes: int | None = None, sessions: int = 0) -> Callable[[Any], bool]:
    """So many known patients, each volume with a mask on the tumour."""

    def check(got: Ingested) -> bool:
        table = got.manifest
        visits = table[["subject", "session"]].drop_duplicates().shape[0]
        return (
            table.subject.nunique() == count
            and volumes in (None, len(table))
            and (not sessions or visits == sessions)
            and table.patient_known.all()
            and got.masks_fit()
        )

    return check


def weeks_are_sessions(got: Ingested) -> bool:
    table = got.manifest
    visits = sorted(table.groupby("subject").session.nunique())
    return visits == [2, 3] and set(table.modality) == {"T1c", "FLAIR"} and len(table) == 10


def by_its_grid_or_refused(got: Ingested) -> bool:
    row = got.manifest.iloc[0]
    return got.masks_fit() or (row.mask_status == "missing" and len(got.codes) == 1)


def tissue_is_no_tumour(got: Ingested) -> bool:
    status = sorted(got.manifest.mask_status)
    segmented = next(r for r in got.manifest.itertuples() if r.mask_status == "segmented")
    return status == ["missing", "segmented"] and got.dice(segmented) > 0.9


def annex_is_read_once(got: Ingested) -> bool:
    table = got.manifest
    found = len(table) == 2 and table.subject.nunique() == 2 and set(table.modality) == {"FLAIR"}
    return found and sorted(got.mask(row)[0].sum() for row in table.itertuples()) == [179, 219]


def metres_are_converted(got: Ingested) -> bool:
    return len(got.manifest) == 1 and got.masks_fit()


def cavity_is_no_tumour(got: Ingested) -> bool:
    row = next(got.manifest.itertuples())
    if row.mask_status == "missing":
        return got.codes == ["labels-unknown"]
    mask, affine = got.mask(row)
    centre = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    return bool(np.linalg.norm(centre - TUMOUR) < 3)


def greys_are_as_shown(got: Ingested) -> bool:
    """Air is dark, and the mask, which has no place in space, lies on the bright tumour."""
    if got.manifest.empty:
        return got.is_refused_by("not-greyscale")
    row = next(got.manifest.itertuples())
    grey = np.asanyarray(nib.load(got.root / "data/volumes/b" / row.image).dataobj)
    mask, _ = got.mask(row)
    return bool(grey[:8, :8].mean() < 20 and grey[mask].min() > 3 * grey[~mask].mean())


def class_folders_are_labels(got: Ingested) -> bool:
    counts = got.manifest.label.value_counts().to_dict()
    return (
        len(got.manifest) == 6 and counts == {0: 3, 1: 3} and not got.manifest.patient_known.any()
    )


def backslashes_are_folders(got: Ingested) -> bool:
    table = got.manifest
    with_mask = table[table.mask_status == "segmented"]
    fits = all(got.dice(row) > 0.9 for row in with_mask.itertuples())
    return table.subject.nunique() == 3 and len(table) == 4 and fits and len(with_mask) >= 1


RIGHT: dict[str, Callable[[Ingested], bool]] = {
    "c01-seg-labelmap": labelmap_is_a_mask,
    "c04-rtstruct-thick-contours": contours_fill_every_slice,
    "c05-rtstruct-derived-names": patients(1, 1),
    "c07-enhanced-one-frame-a-file": one_volume,
    "c10-spacing-in-wrong-vr": one_volume_of_right_size,
    "c12-anonymisers-words": strangers_stay_apart,
    "c14-nnunet-layout": patients(3, 12),
    "c16-ucsf-pdgm": patients(3, sessions=4),
    "c17-brats-timepoints": patients(2, 12, sessions=3),
    "c20-lumiere-weeks": weeks_are_sessions,
    "c21-brats20-355": patients(2, 8),
    "c23-mask-identity-affine": by_its_grid_or_refused,
    "c24-fmriprep-dseg": tissue_is_no_tumour,
    "c25-git-annex": annex_is_read_once,
    "c28-nifti-in-metres": metres_are_converted,
    "c31-brats24-resection-cavity": cavity_is_no_tumour,
    "c33-cmyk-jpeg": greys_are_as_shown,
    "c36-brain-tumor-data-set": class_folders_are_labels,
    "c37-zip-backslashes": backslashes_are_folders,
    "c46-one-sop-uid": one_volume,
}


@pytest.mark.parametrize("name", RIGHT)
def test_ingest_ends_right_on(name: str, cases: Path, tmp_path: Path) -> None:
    params = json.loads((cases / "expect.json").read_text())[name].get("params", {})
    got = ingest(tmp_path, cases / name, params)
    assert "\n" not in got.error
    assert RIGHT[name](got), (got.code, got.error, got.codes, got.manifest.to_string())


def test_the_judge_reads_channels_last(cases: Path, tmp_path: Path) -> None:
    """(N,H,W,1) holds the slices of (N,H,W), and what was taken for granted is said."""
    last = cases / "c39-judge-channels-last/synthetic"
    images = np.load(last / "images.npy")
    np.save(tmp_path / "images.npy", images[..., 0])
    assert np.array_equal(read_image_folder(last).images, read_image_folder(tmp_path).images)


def test_the_judge_finds_numbered_patients_on_both_sides(cases: Path, tmp_path: Path) -> None:
    case = shutil.copytree(cases / "c41-judge-numbered-patients", tmp_path / "c")
    code, said = judge(case, "--real", "real", "--synthetic", "synthetic", "--train", "train")
    assert code == 2
    assert "16 patients" in said.splitlines()[-1]


def write_params(root: Path, batch: str) -> None:
    tree = {"data": {"batches": [batch]}, "ingest": {}}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize("name", ["ward 7", "ward@7", "ward$(touch pwned)7"])
def test_a_batch_with_a_hostile_name_is_refused_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tests/test_params_hostile.py` runs the stage itself with such a name."""
    with pytest.raises(SystemExit) as ended:
        read_items("ingest", ["batch"], [name])
    assert ended.value.code == WRONG_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["2024", "a.b"])
def test_a_batch_may_be_called(name: str, cases: Path, tmp_path: Path) -> None:
    shutil.copytree(cases / "c42-batch-names", tmp_path / "data/raw")
    write_params(tmp_path, name)
    with chdir(tmp_path):
        run_ingest(name)
    assert len(pd.read_parquet(tmp_path / "data/volumes" / name / "manifest.parquet")) == 1
