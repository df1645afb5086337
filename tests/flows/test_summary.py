"""What the summary says beside the verdict."""

import json
from pathlib import Path

import pytest
import yaml

from flows import summary


@pytest.mark.parametrize("known", [True, False])
def test_the_verdict_warns_where_slices_name_no_patient(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump({"slices": {"folds": [0]}}))
    Path("data/slices").mkdir(parents=True)
    summary.STATS.write_text(json.dumps({"patients_known": known}))
    found = summary.read()
    assert ("The split may leak" in found.line) is not known
    assert found.line in summary.text(found)
