"""`dvc.yaml` says all that a stage reads: what it leaves out, DVC would keep stale results of."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.preflight import section_model
from tasks import params
from tests.imports import ROOT, parse, reached


@dataclass(frozen=True)
class Declared:
    """A stage as `dvc.yaml` has it, before its `matrix` is unrolled."""

    name: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...] = ()
    items: tuple[str, ...] = ()

    def covers(self, path: Path) -> bool:
        """A file is a dependency itself, or lies in a folder that is one."""
        word = path.relative_to(ROOT).as_posix()
        return any(word == dep or word.startswith(f"{dep}/") for dep in self.deps)


def declared() -> Iterator[Declared]:
    for file in ("dvc.yaml", "data/raw/dvc.yaml"):
        for name, entry in yaml.safe_load((ROOT / file).read_text())["stages"].items():
            keys = tuple(map(str, entry.get("params", [])))
            outs, items = tuple(entry["outs"]), tuple(entry.get("matrix", ()))
            yield Declared(name, entry["cmd"], tuple(entry["deps"]), keys, outs, items)


STAGES = list(declared())
every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)


def own_files(stage: Declared) -> set[Path]:
    """The stage's package and all first-party modules that it imports."""
    return reached(ROOT.joinpath("tasks", stage.name).rglob("*.py"))


def says_something(path: Path) -> bool:
    """Whether a module holds more than a docstring."""
    body = parse(path).body
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body
    )


@every_stage
def test_a_stage_depends_on_every_module_it_imports(stage: Declared) -> None:
    missing = [path for path in own_files(stage) if says_something(path) and not stage.covers(path)]
    assert not missing, f"add to deps: {[str(path.relative_to(ROOT)) for path in missing]}"


@every_stage
def test_a_stage_depends_on_no_code_that_it_does_not_import(stage: Declared) -> None:
    used = own_files(stage)
    for dep in stage.deps:
        if not dep.startswith(("tasks", "models")) or dep == "tasks/__init__.py":
            continue
        path = ROOT / dep
        assert path in used or any(path in file.parents for file in used), f"not used: {dep}"


@every_stage
def test_what_a_stage_depends_on_is_in_the_repository(stage: Declared) -> None:
    for dep in stage.deps:
        if not dep.startswith(("data/", "${")):
            assert (ROOT / dep).exists(), dep


@every_stage
def test_a_stage_lists_every_key_of_params_it_reads(stage: Declared) -> None:
    missing = sorted(key for key in keys_read(stage) if not listed(stage, key))
    assert not missing, f"add to params: {missing}"


@every_stage
def test_the_keys_a_stage_lists_are_in_params_yaml(stage: Declared) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in stage.params:
        value: Any = tree
        for word in re.sub(r"\$\{item\.task\}", "classify", key).split("."):
            assert word in value, key
            value = value[word]


@every_stage
def test_a_stage_is_named_like_its_module_and_is_the_child_of_dvc(stage: Declared) -> None:
    assert stage.cmd.startswith(f"exec python -m tasks.{stage.name}")


@every_stage
def test_an_item_reaches_the_shell_by_dvcs_quoting_and_no_path_that_is_not_checked(
    stage: Declared,
) -> None:
    """Of a `matrix`, `${item}` is `--fold 'NAME'`; `${item.fold}` would stand there unquoted."""
    assert re.findall(r"\$\{.*?\}", stage.cmd) == (["${item}"] if stage.items else [])
    used = {word for out in stage.outs for word in re.findall(r"\$\{item\.(\w+)\}", out)}
    assert used == set(stage.items)
    if stage.items:
        names = "-".join(f"${{item.{item}}}" for item in stage.items)
        assert f"data/names/{stage.name}/item-{names}.word" in stage.outs
        body = parse(ROOT / "tasks" / stage.name / "__main__.py").body
        (main,) = (node for node in body if getattr(node, "name", "") == "main")
        assert isinstance(main, ast.FunctionDef)
        assert tuple(each.arg for each in main.args.args) == stage.items


@every_stage
def test_a_folder_of_siblings_is_read_after_it_was_tidied(stage: Declared) -> None:
    siblings = {out.rpartition("/")[0] for other in STAGES if other.items for out in other.outs}
    if stage.name == "listed":
        return
    for dep in stage.deps:
        if dep in siblings or dep == "${synthetic.source}":
            folder = "gan" if dep.startswith("$") else dep.removeprefix("data/")
            assert f"data/listed/{folder}.json" in stage.deps, dep


def listed(stage: Declared, key: str) -> bool:
    """A key is listed itself, or a section around it; `${item.task}` stands for each task."""
    patterns = [re.escape(word).replace(r"\$\{item\.task\}", r"\w+") for word in stage.params]
    return any(re.fullmatch(rf"{pattern}(\..+)?", key) for pattern in patterns)


def keys_read(stage: Declared) -> set[str]:
    """Keys of `params.yaml` that the stage's code asks for.

    A section that is listed as a whole counts as one key; of one that is listed by its leaves,
    each field counts that the stage's own modules use.
    """
    keys: set[str] = set()
    for path in own_files(stage):
        if path.is_relative_to(ROOT / "tasks/params"):
            continue
        for node in ast.walk(parse(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func) == "params.read_key":
                assert isinstance(node.args[0], ast.Constant), f"{path}: a literal key is needed"
                keys.add(str(node.args[0].value))
            elif ast.unparse(node.func) == "params.read_section":
                section = section_of(path, ast.unparse(node.args[0]))
                keys |= {section} if section in stage.params else fields_used(stage, section)
    return keys


def section_of(path: Path, name: str) -> str:
    """The section that a model's name stands for in a file: the module it was imported from."""
    for node in ast.walk(parse(path)):
        if not (isinstance(node, ast.ImportFrom) and str(node.module).startswith("tasks.params.")):
            continue
        if name in {alias.asname or alias.name for alias in node.names}:
            return str(node.module).rpartition(".")[2]
    raise AssertionError(f"{path}: import {name} from tasks.params.SECTION")


def fields_used(stage: Declared, section: str) -> set[str]:
    """Fields of a section's model that stand behind a dot, or as a text, in the stage's code."""
    fields = set(section_model(section).model_fields)
    words: set[str] = set()
    for path in ROOT.joinpath("tasks", stage.name).rglob("*.py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    return {f"{section}.{word}" for word in words & fields}


def test_params_yaml_is_valid() -> None:
    params_here = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name in params.SECTIONS:
        section_model(name).model_validate(params_here[name])
    assert list(params_here) == list(params.SECTIONS)
