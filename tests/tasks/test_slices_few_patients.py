"""Few patients: which slices are kept of them, and what is said before a generator is trained."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from tasks.common.gate_requirements import why_no_verdict
from tasks.slices.__main__ import main
from tasks.stage.errors import InputError
from tests.tasks.slices_fixtures import ask, outputs, write_cohort

AUTO = {"training_slices": "auto"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sides(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = outputs(root)[2]
    return tuple(table[table["partition_0"] == side] for side in ("train", "val"))


def test_auto_matches_where_that_suffices_the_gate(root: Path) -> None:
    write_cohort(root, 24, caliper=3.0, **AUTO)
    main()
    table, stats = outputs(root)[2:]
    assert stats["training_slices"] == {"0": "matched"}
    ask(root, training_slices="matched")
    main()
    pd.testing.assert_frame_equal(outputs(root)[2], table)


def test_auto_keeps_as_much_of_few_patients_as_the_gate_needs(root: Path) -> None:
    write_cohort(root, 24, train_patients=6, **AUTO)
    main()
    assert outputs(root)[3]["training_slices"]["0"].startswith("in-range")
    for side in sides(root):
        assert len(side) >= 20
        assert (side["label"] == 0).sum() >= 10
    test = outputs(root)[2].query("partition_0 == 'test'")
    ask(root, training_slices="in-range", caliper=9.0)
    main()
    wide = outputs(root)[2].query("partition_0 == 'test'")
    assert len(wide) >= len(test)  # by the caliper alone: test slices are matched, whatever trains


def test_auto_goes_on_where_no_slice_without_tumour_lies_near_enough(root: Path) -> None:
    """Tumours fill the upper half of these brains: hardly a slice is like them in position."""
    write_cohort(root, 24, train_patients=3, caliper=0.1, training_slices="matched")
    with pytest.raises(InputError, match=r"training_slices to auto, widen slices\.caliper"):
        main()
    ask(root, training_slices="auto")
    main()
    assert all(set(side["label"]) == {0, 1} for side in sides(root))


def advice(output: str) -> dict[str, object]:
    """The keys of `slices` that a line of the stage would change."""
    (line,) = [line for line in output.splitlines() if line.startswith("slices: slices.")]
    keys = line.removeprefix("slices: ").split(" would ")[0].split(" and ")
    pairs = (key.removeprefix("slices.").split(": ") for key in keys)
    return {key: yaml.safe_load(value) for key, value in pairs}


@pytest.mark.parametrize("patients", [4, 6])
def test_one_validation_patient_is_told_with_the_fraction_that_gives_two(
    patients: int, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(root, 24, train_patients=patients, val_fraction=0.1, **AUTO)
    main()
    output = capsys.readouterr().out
    assert "the gate will reject every set: 1 validation patient, at least 2 are needed" in output
    assert "null" not in output  # limits of chance do not matter where nothing can be judged
    ask(root, **advice(output))
    main()
    assert not any("patient" in short.finding for short in why_no_verdict(*sides(root)))
    assert "validation patient," not in capsys.readouterr().out


def test_what_no_fraction_can_give_is_said_to_need_patients(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(root, 24, train_patients=3, **AUTO)
    main()
    output = capsys.readouterr().out
    assert "no slices.val_fraction would give the gate more of these patients: raise" in output
    assert "slices.train_patients, now 3, or add patients" in output


def test_two_validation_patients_are_not_told_to_be_too_many(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(root, 24, train_patients=3, val_fraction=0.55, **AUTO)
    main()
    output = capsys.readouterr().out
    assert "1 patients train, 2 validate" in output
    assert "lower slices.val_fraction" not in output
