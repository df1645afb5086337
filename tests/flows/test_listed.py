"""What is no longer listed neither reaches a lock nor makes the next machine compute again."""

import shutil
from pathlib import Path

import pytest

from flows.dvc_graph import read_plan, sort_lock
from flows.dvc_runner import DvcRunner
from tests.flows import dag_with_quick_stages, toy_pipeline

LISTS = {
    "batches": ("data", {"batches": ["phantom", "b"]}, {"batches": ["b"]}),
    "folds": ("slices", {"folds": [0, 1]}, {"folds": [1]}),
    "arms": ("downstream", {"arms": ["real", "real+synthetic"]}, {"arms": ["real"]}),
    "tasks": ("downstream", {"tasks": ["classify", "segment"]}, {"tasks": ["segment"]}),
}
SMALL = {
    "data": {"batches": ["phantom"]},
    "slices": {"folds": [0]},
    "downstream": {"arms": ["real"], "tasks": ["classify"]},
}
WAS = {
    "batches": "volumes/phantom",
    "folds": "gate/0",
    "arms": "downstream/classify-real+synthetic",
    "tasks": "downstream/classify-real",
}


def start(root: Path, **lists: tuple[str, dict[str, list[object]]]) -> Path:
    """A repository with a batch besides the phantom in it, and a remote beside it."""
    dag_with_quick_stages.make_repo(root)
    (root / "data/raw/b").mkdir()
    (root / "data/raw/b/scan").write_text("b")
    for section, values in (*SMALL.items(), *lists.values()):
        toy_pipeline.change_section(root, section, **values)
    dag_with_quick_stages.dvc(root, "remote", "add", "-d", "beside", str(root.parent / "remote"))
    dag_with_quick_stages.dvc(root, "repro")
    dag_with_quick_stages.commit(root)
    return root


def cloned(root: Path, to: Path) -> Path:
    """Another machine: a clone, with the raw scans, after `dvc pull`."""
    dag_with_quick_stages.git(root.parent, "clone", "-q", str(root), str(to))
    shutil.copytree(root / "data/raw/b", to / "data/raw/b")
    (to / "told").mkdir()
    dag_with_quick_stages.dvc(to, "pull")
    return to


def compare(first: Path, second: Path) -> None:
    """The second machine has nothing to do, whatever lies about, and their locks are one."""
    assert dag_with_quick_stages.dvc(second, "status") == "Data and pipelines are up to date.\n"
    dag_with_quick_stages.take_log(second)
    for left in ("data/volumes/old", "data/gan/9", "data/gate/9", "data/downstream/old-arm"):
        (second / left).mkdir(parents=True, exist_ok=True)
        (second / left / "x").write_text("of an earlier run")
    dag_with_quick_stages.dvc(second, "repro")
    assert dag_with_quick_stages.take_log(second) == []
    assert (second / "dvc.lock").read_bytes() == (first / "dvc.lock").read_bytes()
    assert (second / ".unlisted/volumes/old/x").exists()
    assert dag_with_quick_stages.dvc(second, "status") == "Data and pipelines are up to date.\n"


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_a_clone_has_nothing_to_do_after_two_lists_were_shortened(tmp_path: Path) -> None:
    lists = {name: LISTS[name] for name in ("folds", "arms")}
    first = start(
        tmp_path / "first", **{name: (section, long) for name, (section, long, _) in lists.items()}
    )
    for section, _, short in lists.values():
        toy_pipeline.change_section(first, section, **short)
    dag_with_quick_stages.take_log(first)
    dag_with_quick_stages.dvc(first, "repro")
    assert "slices" in dag_with_quick_stages.take_log(first)
    for name in lists:
        assert not (first / "data" / WAS[name]).exists()
        assert (first / ".unlisted" / WAS[name]).is_dir()
    dag_with_quick_stages.commit(first)
    dag_with_quick_stages.dvc(first, "push")
    compare(first, cloned(first, tmp_path / "second"))


@pytest.mark.verify
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", LISTS)
def test_each_list_may_grow_and_shrink(kind: str, tmp_path: Path) -> None:
    section, long, short = LISTS[kind]
    toy_lists = {kind: (section, long)}
    first = start(tmp_path / "first", **toy_lists)
    long_lock = (first / "dvc.lock").read_bytes()
    toy_pipeline.change_section(first, section, **short)
    dag_with_quick_stages.dvc(first, "repro")
    assert not (first / "data" / WAS[kind]).exists()
    dag_with_quick_stages.commit(first)
    dag_with_quick_stages.dvc(first, "push")
    compare(first, cloned(first, tmp_path / "second"))

    toy_pipeline.change_section(first, section, **long)
    dag_with_quick_stages.take_log(first)
    dag_with_quick_stages.dvc(first, "repro")
    assert not {"ingest@phantom", "train_gan@0", "gate@0"} & set(
        dag_with_quick_stages.take_log(first)
    )  # from the cache
    assert (first / "data" / WAS[kind]).is_dir()
    assert (first / "dvc.lock").read_bytes() == long_lock


@pytest.mark.verify
def test_the_flow_tidies_as_dvc_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(tmp_path / "first")
    monkeypatch.chdir(first)
    monkeypatch.setenv("PYTHONPATH", str(toy_pipeline.ROOT))
    assert read_plan().changed == ()
    (first / "data/downstream/old-arm").mkdir()
    (first / "data/downstream/old-arm/x").write_text("of an earlier run")
    lock = (first / "dvc.lock").read_bytes()
    dag_with_quick_stages.take_log(first)
    changed = [stage.address for stage in read_plan().changed]
    assert changed == ["listed@downstream", "lift", "report", "release"]
    for address in changed:
        DvcRunner(first).repro(address, print)
    sort_lock()
    assert dag_with_quick_stages.take_log(first) == []
    assert (first / "dvc.lock").read_bytes() == lock
    assert (first / ".unlisted/downstream/old-arm/x").exists()
    assert read_plan().changed == ()
