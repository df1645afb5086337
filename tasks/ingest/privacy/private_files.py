"""Write files that never leave `.private/`: its tables, and DVC's table of paths."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configobj import ConfigObj

PRIVATE = Path(".private")
DVC_TABLES = PRIVATE / "dvc"


@contextmanager
def open_private_table(
    name: str, header: Sequence[str]
) -> Iterator[Callable[[Sequence[str]], object]]:
    """Yield a function that writes a row of a table in `.private/`; it is in place at the end.

    Git ignores that folder, and no stage lists it as an output.
    """
    folder = make_private_folder()
    temporary = folder / f".{name}.partial"
    try:
        with temporary.open("w", newline="", errors="surrogateescape") as file:
            temporary.chmod(0o600)
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            yield writer.writerow
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)


def make_private_folder() -> Path:
    """Make `.private/`, which only its owner may enter, and return it.

    DVC keeps its table of paths there as well.
    """
    PRIVATE.mkdir(exist_ok=True)
    PRIVATE.chmod(0o700)
    set_dvc_cache_folder()
    return PRIVATE


def set_dvc_cache_folder() -> None:
    """Write the folder of DVC's tables by its absolute path into `.dvc/config.local`.

    DVC keeps a table of all paths it has hashed, by default where all users can read it.
    `.dvc/config` can only name a folder relative to where DVC was started, and DVC does not find it
    again in the temporary clones of `dvc exp run --temp` and `dvc queue start`. These clones get a
    copy of `config.local` and keep the folder named there.
    """
    file, root = Path(".dvc/config.local"), Path.cwd()
    if not file.parent.is_dir():
        return
    config = ConfigObj(str(file), encoding="utf-8")
    configured = Path(str(config.get("core", {}).get("site_cache_dir", "")))
    is_ours = configured.parts[-2:] == DVC_TABLES.parts
    if configured.is_absolute() and (not is_ours or root.is_relative_to(configured.parents[1])):
        return
    config.setdefault("core", {})["site_cache_dir"] = str(root / DVC_TABLES)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with temporary.open("wb") as out:
        config.write(out)
    temporary.replace(file)
