"""Mark folders of slices that are for training here and never for release."""

from pathlib import Path

UNRELEASABLE = "UNRELEASABLE.txt"  # holds the reason in one line


def reason_not_to_release(folder: Path) -> str | None:
    """Return the reason that a folder of slices, or the one that holds it, gives; None: none."""
    for path in (folder / UNRELEASABLE, folder.parent / UNRELEASABLE):
        if path.is_file():
            return " ".join(path.read_text().split()) or "its maker gives no reason"
    return None
