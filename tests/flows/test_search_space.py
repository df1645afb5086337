"""What may be searched, and how it is said."""

from pathlib import Path

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from flows.search_space import (
    check_search_name,
    current_values,
    grid_points,
    invalid_reason,
    parse_distribution,
    parse_fixed_values,
    read_space,
)
from flows.trial_clones import write_params
from tasks.params import load_params
from tasks.stage.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train_gan.learning_rate=1e-4..1e-2:log", FloatDistribution(1e-4, 1e-2, log=True)),
        ("train_gan.r1_gamma=0..2:step=0.5", FloatDistribution(0, 2, step=0.5)),
        ("train_gan.r1_gamma=0..2", FloatDistribution(0, 2)),
        ("train_gan.batch=8..32:step=8", IntDistribution(8, 32, step=8)),
        ("train_gan.batch=8,16", CategoricalDistribution((8, 16))),
        ("train_gan.projection=true,false", CategoricalDistribution((True, False))),
        ("train_gan.loss=logistic,hinge", CategoricalDistribution(("logistic", "hinge"))),
        ("train_gan.diffaugment.cutout=0,.5", CategoricalDistribution((0.0, 0.5))),
    ],
)
def test_lists_and_ranges_are_read_with_the_type_of_their_key(words: str, expected: object) -> None:
    assert read_space([words], None) == {words.partition("=")[0]: expected}


def test_a_file_says_the_same_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("train_gan.batch: [8, 16]\ntrain_gan.learning_rate: 1e-4..1e-2:log\n")
    expected = read_space(["train_gan.batch=8,16", "train_gan.learning_rate=1e-4..1e-2:log"], None)
    assert read_space([], file) == expected
    assert read_space(["train_gan.batch=32"], file)["train_gan.batch"].choices == (32,)


def test_the_default_space_is_valid_and_holds_the_values_of_today() -> None:
    assert current_values(read_space([], None)) is not None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train_gan.batch", "expected KEY=VALUES"),
        ("slices.size=64,128", "change the slices that trials are compared on"),
        ("train_gan.bach=8,16", "unknown key train_gan.bach, did you mean 'batch'?"),
        ("train_gan.diffaugment=1,2", "is a group"),
        ("train_gan.batch=8,many", "invalid literal"),
        ("train_gan.batch=0..8", "train_gan.batch is 0"),
        ("train_gan.learning_rate=0..0.01:log", "`low > 0` must hold"),
        ("train_gan.learning_rate=1e-2..1e-4", "low <= high"),
        ("train_gan.loss=logistic,huber", "train_gan.loss is 'huber'"),
    ],
)
def test_what_cannot_be_searched_is_one_line(words: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_space([words], None)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_values_for_all_trials_are_single_ones() -> None:
    assert parse_fixed_values(["train_gan.steps=80"]) == {"train_gan.steps": 80}
    for word in ("train_gan.steps", "train_gan.steps=8,9", "train_gan.steps=8..9"):
        with pytest.raises(InputError, match="expected KEY=VALUE"):
            parse_fixed_values([word])


@pytest.mark.parametrize("name", ["", "../x", "a b", "-a"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="letters, digits and hyphens"):
        check_search_name(name)


def test_a_combination_that_params_refuse_is_found_before_it_is_trained() -> None:
    message = invalid_reason({"train_gan.discriminator_norm": "batch", "train_gan.r1_gamma": 1.0})
    assert "gradient" in message and "{" not in message
    assert invalid_reason({"train_gan.r1_gamma": 1.0}) == ""


def test_a_grid_is_every_combination_and_a_range_its_ends_and_middle() -> None:
    space = {
        "train_gan.learning_rate": parse_distribution("train_gan.learning_rate", "1e-4..1e-2:log"),
        "train_gan.batch": parse_distribution("train_gan.batch", "8..24:step=8"),
        "train_gan.projection": parse_distribution("train_gan.projection", "true,false"),
    }
    points = grid_points(space)
    assert len(points) == 3 * 3 * 2
    assert sorted({point["train_gan.learning_rate"] for point in points}) == [1e-4, 1e-3, 1e-2]
    assert sorted({point["train_gan.batch"] for point in points}) == [8, 16, 24]


def test_values_are_written_between_the_comments(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    path.write_text(before)
    values = {
        "train_gan.learning_rate": 0.00034, "train_gan.projection": False,
        "train_gan.diffaugment.cutout": 0.5,
    }  # fmt: skip
    assert "projection" not in load_params()["train_gan"]
    write_params(path, values)
    after = path.read_text()
    assert [line for line in before.splitlines() if "#" in line] == [
        line for line in after.splitlines() if "#" in line
    ]
    tree = yaml.safe_load(after)["train_gan"]
    assert (tree["learning_rate"], tree["projection"], tree["diffaugment"]["cutout"]) == (
        0.00034, False, 0.5,
    )  # fmt: skip
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert len(changed) == 2 + 1 + 2  # two lines are other ones, one is new
