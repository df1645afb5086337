"""Prefect's pages in a headless Chromium while a run goes: names, states and artifacts in words.

`AUGLIFT_SCREENSHOTS=FOLDER pytest tests/flows/test_prefect_pages.py` keeps what was seen.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Page, needs_chromium, open_chromium
from tests.flows import toy_pipeline
from tests.flows.processes import Server, request_json, start_process, wait_for, wait_for_stage

pytestmark = [pytest.mark.verify, pytest.mark.timeout(1200), needs_chromium]
RUN = ("flows.cli", "run", "--workers", "2", "--set", "gate.seed=81", "--set", "lift.seed=82")
LONG_S = 300.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with pages."""
    (tmp_path / "home").mkdir()
    server = Server(tmp_path / "home", pages=True)
    yield server
    server.kill()


CLICK = """
[...document.querySelectorAll("*")]
    .filter(one => !one.children.length && one.innerText === "TAB").forEach(one => one.click())
"""


def read(page: Page, url: str, *words: str, tab: str = "") -> None:
    """Open a page, or a tab of it, and wait until it shows some words."""
    page.open(url)
    text = ""

    def shown() -> bool:
        nonlocal text
        if tab:
            page.evaluate(CLICK.replace("TAB", tab))
        text = str(page.evaluate("document.body.innerText"))
        return all(word in text for word in words)

    assert wait_for(shown, LONG_S), f"{url} lacks one of {words}: {text}"


def test_the_pages_of_a_run_show_names_states_and_artifacts(
    repo: Path, server: Server, tmp_path: Path
) -> None:
    pages = server.url.removesuffix("/api")
    kept = Path(os.environ.get("AUGLIFT_SCREENSHOTS", tmp_path))
    toy_pipeline.set_behaviour(repo, "lift", "last")
    log = tmp_path / "log"
    with (
        start_process(repo, *RUN, log=log, PREFECT_API_URL=server.url) as flow,
        open_chromium(tmp_path / "profile") as page,
    ):
        page.set_size(1400, 1000)
        wait_for_stage(repo, "lift")
        (run,) = request_json(f"{server.url}/flow_runs/filter", "POST", {})
        name = "phantom, no commit, gate.seed=81 lift.seed=82"
        read(page, f"{pages}/runs", name, "Running")
        page.screenshot(kept / "runs.png")
        of_run = f"{pages}/runs/flow-run/{run['id']}"
        read(page, of_run, name, "lift prints a line")
        page.screenshot(kept / "run-logs.png")
        states = ("gate@0", "downstream@classify-real", "Completed", "Unchanged", "Running")
        read(page, of_run, *states, tab="Task Runs")
        page.screenshot(kept / "run-tasks.png")
        toy_pipeline.set_behaviour(repo, "lift", "")
        assert flow.wait(LONG_S) == 0, log.read_text()
        read(page, of_run, "verdict", "params", "stages", tab="Artifacts")
        page.screenshot(kept / "run-artifacts.png")
        (verdict,) = request_json(
            f"{server.url}/artifacts/filter", "POST",
            {"artifacts": {"key": {"any_": ["verdict"]}}},
        )  # fmt: skip
        read(page, f"{pages}/artifacts/artifact/{verdict['id']}", "Verdict", "accepted")
        page.screenshot(kept / "verdict.png")
