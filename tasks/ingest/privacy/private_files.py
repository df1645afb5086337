"""Files that never leave `.private/`: its folder, its tables, and DVC's table of paths."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from configobj import ConfigObj

PRIVATE = Path(".private")
TABLES = PRIVATE / "dvc"


@contextmanager
def private_table(name: str, header: Sequence[str]) -> Iterator[Callable[[Sequence[str]], object]]:
    """Give a function that writes a row of a table in `.private/`; it is in place at the end.

    Git ignores that folder, and no stage lists it as an output.
    """
    folder = private_folder()
    partial = folder / f".{name}.partial"
    try:
        with partial.open("w", newline="", errors="surrogateescape") as file:
            partial.chmod(0o600)
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            yield writer.writerow
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)


def private_folder() -> Path:
    """`.private/`, which only its owner may enter: DVC keeps its table of paths there as well."""
    PRIVATE.mkdir(exist_ok=True)
    PRIVATE.chmod(0o700)
    keep_dvc_tables()
    return PRIVATE


def keep_dvc_tables() -> None:
    """Name the folder of DVC's tables by its absolute path, in `.dvc/config.local`.

    DVC keeps a table of all paths it has hashed, by default where all users can read it.
    `.dvc/config` can only name a folder relative to where DVC was started, and DVC does not find
    it again in the temporary clones of `dvc exp run --temp` and `dvc queue start`. These get a
    copy of `config.local` and keep what it says.
    """
    file, root = Path(".dvc/config.local"), Path.cwd()
    if not file.parent.is_dir():
        return
    config = ConfigObj(str(file), encoding="utf-8")
    named = Path(str(config.get("core", {}).get("site_cache_dir", "")))
    ours = named.parts[-2:] == TABLES.parts
    if named.is_absolute() and (not ours or root.is_relative_to(named.parents[1])):
        return
    config.setdefault("core", {})["site_cache_dir"] = str(root / TABLES)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    with partial.open("wb") as out:
        config.write(out)
    partial.replace(file)
