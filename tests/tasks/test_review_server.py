"""The reader study's server: who gets in, what is kept, and that nothing tells real from made."""

import base64
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.ensemble import RandomForestClassifier

from tasks.commands.review.__main__ import app
from tasks.commands.review.answer_store import AnswerStore
from tasks.commands.review.answers import check_reader_name
from tasks.commands.review.export_results import export_study
from tasks.commands.review.studies import Study, open_study
from tasks.schemas.review import read_review
from tasks.stage.errors import InputError
from tasks.stage.stage_io import file_lock
from tests.imports import ROOT
from tests.tasks.review_fixtures import TOKEN, client_of, make_run, read_all, study_of, truth_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up run; a test that begins a study in it takes a copy of its own."""
    return make_run(tmp_path_factory.mktemp("review") / "run")


@pytest.fixture
def root(run: Path, tmp_path: Path) -> Path:
    for name in ("data", "params.yaml"):
        (tmp_path / name).symlink_to(run / name)
    return tmp_path


def test_a_study_has_equal_labels_and_no_slice_that_the_generator_saw(root: Path) -> None:
    import pandas as pd

    with study_of(root) as (store, pool):
        table = pd.DataFrame([vars(each) for each in store.slices])
        counts = table.groupby(["origin", "label"]).size()
        assert counts["real"].to_dict() == counts["synthetic"].to_dict()
        assert len(table) == 40
        real = pd.read_parquet(root / "data/slices/slices.parquet")
        shown = real.loc[table.loc[table["origin"] == "real", "row"]]
        assert set(shown["partition_0"]) == {"val"}
        assert shown["subject"].nunique() == real[real["partition_0"] == "val"]["subject"].nunique()
        gated = pd.read_parquet(root / "data/gate/0/samples.parquet")
        assert gated.loc[table.loc[table["origin"] == "synthetic", "row"], "accepted"].all()
        assert pool.values.dtype == np.uint16
        assert pool.values.max() <= 4095


def test_only_the_token_opens_the_study(root: Path) -> None:
    with study_of(root) as (store, pool):
        client = client_of(store, pool)
        stranger = type(client)(client.app, base_url="http://127.0.0.1")
        for address in ("/", "/?token=guess", "/api/study?reader=AB", "/api/slices/1"):
            response = stranger.get(address)
            assert response.status_code == 403
            assert "does not open the study" in response.text
        rebound = stranger.get(f"/?token={TOKEN}", headers={"host": "evil.example:80"})
        assert rebound.status_code == 400
        assert store.readers() == []


@pytest.mark.parametrize("name", ["a/b", "../a", "", " ", "a\nb", "-a", "x" * 200])
def test_a_reader_name_that_is_no_word_is_one_line(root: Path, name: str) -> None:
    with pytest.raises(InputError, match="a name has"):
        check_reader_name(name)
    if not name:
        return
    with study_of(root) as (store, pool):
        client = client_of(store, pool)
        page = client.get("/", params={"reader": name})
        assert page.status_code == 422
        assert "a name has" in page.text
        assert client.get("/api/study", params={"reader": name}).status_code == 422
        assert store.readers() == []


def test_a_study_for_one_reader_takes_no_other(root: Path) -> None:
    with study_of(root) as (store, pool):
        client = client_of(store, pool, reader="AB")
        assert "for the reader AB only" in client.get("/?reader=CD").text
        assert client.get("/").status_code == 200
        assert 'data-reader="AB"' in client.get("/").text


def wrong_answers(size: int) -> list[dict[str, Any]]:
    def mask(values: list[int]) -> str:
        return base64.b64encode(bytes(values)).decode()

    return [
        {"decision": "maybe"},
        {"done": True},
        {"scores": {"realism": 6}},
        {"scores": {"beauty": 3}},
        {"artefact_kinds": ["dragons"]},
        {"comment": "x" * 2001},
        {"seconds": -1},
        {"outline": "no base64!"},
        {"outline": mask([1] * (size - 1))},
        {"outline": mask([2] * size)},
        {"patient": "John Doe"},
    ]


def test_a_wrong_answer_is_refused_and_nothing_is_saved(root: Path) -> None:
    with study_of(root) as (store, pool):
        client = client_of(store, pool)
        (first, *_) = client.get("/api/study?reader=AB").json()["order"]
        (others, *_) = client.get("/api/study?reader=CD").json()["order"]
        for answer in wrong_answers(pool.masks[0].size):
            response = client.put(f"/api/answers/{first}?reader=AB", json=answer)
            assert response.status_code == 422, answer
            assert response.json()["detail"]
        body = {"decision": "real", "done": True}
        assert client.put(f"/api/answers/{others}?reader=AB", json=body).status_code == 404
        assert client.put("/api/answers/no-such?reader=AB", json=body).status_code == 404
        assert store.answers("AB") == store.answers("CD") == {}


def test_a_reader_goes_on_where_the_reading_stopped(root: Path) -> None:
    outline = base64.b64encode(bytes([1] * 32 * 32)).decode()
    with study_of(root) as (store, pool):
        client = client_of(store, pool)
        begun = client.get("/api/study?reader=AB").json()
        for number, reading in enumerate(begun["order"][:5]):
            for score in (1, 1 + number % 5):  # the last answer counts
                answer = {"decision": "real", "scores": {"anatomy": score}, "outline": outline,
                          "outline_from": "blank", "done": True}  # fmt: skip
                client.put(f"/api/answers/{reading}?reader=AB", json=answer)
    with study_of(root) as (store, pool):
        again = client_of(store, pool).get("/api/study?reader=AB").json()
        assert again["order"] == begun["order"]
        assert list(again["answers"]) == sorted(again["answers"])
        kept = [again["answers"][reading] for reading in begun["order"][:5]]
        assert [answer["scores"]["anatomy"] for answer in kept] == [1, 2, 3, 4, 5]
        assert kept[0]["outline"] == outline


def test_readers_have_orders_and_ids_of_their_own(root: Path) -> None:
    with study_of(root) as (store, _):
        first, second = store.add_reader("AB"), store.add_reader("CD")
        assert [each.place for each in first] != [each.place for each in second]
        assert {each.place for each in first} == {each.place for each in second}
        assert not {each.id for each in first} & {each.id for each in second}


def observed(store: AnswerStore, client: Any, readers: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """All that the page's requests show of a slice but its pixels, and what it is."""
    rows, labels = [], []
    for reader in readers:
        order = client.get(f"/api/study?reader={reader}").json()["order"]
        for turn, reading in enumerate(order):
            began = time.perf_counter()
            response = client.get(f"/api/slices/{reading}")
            took = time.perf_counter() - began
            headers = sorted(response.headers.items())
            began = time.perf_counter()
            kept = client.put(
                f"/api/answers/{reading}?reader={reader}",
                json={"decision": "real", "scores": {}, "done": True},
            )
            rows.append(
                [turn, took, len(response.content), len(str(headers)), response.status_code,
                 time.perf_counter() - began, len(kept.content), len(str(sorted(kept.headers))),
                 *(int(sign, 16) for sign in reading[:8]), int(reading, 16) / 16**32]
            )  # fmt: skip
            labels.append(truth_of(store, reading, reader).origin == "synthetic")
    return np.array(rows), np.array(labels)


def spy_accuracy(store: AnswerStore, client: Any) -> tuple[int, int]:
    """Let a classifier learn from two readers' requests, and guess those of two others."""
    seen, answers = observed(store, client, ["A", "B"])
    unseen, truth = observed(store, client, ["C", "D"])
    spy = RandomForestClassifier(n_estimators=100, random_state=0).fit(seen, answers)
    return int((spy.predict(unseen) == truth).sum()), len(truth)


def test_a_spy_who_sees_all_but_the_pixels_scores_at_chance(root: Path) -> None:
    with study_of(root, count=20) as (store, pool):
        client = client_of(store, pool)
        right, n = spy_accuracy(store, client)
        assert binomtest(right, n).pvalue > 1e-4, f"{right} of {n}"
        rows, _ = observed(store, client, ["A"])
        assert (rows[:, 2:5] == rows[0, 2:5]).all()  # length, headers, status


def test_the_spy_finds_an_order_that_tells(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets.SystemRandom, "shuffle", lambda *_: None)  # real slices first
    with study_of(root, count=20) as (store, pool):
        right, n = spy_accuracy(store, client_of(store, pool))
        assert right > n / 2 and binomtest(right, n).pvalue < 1e-4, f"{right} of {n}"


def test_the_page_asks_nothing_of_other_machines(root: Path) -> None:
    folder = ROOT / "tasks/commands/review/templates"
    for path in folder.iterdir():
        assert not re.search(r"(https?:)?//\w+\.", path.read_text()), path
    with study_of(root) as (store, pool):
        policy = client_of(store, pool).get("/?reader=AB").headers["content-security-policy"]
        assert "default-src 'none'" in policy


def test_readers_of_known_skill_are_measured_within_their_intervals(root: Path) -> None:
    skills = {"sharp": 1.0, "good": 0.75, "guessing": 0.5}
    with study_of(root) as (store, pool):
        client = client_of(store, pool)
        for reader, skill in skills.items():
            read_all(store, client, reader, skill)
        figures = export_study(store, pool).figures
        assert read_review().folds["0"].figures == figures
    for reader, skill in skills.items():
        accuracy = figures.readers[reader].accuracy
        assert accuracy.ci95 is not None
        assert accuracy.ci95[0] <= skill <= accuracy.ci95[1], reader
        assert accuracy.n == 40
    assert figures.readers["sharp"].sensitivity.value == 1
    assert figures.origins["real"].mean_scores["realism"] == 5
    assert figures.origins["synthetic"].mean_scores["realism"] == 2


def test_outlines_are_compared_with_the_mask_and_kept_as_masks(root: Path) -> None:
    with study_of(root) as (store, pool):
        client = client_of(store, pool)
        order = client.get("/api/study?reader=AB").json()["order"]
        places = {each.id: each.place for each in store.readings("AB")}
        reading = next(id_ for id_ in order if store.slices[places[id_]].label == 1)
        mask = pool.masks[places[reading]]
        half = mask.copy()
        half[: int(np.argwhere(mask)[:, 0].mean())] = 0
        answer = {"decision": "real", "outline": base64.b64encode(half.tobytes()).decode(),
                  "outline_from": "blank", "done": True}  # fmt: skip
        client.put(f"/api/answers/{reading}?reader=AB", json=answer)
        study = export_study(store, pool)
    expected = 2 * half.sum() / (half.sum() + mask.sum())
    assert study.ratings[0].outline_dice == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(np.load(root / ".review/outlines-0/masks.npy")[0], half)


def test_a_study_cannot_go_on_with_other_slices(tmp_path: Path) -> None:
    root = make_run(tmp_path / "own")
    with study_of(root):
        pass
    path = root / "data/synthetic/0/images.npy"
    np.save(path, np.load(path) * np.float16(0.9))
    with pytest.raises(InputError, match="no longer what readers"), study_of(root):
        pass


def test_another_count_is_refused_and_a_new_study_keeps_the_last(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with study_of(root) as (store, _):
        store.add_reader("AB")
    with pytest.raises(InputError, match="--count 20: the study fold-0 was begun with 40"):
        open_study(Study("0"), count=20)


def test_no_accepted_slice_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_run(tmp_path / "own", accept_share=0.0))
    with pytest.raises(InputError, match="0 that the gate accepted"):
        open_study(Study("0"), count=40)
    assert not Study("0").path.exists()


def test_nothing_to_export_is_one_line_and_changes_no_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match="no study was begun"):
        AnswerStore(Study("0").path)
    with study_of(root) as (store, pool), pytest.raises(InputError, match="answered yet"):
        export_study(store, pool)


def test_a_study_that_is_open_elsewhere_is_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setattr("tasks.commands.review.__main__.die_with_parent", lambda: None)
    with file_lock(Path(".locks/review-fold-0"), "taken"), pytest.raises(SystemExit) as ended:
        app(["--no-browser"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "open in another process" in error
    assert error.count("\n") == 1


def test_answers_outlive_a_kill(root: Path) -> None:
    command = [sys.executable, "-u", "-m", "tasks.commands.review", "--no-browser", "-n", "20"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    server = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        link = next(line.strip() for line in server.stdout if "http://" in line)
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
            client.get(link)
            base = link.partition("?")[0]
            order = client.get(f"{base}api/study?reader=AB").json()["order"]
            for reading in order[:3]:
                body = {"decision": "synthetic", "done": True}
                client.put(f"{base}api/answers/{reading}?reader=AB", json=body)
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        store = AnswerStore(Study("0").path)
    answered = {reading for reading, answer in store.answers("AB").items() if answer.done}
    store.close()
    assert answered == set(order[:3])
