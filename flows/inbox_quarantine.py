"""Move a drop that cannot become a batch out of the inbox, with the reason in a file beside it.

The folder is `data/quarantine/TOKEN/`, the reason `data/quarantine/TOKEN.txt`. A token stands for
the drop's name, which may name a patient, in every log; `.private/intake.csv` has both.
"""

import csv
import errno
import shutil
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from tasks.ingest.privacy.private_files import make_private_folder
from tasks.stage.stage_io import discard

QUARANTINE = Path("data/quarantine")
HISTORY = "intake.csv"
HISTORY_COLUMNS = ("time", "token", "drop", "outcome", "batch", "reason")
# Names during a move between disks, passed over as drops: the copy until it is whole, and what was
# copied until it is removed.
PARTIAL = ".auglift.partial"
MOVED = ".auglift.moved"


def quarantine(path: Path, token: str, reason: str) -> Path:
    """Move a drop into the quarantine; return the file that holds the reason.

    A kill at any moment leaves the drop in the inbox or in the quarantine, and its reason there.
    """
    for number in count(1):
        folder = QUARANTINE / (token if number == 1 else f"{token}-{number}")
        if not folder.exists() or all(path.name == PARTIAL for path in folder.iterdir()):
            break
    folder.mkdir(parents=True, exist_ok=True)
    reason_file = folder.with_name(f"{folder.name}.txt")
    partial = reason_file.with_name(f".{reason_file.name}.partial")
    partial.write_text(f"{reason}\n", encoding="utf-8")
    partial.replace(reason_file)
    move_entry(path, folder / path.name)
    return reason_file


def move_entry(source: Path, target: Path) -> None:
    """Move a file or a folder; it appears at its target whole, from another disk as well.

    A kill leaves it whole at its source, at its target, or at both. `discard_leftovers` removes the
    rest.
    """
    try:
        source.rename(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    partial = target.with_name(PARTIAL)
    discard(partial)
    try:
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, partial, symlinks=True)
        else:
            shutil.copy2(source, partial, follow_symlinks=False)
        partial.rename(target)
    finally:
        discard(partial)
    try:
        remove_copied(source)
    except OSError:
        discard(target)
        raise


def remove_copied(source: Path) -> None:
    """Remove a drop of which there is a copy; no part of it is ever taken for a drop."""
    source.rename(source.with_name(f".{time.time_ns()}{MOVED}"))
    discard_leftovers(source.parent)


def discard_leftovers(folder: Path) -> None:
    """Remove what moves between disks left in a folder; what cannot be removed stays."""
    for path in (folder / PARTIAL, *folder.glob(f".*{MOVED}")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def record_outcome(token: str, name: str, outcome: str, batch: str = "", reason: str = "") -> None:
    """Append a row to `.private/intake.csv`, the only table that has the drops' names."""
    path = make_private_folder() / HISTORY
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
        path.chmod(0o600)
        rows = csv.writer(file, lineterminator="\n")
        if is_new:
            rows.writerow(HISTORY_COLUMNS)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows.writerow([now, token, name, outcome, batch, reason])
