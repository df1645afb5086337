"""Write a new folder as a whole or not at all, and never over existing files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.stage.errors import InputError
from tasks.stage.stage_io import discard


@contextmanager
def write_new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `out` to write to; move it into place on success.

    Raises:
        InputError: when something lies at `out`, or nothing can be written beside it.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is no folder; name a new one with --out")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name a new folder with --out, or empty this one")
    partial = out.absolute().with_name(f".{out.absolute().name}.partial")
    try:
        discard(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{partial.parent} cannot be written ({error.strerror})") from None
    try:
        yield partial
        if out.is_dir():
            out.rmdir()
        partial.replace(out)
    finally:
        discard(partial)
