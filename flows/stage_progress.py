"""Show how far a run and its long stages are, as progress artifacts of Prefect."""

import re
import time
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.runtime import flow_run, task_run

from flows.prefect_client import server_client

# A progress bar of tqdm, or a line that is nothing but `3/20`.
BAR = re.compile(r"(?P<percent>\d+)%\|[^|]*\|\s*(?P<rest>.*)")
COUNT = re.compile(r"\s*(?P<done>\d+)/(?P<total>[1-9]\d*)\s*")
UPDATE_S = 5.0
ANSWER_LIMIT_S = 5.0
SILENT_S = 60.0  # without a bar, after a server that did not answer in time


def parse_progress(line: str) -> tuple[float, str] | None:
    """Parse a line of a progress bar; return the percentage and its words, None for other lines."""
    if found := BAR.search(line):
        return min(100.0, float(found["percent"])), found["rest"].strip()
    if found := COUNT.fullmatch(line):
        return min(100.0, 100 * int(found["done"]) / int(found["total"])), line.strip()
    return None


class ProgressArtifact:
    """A progress artifact that appears with the first progress.

    A lost server does no harm, and one that hangs holds a stage up for seconds in a minute only.
    """

    def __init__(self, name: str) -> None:
        """Set the artifact's key: the name in lower case, with hyphens."""
        self._key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self._name = name
        self._id: UUID | None = None
        self._next_at = 0.0
        self._is_silent = False

    def read(self, line: str) -> None:
        """Show the progress of a line that a stage printed, if it tells any."""
        found = parse_progress(line)
        if found is not None and time.monotonic() > self._next_at:
            percent, words = found
            self.show(percent, words)

    def show(self, percent: float, words: str) -> None:
        """Create the artifact, or update it."""
        if self._is_silent and time.monotonic() < self._next_at:
            return
        description = f"{self._name}: {words}"
        self._is_silent = True
        with suppress(httpx.HTTPError), server_client(0, ANSWER_LIMIT_S) as client:
            if self._id is None:
                bar = ArtifactCreate(
                    type="progress",
                    key=self._key,
                    description=description,
                    data=percent,
                    flow_run_id=flow_run.id,
                    task_run_id=task_run.id,
                )
                self._id = client.create_artifact(bar).id
            else:
                client.update_artifact(
                    self._id, ArtifactUpdate(data=percent, description=description)
                )
            self._is_silent = False
        self._next_at = time.monotonic() + (SILENT_S if self._is_silent else UPDATE_S)

    def finish(self) -> None:
        """Show a bar that is full, where one was shown."""
        if self._id is not None:
            self.show(100, "done")
