"""Show how far a run and its long stages are, as progress artifacts of Prefect."""

import re
import time
from contextlib import suppress
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

# A progress bar of tqdm, or a line that is nothing but `3/20`.
BAR = re.compile(r"(?P<percent>\d+)%\|[^|]*\|\s*(?P<rest>.*)")
COUNT = re.compile(r"\s*(?P<done>\d+)/(?P<total>[1-9]\d*)\s*")
UPDATE_S = 5.0


def parse_progress(line: str) -> tuple[float, str] | None:
    """Parse a line of a progress bar; return the percentage and its words, None for other lines."""
    if found := BAR.search(line):
        return min(100.0, float(found["percent"])), found["rest"].strip()
    if found := COUNT.fullmatch(line):
        return min(100.0, 100 * int(found["done"]) / int(found["total"])), line.strip()
    return None


class ProgressArtifact:
    """A progress artifact that appears with the first progress; a lost server does no harm."""

    def __init__(self, name: str) -> None:
        """Set the artifact's key: the name in lower case, with hyphens."""
        self._key = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self._name = name
        self._id: UUID | None = None
        self._shown_at = 0.0

    def read(self, line: str) -> None:
        """Show the progress of a line that a stage printed, if it tells any."""
        found = parse_progress(line)
        if found is not None and time.monotonic() - self._shown_at > UPDATE_S:
            percent, words = found
            self.show(percent, words)

    def show(self, percent: float, words: str) -> None:
        """Create the artifact, or update it."""
        self._shown_at = time.monotonic()
        description = f"{self._name}: {words}"
        with (
            suppress(httpx.HTTPError),
            # A run waits for a server that restarts, but not for the sake of a bar.
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
        ):
            if self._id is None:
                created = create_progress_artifact(percent, key=self._key, description=description)
                assert isinstance(created, UUID)  # not a coroutine: no event loop runs here
                self._id = created
            else:
                update_progress_artifact(self._id, percent, description=description)

    def finish(self) -> None:
        """Show a bar that is full, where one was shown."""
        if self._id is not None:
            self.show(100, "done")
