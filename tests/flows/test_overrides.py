"""Values that a run sets: where they come from, who reads them, that none is left behind."""

import os
from pathlib import Path
from typing import Any

import pytest

from flows import preflight
from flows.dvc_params import parse_with_overrides
from flows.overrides import PRESETS, collect_overrides, describe_changes, overridden, read_preset
from tasks import params
from tasks.stage.errors import InputError
from tasks.stage.params_file import OVERRIDES_VARIABLE, PARAMS, read_overrides
from tests.imports import ROOT


@pytest.fixture(autouse=True)
def clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("train_gan.steps=4000", "train_gan.steps", 4000),
        ("train_gan.learning_rate=1e-4", "train_gan.learning_rate", 1e-4),
        ("slices.folds=[0, 010, b]", "slices.folds", [0, 10, "b"]),  # YAML 1.2, as DVC reads it
        ("release.date=2030-01-02", "release.date", "2030-01-02"),
        ("release.license=a = b", "release.license", "a = b"),
        ("gate.inception=null", "gate.inception", None),
    ],
)
def test_a_value_is_read_as_in_params_yaml(word: str, key: str, value: object) -> None:
    assert collect_overrides(words=[word]) == {key: value}


def test_what_comes_later_wins_and_a_group_keeps_its_other_keys() -> None:
    values: dict[str, Any] = {"train_gan": {"steps": 7, "diffaugment": {"cutout": 0.5}}}
    found = collect_overrides(["gpu"], ["train_gan.steps=5"], values)
    assert found["train_gan.steps"] == 7
    assert found["slices.size"] == 128
    with overridden(found):
        tree = params.load_params()["train_gan"]
    assert tree["diffaugment"] == {
        "brightness": 0.2, "contrast": 0.2, "translation": 0.125, "cutout": 0.5
    }  # fmt: skip


WRONG = {
    "train_gan.steps": "expected KEY=VALUE",
    "trian_gan.steps=4": "did you mean 'train_gan'",
    "train_gan=4": "expected one such as train_gan.steps",
    "train_gan.steps=[4": "not valid YAML",
    "=4": "is no key of params.yaml",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_is_no_key_or_no_value_is_one_line(word: str) -> None:
    with pytest.raises(InputError) as failure:
        collect_overrides(words=[word])
    assert WRONG[word] in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train_gan.stepz=4", "unknown key train_gan.stepz, did you mean 'steps'"),
        ("train_gan.steps=many", "train_gan.steps is 'many'"),
        ("train_gan.steps.x=4", "train_gan.steps is {'x': 4}"),
    ],
)
def test_a_value_is_checked_by_the_models_of_params(word: str, message: str) -> None:
    with (
        overridden(collect_overrides(words=[word])),
        pytest.raises(InputError, match="this run sets") as failure,
    ):
        preflight.check_params()
    assert message in str(failure.value)


def test_a_preset_that_is_missing_names_those_that_are_there() -> None:
    with pytest.raises(InputError, match=r"did you mean 'gpu'\?; presets: gpu, gpu-256"):
        read_preset("gpus")
    with pytest.raises(InputError, match="there is no"):
        read_preset("../params")


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / PRESETS).glob("*.yaml")))
def test_every_preset_is_valid(name: str) -> None:
    with overridden(read_preset(name)):
        preflight.check_params()


def test_stages_and_dvc_read_the_values_and_the_file_stays(tmp_path: Path) -> None:
    before = PARAMS.read_bytes()
    text = PARAMS.read_text()
    with overridden({"train_gan.steps": 5, "release.readers.min_readers": 2}):
        assert params.read_key("train_gan.steps") == 5
        assert params.load_params()["release"]["readers"] == {"min_readers": 2}
        assert parse_with_overrides(text, str(ROOT / "params.yaml"))["train_gan"]["steps"] == 5
        other = parse_with_overrides(text, str(tmp_path / "params.yaml"))
        assert other["train_gan"]["steps"] != 5
        (row, _) = describe_changes(read_overrides())
        assert row == {"key": "train_gan.steps", "params.yaml": "2400", "this run": "5"}
    assert OVERRIDES_VARIABLE not in os.environ
    assert params.read_key("train_gan.steps") != 5
    assert PARAMS.read_bytes() == before


def test_a_value_that_yaml_cannot_hold_is_one_line() -> None:
    with pytest.raises(InputError, match="cannot be set"), overridden({"gate.seed": float("nan")}):
        pass
