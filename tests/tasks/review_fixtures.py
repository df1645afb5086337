"""A reader study on a small made-up run, and readers of known skill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from tasks.commands.review.answer_store import AnswerStore
from tasks.commands.review.reading_session import ReadingSession
from tasks.commands.review.server import make_app
from tasks.commands.review.studies import Study, open_study
from tasks.commands.review.study_slices import SlicePool, StudySlice
from tests.tasks.fake_run import Run, write

TOKEN = "opens-the-study"


def make_run(root: Path, **changes: Any) -> Path:
    """A run of 48 slices of validation patients and 60 synthetic ones."""
    return write(root, Run(**({"synthetic": 60, "accept_share": 0.9} | changes)))


@contextmanager
def study_of(root: Path, count: int = 40) -> Iterator[tuple[AnswerStore, SlicePool]]:
    """Begin a study in `root`, or go on with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        store, pool = open_study(Study("0"), count=count)
        try:
            yield store, pool
        finally:
            store.close()


def client_of(store: AnswerStore, pool: SlicePool, *, reader: str | None = None) -> TestClient:
    """A browser that has opened the study's link."""
    session = ReadingSession(store, pool, modalities=["FLAIR"], oriented=True, reader=reader)
    client = TestClient(make_app(session, token=TOKEN), base_url="http://127.0.0.1")
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def truth_of(store: AnswerStore, reading: str, reader: str) -> StudySlice:
    """The slice behind a reading, which the page never tells."""
    places = {each.id: each.place for each in store.readings(reader)}
    return store.slices[places[reading]]


def says(shown: StudySlice, reader: str, skill: float) -> str:
    """What a reader says who is right about a share `skill` of slices, whatever their order."""
    key = [int(shown.sha256[:8], 16), *map(ord, reader)]
    right = np.random.default_rng(key).random() < skill
    other = {"real": "synthetic", "synthetic": "real"}
    return shown.origin if right else other[shown.origin]


def read_all(store: AnswerStore, client: TestClient, reader: str, skill: float) -> None:
    """Let a reader of known skill answer every slice through the page's own requests."""
    order = client.get(f"/api/study?reader={reader}").json()["order"]
    for reading in order:
        shown = truth_of(store, reading, reader)
        scores = {"realism": 5 if shown.origin == "real" else 2, "anatomy": 3}
        answer = {"decision": says(shown, reader, skill), "scores": scores, "done": True}
        response = client.put(f"/api/answers/{reading}?reader={reader}", json=answer)
        assert response.status_code == 200, response.text
