"""77 real patients, copied in as their archive publishes them, through DVC to their slices."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tasks.ingest.privacy.pseudonyms import KEY_VARIABLE, Pseudonyms, key_fingerprint
from tests.test_end_to_end import clone, run

LGG = Path(__file__).parents[2] / "shared/data/lgg"
KEY = "a key of one's own"


@pytest.mark.verify
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not LGG.is_dir(), reason="../shared/data/lgg is absent")
def test_every_patient_keeps_its_slices_and_tumour_slices(tmp_path: Path) -> None:
    """`participants.tsv` counts them before any are left out for their position."""
    root = clone(tmp_path / "repository")
    shutil.copytree(LGG, root / "data/raw/lgg")
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["data"]["batches"] = ["lgg"]
    tree["ingest"]["key_fingerprint"] = key_fingerprint(KEY.encode())
    tree["slices"] |= {"spacing_mm": 3.6, "val_fraction": 0.13, "test_fraction": 0.48}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    done = run(root, "dvc", "repro", "slices", **{KEY_VARIABLE: KEY})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    stats = json.loads((root / "data/slices/stats.json").read_text())
    names = Pseudonyms(KEY.encode())
    people = pd.read_csv(LGG / "participants.tsv", sep="\t").to_dict("records")
    expected = {
        names.subject(participant["participant_id"].removeprefix("sub-")): (
            participant["site"], participant["slices"], participant["tumor_slices"]
        )
        for participant in people
    }  # fmt: skip
    slices_of_patient = {
        subject: (of["site"], of["slices"], of["tumor_slices"])
        for subject, of in stats["subjects"].items()
    }
    assert len(slices_of_patient) == 77
    assert slices_of_patient == expected
    assert stats["skipped"] == []
    table = pd.read_parquet(root / "data/slices/slices.parquet")
    assert table["subject"].nunique() == 77
    assert (table.groupby("partition_0")["site"].nunique() == 4).all()
