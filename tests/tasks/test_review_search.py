"""Readers compare the generators of a search, blinded, and their scores rank its trials."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from models.dcgan import Architecture
from tasks.commands.review.search_study import export_search, search_folder
from tasks.commands.review.studies import Study, open_study
from tasks.stage.errors import InputError
from tests.tasks.export_fixtures import lively
from tests.tasks.review_fixtures import client_of, make_run, truth_of

HEAD = "trial,frechet_ratio,state,steps,train_gan.learning_rate,experiment,remark"
ROWS = ["0,3.5,done,100,0.001,,", "1,2.5,done,100,0.002,,", "2,1.5,collapsed,100,0.003,,",
        "3,1.0,done,100,0.004,,as trial 1", "4,9.0,done,100,0.005,,"]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run beside a search that kept the generators of trials 0, 1 and 4."""
    root = make_run(tmp_path_factory.mktemp("search") / "run")
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["generate"] |= {"threads": 1, "min_tumor_px": 1}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    folder = root / ".tune/gan"
    folder.mkdir(parents=True)
    (folder / "trials.csv").write_text("\n".join([HEAD, *ROWS, ""]))
    architecture = Architecture(size=32, latent=8, width=4)
    for trial in (0, 1, 4):
        own = folder / "generators" / str(trial)
        own.mkdir(parents=True)
        generator = lively(architecture)
        with torch.no_grad():
            generator.head.bias[:-1] += 0.1 * trial
        save_file(generator.state_dict(), own / "generator.safetensors")
        config = {"kind": "dcgan", "architecture": asdict(architecture)}
        (own / "config.json").write_text(json.dumps(config))
    return root


def test_readers_scores_rank_the_best_trials_of_a_search(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    study = Study("0", search="gan", best=2)
    store, pool = open_study(study, count=24)
    trials = [each.trial for each in store.slices]
    assert {trial: trials.count(trial) for trial in set(trials)} == {None: 12, 0: 6, 1: 6}
    labels = [each.label for each in store.slices]
    assert sum(labels) == 12
    client = client_of(store, pool)
    with pytest.raises(InputError, match="whose realism a reader rated"):
        export_search(store, pool, search_folder("gan"))
    for reader in ("A", "B"):
        for reading in client.get(f"/api/study?reader={reader}").json()["order"]:
            shown = truth_of(store, reading, reader)
            score = {None: 5, 0: 4, 1: 2 + int(reader == "B")}[shown.trial]
            answer = {"decision": "real", "scores": {"realism": score}, "done": True}
            assert client.put(f"/api/answers/{reading}?reader={reader}", json=answer).is_success
    store.close()
    store, pool = open_study(study)  # resumed: the same slices are sampled again
    results = export_search(store, pool, search_folder("gan"))
    store.close()
    assert {trial: own["realism"] for trial, own in results.items()} == {"0": 4.0, "1": 2.5}
    assert results["0"]["slices"] == 6
    assert json.loads((root / ".tune/gan/readers.json").read_text())["readers"] == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", "run `auglift tune --name none` first"), ("a/b", "a name has letters")],
)
def test_a_search_that_is_none_is_one_line(
    root: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match=message):
        open_study(Study("0", search=name), count=24)
    assert not Path(f".review/search-{name}.db").exists()
