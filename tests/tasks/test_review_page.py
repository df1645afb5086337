"""The review page in a real Chromium: keys, mouse and fingers, and a reader of known skill."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from tasks.commands.review.answer_store import AnswerStore
from tasks.commands.review.answers import Answer, decode_outline
from tasks.commands.review.export_results import export_study
from tasks.commands.review.reading_session import ReadingSession
from tasks.commands.review.server import make_app
from tasks.commands.review.study_slices import SlicePool
from tests.chromium import Page, needs_chromium, open_chromium
from tests.tasks.review_fixtures import TOKEN, make_run, says, study_of

pytestmark = needs_chromium
SLICES = 16
SKILL = 0.75
SHOWN = "document.body.dataset.turn"


@dataclass
class Study:
    """A study that is served, and a browser."""

    root: Path
    store: AnswerStore
    pool: SlicePool
    page: Page
    base: str

    def open(self, reader: str) -> None:
        self.page.open(f"{self.base}/?token={TOKEN}")
        self.page.open(f"{self.base}/?reader={reader}")
        self.page.wait(f"{SHOWN} !== undefined")

    def last(self, reader: str, turn: int) -> Answer:
        """A reader's saved answer at a turn."""
        self.page.wait("document.querySelector('#saved').textContent === 'saved'")
        return self.store.answers(reader)[self.store.readings(reader)[turn].id]

    def place(self, reader: str, turn: int) -> int:
        return self.store.readings(reader)[turn].place


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    root = make_run(tmp_path_factory.mktemp("page") / "run")
    with study_of(root, SLICES) as (store, pool):
        session = ReadingSession(store, pool, modalities=["FLAIR"], oriented=True, reader=None)
        app = make_app(session, token=TOKEN)
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            with open_chromium(tmp_path_factory.mktemp("profile")) as page:
                page.set_size(1280, 800)
                yield Study(root, store, pool, page, f"http://127.0.0.1:{port}")
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(autouse=True)
def no_error_in_the_page(study: Study) -> Iterator[None]:
    study.page.errors.clear()
    yield
    assert study.page.errors == []
    assert all(url.startswith((study.base, "data:")) for url in study.page.requests)


def readout(study: Study) -> dict[str, int]:
    words = study.page.evaluate("document.querySelector('#readout').textContent").split()
    return {"width": int(words[1]), "level": int(words[3]), "zoom": int(words[4])}


def test_a_reader_of_known_skill_is_measured_within_the_interval(study: Study) -> None:
    study.open("keys")
    page = study.page
    for turn in range(SLICES):
        page.wait(f"{SHOWN} === '{turn}'")
        shown = study.store.slices[study.place("keys", turn)]
        page.press({"real": "r", "synthetic": "s"}[says(shown, "keys", SKILL)])
        for score in "54321":
            page.press(score)
        page.press("Enter")
    page.wait("!document.querySelector('#end').hidden")
    page.wait("document.querySelector('#saved').textContent === 'saved'")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study.root)
        result = export_study(study.store, study.pool)
    accuracy = result.figures.readers["keys"].accuracy
    assert accuracy.n == SLICES
    assert accuracy.ci95 is not None
    assert accuracy.ci95[0] <= SKILL <= accuracy.ci95[1]
    expected = [says(shown, "keys", SKILL) for shown in study.store.slices]
    assert [rating.decision for rating in result.ratings] == expected
    assert result.ratings[0].scores == dict(
        zip(["realism", "anatomy", "artefacts", "clinical_relevance", "diagnostic_utility"],
            [5, 4, 3, 2, 1], strict=True)
    )  # fmt: skip
    assert all(rating.seconds > 0 for rating in result.ratings)


def test_the_page_resumes_goes_back_and_changes_an_answer(study: Study) -> None:
    study.open("back")
    page = study.page
    page.press("r")
    page.press("Enter")  # reminds of the ratings
    assert page.evaluate(SHOWN) == "0"
    page.press("Enter")
    page.wait(f"{SHOWN} === '1'")
    study.open("back")
    assert page.evaluate(SHOWN) == "1"
    page.press("Backspace")
    page.wait(f"{SHOWN} === '0'")
    page.press("s")
    page.press("f")
    page.press("n")
    for sign in "rim 1s":  # keys are text in the comment
        page.press(sign)
    page.press("Escape")
    page.click("[data-kind=blur]")
    saved = study.last("back", 0)
    assert saved.decision == "synthetic"
    assert saved.flagged
    assert saved.comment == "rim 1s"
    assert saved.artefact_kinds == ["blur"]
    assert saved.scores == {}
    assert saved.done


def test_nothing_goes_on_without_a_decision(study: Study) -> None:
    study.open("undecided")
    study.page.press("3")
    study.page.press("Enter")
    study.page.press("Enter")
    assert study.page.evaluate(SHOWN) == "0"
    assert not study.page.evaluate("document.querySelector('#hint').hidden")
    assert not study.last("undecided", 0).done


def test_the_mouse_sets_window_level_and_zoom_and_a_key_resets_them(study: Study) -> None:
    study.open("mouse")
    page = study.page
    x, y = page.middle_of("#view")
    before = readout(study)
    page.drag([(x, y), (x - 100, y)])
    narrower = readout(study)
    assert narrower["width"] < before["width"]
    assert narrower["level"] == before["level"]
    page.drag([(x, y), (x, y - 50)])
    assert readout(study)["level"] < narrower["level"]
    page.drag([(x, y), (x, y - 100)], button="right")
    assert readout(study)["zoom"] > 100
    page.press("0")
    assert readout(study) == before


def test_the_mask_is_shown_on_a_key_and_not_before(study: Study) -> None:
    study.open("mask")
    page = study.page
    orange = (
        "(() => { const c = document.querySelector('#view');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;"
        " for (let i = 0; i < d.length; i += 4) n += d[i] > 200 && d[i + 2] < 60; return n; })()"
    )
    turn = next(t for t in range(SLICES) if study.pool.masks[study.place("mask", t)].any())
    for _ in range(turn):
        now = page.evaluate(SHOWN)
        for key in ("r", "Enter", "Enter"):
            page.press(key)
        page.wait(f"{SHOWN} !== '{now}'")
    assert page.evaluate(orange) == 0
    page.press("m")
    assert page.evaluate(orange) > 0
    page.press(" ")
    assert page.evaluate(orange) == 0
    page.press("k")  # the mask becomes the reader's outline, to be corrected
    saved = study.last("mask", turn)
    assert saved.outline is not None and saved.outline_from == "mask"
    mask = study.pool.masks[study.place("mask", turn)]
    assert np.array_equal(decode_outline(saved.outline, mask.shape), mask)


def on_canvas(study: Study, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where points of the slice, in its pixels, lie on the screen at the first zoom."""
    box = study.page.evaluate(
        "(() => { const b = document.querySelector('#view').getBoundingClientRect();"
        " return [b.x, b.y, b.width, b.height]; })()"
    )
    height, width = study.pool.masks.shape[1:]
    scale = 0.94 * min(box[2] / width, box[3] / height)
    left, top = box[0] + (box[2] - scale * width) / 2, box[1] + (box[3] - scale * height) / 2
    return [(left + scale * x, top + scale * y) for x, y in points]


def test_an_outline_is_drawn_by_corners_by_hand_and_by_brush(study: Study) -> None:
    study.open("draws")
    page = study.page
    square = [(8.0, 10.0), (20.0, 10.0), (20.0, 18.0), (8.0, 18.0)]
    expected = np.zeros(study.pool.masks.shape[1:], np.uint8)
    expected[10:18, 8:20] = 1
    page.press("d")
    for point in on_canvas(study, square):
        page.drag([point])
    page.press("Enter")  # closes the outline; the slice stays
    saved = study.last("draws", 0)
    assert saved.outline_from == "blank"
    assert np.array_equal(decode_outline(saved.outline or "", expected.shape), expected)
    page.press("x")
    page.press("d")
    page.drag(on_canvas(study, [*square, square[0]]))
    saved = study.last("draws", 0)
    assert np.array_equal(decode_outline(saved.outline or "", expected.shape), expected)
    page.press("e")
    page.drag(on_canvas(study, [(8.5, 10.5)]))
    saved = study.last("draws", 0)
    erased = decode_outline(saved.outline or "", expected.shape)
    assert erased[10, 8] == 0
    assert 0 < erased.sum() < expected.sum()
    page.send("Input.dispatchKeyEvent", type="keyDown", key="z", modifiers=2)
    saved = study.last("draws", 0)
    assert np.array_equal(decode_outline(saved.outline or "", expected.shape), expected)


def test_fingers_set_the_window_zoom_and_answer_on_a_tablet(study: Study) -> None:
    page = study.page
    page.set_size(820, 1180, touch=True)
    try:
        study.open("tablet")
        x, y = page.middle_of("#view")
        before = readout(study)
        page.touch([(x, y)], [(x - 60, y)], [(x - 120, y)])
        assert readout(study)["width"] < before["width"]
        page.touch([(x - 50, y), (x + 50, y)], [(x - 120, y), (x + 120, y)])
        assert readout(study)["zoom"] > 150
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 820
        page.click("[data-decision=synthetic]")
        page.click("[data-criterion=anatomy] [data-score='2']")
        page.click(".steps [data-do=next]")
        page.click(".steps [data-do=next]")
        page.wait(f"{SHOWN} === '1'")
        saved = study.last("tablet", 0)
        assert (saved.decision, saved.scores, saved.done) == ("synthetic", {"anatomy": 2}, True)
    finally:
        page.set_size(1280, 800)
