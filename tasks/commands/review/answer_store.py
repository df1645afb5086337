"""Keep a study and its answers in SQLite: one transaction an answer, which outlives a kill.

Answers are only ever added; the last one of a reader on a slice counts, so that the file also tells
what was changed. It holds the reader's own words and pseudonyms of patients, and stays in
`.review/`, which Git and DVC ignore.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.commands.review.answers import Answer
from tasks.commands.review.study_slices import StudySlice
from tasks.stage.errors import InputError

STUDIES = Path(".review")
TABLES = """
CREATE TABLE study (fold TEXT, digest TEXT, requested INTEGER, seed INTEGER);
CREATE TABLE slices (
    place INTEGER PRIMARY KEY, origin TEXT, row INTEGER, label INTEGER, cluster TEXT, sha256 TEXT,
    trial INTEGER
);
CREATE TABLE readings (
    id TEXT PRIMARY KEY, reader TEXT, turn INTEGER, place INTEGER REFERENCES slices,
    UNIQUE (reader, turn), UNIQUE (reader, place)
);
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT REFERENCES readings,
    saved_at TEXT DEFAULT CURRENT_TIMESTAMP, answer TEXT
);
CREATE INDEX answers_by_id ON answers (id, number);
"""


@dataclass(frozen=True)
class Reading:
    """A reader's turn at a slice. `id` is random and another for each reader.

    `place` is the slice's position in the study.
    """

    id: str
    reader: str
    place: int


class AnswerStore:
    """A study's file: its slices, each reader's order, and the answers."""

    def __init__(self, path: Path) -> None:
        """Open the file of a study.

        Raises:
            InputError: when it is missing, or no study.
        """
        if not path.exists():
            raise InputError(f"{path} is missing: no study was begun; run `auglift review`")
        self._path = path
        self._guard = threading.RLock()
        self._connection = connect(path)
        try:
            ((self.fold, self.digest, self.requested, self.seed),) = self._connection.execute(
                "SELECT fold, digest, requested, seed FROM study"
            )
            self.slices = [
                StudySlice(*row)
                for row in self._connection.execute(
                    "SELECT origin, row, label, cluster, sha256, trial FROM slices ORDER BY place"
                )
            ]
        except (sqlite3.DatabaseError, ValueError) as error:
            self._connection.close()
            raise InputError(
                f"{path} is no study of this version ({error}); move it away and begin a new one"
            ) from None

    @classmethod
    def create(
        cls, path: Path, *, fold: str, digest: str, requested: int, seed: int,
        slices: list[StudySlice],
    ) -> "AnswerStore":  # fmt: skip
        """Write a new study whole, then open it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        with connect(partial) as connection:
            connection.executescript(TABLES)
            connection.execute("INSERT INTO study VALUES (?, ?, ?, ?)",
                               (fold, digest, requested, seed))  # fmt: skip
            connection.executemany(
                "INSERT INTO slices VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(place, s.origin, s.row, s.label, s.cluster, s.sha256, s.trial)
                 for place, s in enumerate(slices)],
            )  # fmt: skip
        connection.close()
        partial.replace(path)
        return cls(path)

    def close(self) -> None:
        """Close the file; its write-ahead log is merged into it."""
        self._connection.close()

    def readers(self) -> list[str]:
        """Return the readers in the order in which they began."""
        with self._guard:
            rows = self._connection.execute(
                "SELECT reader FROM readings GROUP BY reader ORDER BY MIN(rowid)"
            ).fetchall()
        return [reader for (reader,) in rows]

    def add_reader(self, reader: str) -> list[Reading]:
        """Return a reader's readings in the reader's own order, which is random; resume it."""
        with self._transaction() as connection:
            known = self.readings(reader)
            if known:
                return known
            order = list(range(len(self.slices)))
            secrets.SystemRandom().shuffle(order)
            connection.executemany(
                "INSERT INTO readings VALUES (?, ?, ?, ?)",
                [(secrets.token_hex(16), reader, turn, place) for turn, place in enumerate(order)],
            )
            return self.readings(reader)

    def readings(self, reader: str) -> list[Reading]:
        """Return a reader's readings in order; none of a reader who has not begun."""
        with self._guard:
            rows = self._connection.execute(
                "SELECT id, reader, place FROM readings WHERE reader = ? ORDER BY turn", (reader,)
            ).fetchall()
        return [Reading(*row) for row in rows]

    def save(self, reading: str, answer: Answer) -> None:
        """Add an answer, durably: when this returns, a power cut does not lose it."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO answers (id, answer) VALUES (?, ?)",
                (reading, answer.model_dump_json()),
            )

    def answers(self, reader: str) -> dict[str, Answer]:
        """Return a reader's latest answer of each reading, drafts among them."""
        with self._guard:
            rows = self._connection.execute(
                "SELECT id, answer, MAX(number) FROM answers JOIN readings USING (id)"
                " WHERE reader = ? GROUP BY id",
                (reader,),
            ).fetchall()
        return {reading: Answer.model_validate(json.loads(text)) for reading, text, _ in rows}

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold one transaction, alone."""
        with self._guard:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """Open a database with a write-ahead log; each commit reaches the disk."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def set_aside(path: Path) -> Path | None:
    """Rename a study so that a new one can begin; return its new name, None where there is none."""
    if not path.exists():
        return None
    AnswerStore(path).close()  # merges what a killed server left in the write-ahead log
    number = 1
    while (target := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    path.rename(target)
    return target
