"""The study on real patients: its plan asks for what the stages know, its tables say what is so."""

import copy
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import run_study, study_report
from flows.preflight import section_model
from tests.tasks import lift_fixtures

PLAN = Path(__file__).parents[1] / "benchmarks/lgg.yaml"
OWN = Path(__file__).parents[1] / "params.yaml"


DEVELOPMENT = PLAN.with_name("lgg-development.yaml")


@pytest.mark.parametrize("path", [PLAN, DEVELOPMENT], ids=["study", "development"])
def test_every_experiment_of_a_plan_is_one_that_the_stages_accept(path):
    plan = run_study.read_plan(path)
    cells = list(run_study.study_cells(plan))
    assert len({cell.folder for cell in cells}) == len(cells)
    sizes = {(cell.draw, cell.size): None for cell in cells}
    assert [size for _, size in sizes] == plan["sizes"] * len(plan["draws"]), "draw by draw"
    own = yaml.safe_load(OWN.read_text())
    for cell in cells:
        tree = copy.deepcopy(own)
        for key, value in cell.overrides.items():
            *words, last = key.split(".")
            place = tree
            for word in words:
                place = place[word]
            place[last] = value
        for name, section in tree.items():
            section_model(name).model_validate(section)
    seeds = {(cell.size, cell.draw): cell.overrides["train_gan.seed"] for cell in cells}
    assert len(set(seeds.values())) == len(sizes), "each size and draw has its own generator"


def test_settings_are_developed_on_other_patients_than_those_who_test(tmp_path):
    """The clone of a plan that names patients holds no other's files."""
    data = tmp_path / "data"
    for name in ("sub-CS4941", "sub-TEST"):
        for folder in (data / name, data / "derivatives/masks" / name):
            folder.mkdir(parents=True)
            (folder / "image.nii.gz").touch()
    clone = run_study.prepare_clone(
        tmp_path / "work", "clone", [data], run_study.read_plan(DEVELOPMENT)
    )
    assert [path.parent.name for path in sorted((clone / "data/raw").rglob("*.gz"))] == (
        ["sub-CS4941"] * 2
    )


def test_overrides_are_written_as_hydra_reads_them():
    value = {"score": "realism", "keep": 0.5}
    assert run_study.hydra_value({"a": [1, value], "b": None}) == (
        "{a:[1,{score:realism,keep:0.5}],b:null}"
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two sizes, three draws: candidates gain .2, and the best on validation the most."""
    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    names = lift_fixtures.subjects(24)
    level = rng.uniform(0.3, 0.5, 24)
    gains = {"real": 0.0, "real+classical": 0.02, "synthetic": -0.1}
    gains |= {"real+synthetic": 0.2, "real+classical+synthetic": 0.3}
    for size in (5, 10):
        for draw in range(3):
            folder = root / f"results/{size}-{draw}/base"
            for arm, gain in gains.items():
                values = level + gain + 0.02 * np.log2(size) + 0.01 * rng.normal(size=24)
                lift_fixtures.write_segment(
                    folder, arm, lift_fixtures.segment_arm({("0", draw): values}, names)
                )
            (folder / "data/downstream").rename(folder / "downstream")
            best = folder / "downstream/segment-real+classical+synthetic/runs.parquet"
            lift_fixtures.pd.read_parquet(best).assign(val_metric=0.9).to_parquet(best)
            measure = {"ratio": 2.0, "value": 0.9, "baseline": 0.8}
            verdict = {"verdict": "accepted", "images": {"n": 4, "accepted": 3}}
            (folder / "gate/0").mkdir(parents=True)
            (folder / "gate/0/metrics.json").write_text(
                json.dumps(verdict | {"measures": {"frechet": measure, "nearest_ssim": measure}})
            )
    plan = {"claims": [5, 10]}
    (root / "plan.yaml").write_text(yaml.safe_dump(plan))
    return root


@pytest.fixture
def study(results, tmp_path):
    """A copy of the results."""
    return shutil.copytree(results, tmp_path / "study")


def tables_of(study, monkeypatch, capsys, *more):
    """What `benchmarks.study_report` prints, with single blanks."""
    words = ["--work", str(study), "--plan", str(study / "plan.yaml"), "--bootstrap", "400", *more]
    monkeypatch.setattr(sys, "argv", ["lift", *words])
    study_report.main()
    return re.sub(" +", " ", capsys.readouterr().out)


def test_the_tables_claim_what_the_chosen_candidate_gained(study, monkeypatch, capsys):
    tables = tables_of(study, monkeypatch, capsys, "--plot", str(study / "curves.png"))
    assert "Chosen on validation patients: real+classical+synthetic 6 times." in tables
    assert "| real+classical+synthetic | 0.900 | 0.900 |" in tables
    assert "n = 5: **helps**; n = 10: **helps**" in tables
    assert "| 10 | chosen | 10.0 (10.0 to 10.0) |" in tables
    assert "| 5 | 0 | accepted | 3 of 4 | 2.000 | 0.900 | 0.800 |" in tables
    assert "| 5 | chosen | best without synthetic | +0.3" in tables
    assert "| 5 | real+classical+synthetic, not chosen | real+classical | +0.2" in tables
    assert (study / "curves.png").stat().st_size > 5000


def test_another_family_than_the_plans_can_be_asked_for(study, monkeypatch, capsys):
    tables = tables_of(study, monkeypatch, capsys, "--claims", "10")
    assert "\nn = 10: **helps**\n" in tables


def test_a_draw_that_lacks_an_arm_is_left_out_of_its_size(study, monkeypatch, capsys):
    place = study / "results/10-2/base/downstream/segment-synthetic"
    runs = lift_fixtures.pd.read_parquet(place / "runs.parquet")
    runs.iloc[:0].to_parquet(place / "runs.parquet")
    tables = tables_of(study, monkeypatch, capsys)
    assert "Size 10, draw 2 is left out: no result of synthetic." in tables
    assert "draws by size: {5: 3, 10: 2}" in tables


@pytest.mark.parametrize(("arm", "draws"), [("real", 2), ("synthetic", 3)])
def test_a_network_that_learnt_nothing_costs_a_draw_unless_it_is_what_the_arm_is_worth(
    study, monkeypatch, capsys, arm, draws
):
    place = study / f"results/5-1/base/downstream/segment-{arm}/runs.parquet"
    lift_fixtures.pd.read_parquet(place).assign(learnt=False).to_parquet(place)
    tables = tables_of(study, monkeypatch, capsys)
    assert f"Size 5, draw 1: {arm} learnt nothing of validation patients." in tables
    assert f"draws by size: {{5: {draws}, 10: 3}}" in tables


def test_a_study_that_goes_on_is_read_as_far_as_it_is(study, monkeypatch, capsys):
    """One draw of the larger size, and results that are being collected."""
    for draw in (1, 2):
        shutil.rmtree(study / f"results/10-{draw}")
    (study / "results/5-0/.few.partial/downstream/segment-real+synthetic").mkdir(parents=True)
    tables = tables_of(study, monkeypatch, capsys)
    assert "n = 5: **helps**\n" in tables
    assert re.search(r"^\| 10 \| [.\d]+ \|", tables, re.MULTILINE), "a mean without an interval"


def test_the_split_by_slice_stands_beside_the_split_by_patient(study, monkeypatch, capsys):
    rng, names = np.random.default_rng(1), lift_fixtures.subjects(20)
    arms = {"base": ["real"], "leaky": ["real+slice-split", "random-labels"]}
    for variant, some in arms.items():
        for arm in some:
            seeds = tuple(range(20)) if "random" in arm else (0,)
            table = lift_fixtures.classify_arm(
                names, rng, shift=0 if "random" in arm else 2, seeds=seeds
            )
            lift_fixtures.write_classify(study / "made", arm, table)
            place = study / f"results/10-0/{variant}/downstream/classify-{arm}"
            place.parent.mkdir(parents=True, exist_ok=True)
            (study / f"made/data/downstream/classify-{arm}").rename(place)
    tables = tables_of(study, monkeypatch, capsys).partition("## The split of the seed paper")[2]
    rows = [line.split("|")[2].strip() for line in tables.splitlines() if line.startswith("| 10 |")]
    assert rows == ["real", "random-labels", "real+slice-split"]
    low, high = map(float, re.search(r"random-labels .*\((.*) to (.*)\)", tables).groups())
    assert low < 0.5 < high
