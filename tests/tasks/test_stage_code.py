"""What a resumed training or a cached run depends on: the code that `dvc.yaml` names."""

from pathlib import Path

import pytest
import yaml

from tasks.common import stage_code
from tasks.common.stage_code import code_files
from tasks.downstream import run_cache
from tasks.train_gan import checkpoint
from tests.imports import ROOT, parse, reached


@pytest.mark.parametrize("stage", ["train_gan", "downstream"])
def test_the_code_of_a_stage_holds_what_its_modules_share(stage: str) -> None:
    files = {str(path.relative_to(ROOT)) for path in code_files(stage)}
    assert {
        "tasks/common/torch_setup.py",
        "tasks/common/slice_set.py",
        f"tasks/{stage}/__main__.py",
    } <= files
    assert all(name.endswith(".py") for name in files)


@pytest.mark.parametrize("stage", ["train_gan", "downstream"])
def test_the_code_of_a_stage_holds_every_module_that_it_imports(stage: str) -> None:
    """However the modules move: what `dvc.yaml` leaves out would not start a run anew."""
    imported = reached((ROOT / "tasks" / stage).rglob("*.py"))
    with_code = {path for path in imported if parse(path).body[1:]}
    assert with_code - set(code_files(stage)) == set()


@pytest.mark.parametrize(
    ("stage", "folder_of"),
    [("train_gan", checkpoint.checkpoint_folder), ("downstream", run_cache.cache_folder)],
)
def test_a_change_of_any_listed_module_starts_a_run_anew(
    stage, folder_of, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tasks/own/a.py", "tasks/shared.py", "models/net.py", "tasks/other.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    deps = ["tasks/own", "tasks/shared.py", "models/net.py", "data/slices"]
    body = {"deps": deps}
    tree = {"stages": {stage: {"foreach": ["0"], "do": body} if stage == "train_gan" else body}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(stage_code, "ROOT", tmp_path)
    seen = {folder_of(["word"], [])}
    for name in ("tasks/own/a.py", "tasks/shared.py", "models/net.py"):
        (tmp_path / name).write_text("x = 2\n")
        seen.add(folder_of(["word"], []))
    assert len(seen) == 4
    (tmp_path / "tasks/other.py").write_text("x = 2\n")
    assert folder_of(["word"], []) in seen
