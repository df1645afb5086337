"""Make a folder an immutable batch: `data/raw/BATCH`, tracked by DVC, listed, committed to git.

Every step can be repeated. `.private/intake.json` says which drop is on its way, so that the next
run goes on where a killed one stopped.
"""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import yaml
from pydantic import BaseModel, ConfigDict

from flows.dvc_command import run_dvc
from flows.dvc_graph import sort_lock
from flows.dvc_runner import DvcRunner
from flows.git_commit import commit_edits
from flows.inbox_drops import COMPLETE, BadDropError, Drop, content_sha256, content_sizes
from flows.inbox_quarantine import discard_leftovers, move_entry
from flows.params_file import append_item, edit_params, edited_text
from flows.preflight import batches_dvc_makes
from flows.run_failure import StageFailed
from tasks import params
from tasks.ingest.privacy.private_files import make_private_folder
from tasks.stage.errors import WRONG_INPUT
from tasks.stage.item_names import NAME_OUTPUTS, check_item_name
from tasks.stage.params_file import PARAMS
from tasks.stage.stage_io import discard

RAW, VOLUMES = Path("data/raw"), Path("data/volumes")
GIT_IGNORED = RAW / ".gitignore"
LONGEST_NAME = 80  # bytes; room for a suffix that tells two batches apart
DISK_IS_FULL = "the disk is full"


class Registration(BaseModel):
    """A drop on its way to a batch: what `.private/intake.json` holds.

    `drop` is its path in the inbox, with percent signs for bytes that are no ASCII; `fault` is set
    once the drop turned out to be bad.
    """

    model_config = ConfigDict(frozen=True)
    token: str
    drop: str
    batch: str
    sha256: str
    fault: str = ""

    @property
    def source(self) -> Path:
        """The drop in the inbox."""
        return Path(os.fsdecode(unquote_to_bytes(self.drop)))

    @property
    def folder(self) -> Path:
        """The batch's folder."""
        return RAW / self.batch

    @property
    def dvc_file(self) -> Path:
        """The file that tracks the batch."""
        return RAW / f"{self.batch}.dvc"

    @property
    def partial(self) -> Path:
        """The folder that holds an archive until it is the batch's folder."""
        return RAW / f".{self.batch}.partial"


def start_registration(token: str, drop: Path, batch: str, sha256: str) -> Registration:
    """Write into the journal that a drop is on its way, and return its registration."""
    source = quote(os.fsencode(drop))
    return write_journal(Registration(token=token, drop=source, batch=batch, sha256=sha256))


def journal_path() -> Path:
    """Return the file that says which drop is on its way."""
    return make_private_folder() / "intake.json"


def write_journal(registration: Registration) -> Registration:
    """Write which drop is on its way, whole or not at all; return it."""
    path = journal_path()
    partial = path.with_name(".intake.json.partial")
    partial.write_text(registration.model_dump_json(), encoding="utf-8")
    partial.replace(path)
    return registration


def read_journal() -> Registration | None:
    """Read which drop a killed run left on its way."""
    path = journal_path()
    if not path.exists():
        return None
    return Registration.model_validate_json(path.read_bytes())


def choose_batch_name(name: str, sha256: str) -> str:
    """Return the name of a drop's batch.

    A drop's name that is a plain word becomes the batch's name; where another batch has it, digits
    of the content follow. Any other name is replaced: it would become part of commands and paths.
    """
    word = name[:-4] if name.lower().endswith(".zip") else name
    try:
        check_item_name(word)
        if len(word.encode()) > LONGEST_NAME:
            raise ValueError("too long")
    except (ValueError, UnicodeEncodeError):
        return f"batch-{sha256[:12]}"
    taken = {batch.casefold() for batch in [*params.read_key("data.batches"), *batches_dvc_makes()]}
    taken |= {path.name.removesuffix(".dvc").casefold() for path in RAW.iterdir()}
    return f"{word}-{sha256[:12]}" if word.casefold() in taken else word


def find_same_content(folder: Path, sha256: str) -> str | None:
    """Return the batch that holds the same files as a folder, whatever their names.

    A batch that the intake took is known by its digest, also where it is not on this machine. Any
    other batch is read only where its files have the same sizes.
    """
    sizes = content_sizes(folder)
    registered = {path.name.removesuffix(".dvc"): read_digest(path) for path in RAW.glob("*.dvc")}
    for batch, digest in sorted(registered.items()):
        if digest == sha256:
            return batch
    for path in sorted(path for path in RAW.iterdir() if not path.name.startswith(".")):
        if path.is_dir() and registered.get(path.name) is None and content_sizes(path) == sizes:
            try:
                if content_sha256(path) == sha256:
                    return path.name
            except BadDropError:
                continue  # a batch that may not be read
    return None


def read_digest(dvc_file: Path) -> str | None:
    """Read the digest of a batch's content from the file that tracks it; None where it has none."""
    tree = yaml.safe_load(dvc_file.read_text(encoding="utf-8"))
    meta = tree.get("meta") if isinstance(tree, dict) else None
    return str(meta["content_sha256"]) if meta and "content_sha256" in meta else None


def register(registration: Registration, runner: DvcRunner, say: Callable[[str], None]) -> str:
    """Track a batch with DVC, list it, ingest it and commit it; return the commit.

    Raises:
        BadDropError: DVC would leave files out, or ingest can read nothing of it.
        StageFailed: ingest failed for another reason, or the run was ended.
        InputError: DVC or git failed.
    """
    batch = registration.batch
    track_with_dvc(registration)
    edit_params(PARAMS, lambda tree: list_batch(tree, batch))
    try:
        runner.repro(f"ingest@{batch}", say)
    except StageFailed as error:
        if error.code == WRONG_INPUT and DISK_IS_FULL not in str(error):
            raise BadDropError(str(error)) from None
        raise
    sort_lock(say)
    make_read_only(registration.folder)
    return commit_edits(
        {
            registration.dvc_file.as_posix(): lambda _: registration.dvc_file.read_text("utf-8"),
            GIT_IGNORED.as_posix(): lambda text: with_line(text, f"/{batch}"),
            PARAMS.as_posix(): lambda text: edited_text(text, lambda tree: list_batch(tree, batch)),
        },
        f"Add the batch {batch}\n\nTaken from the inbox; content sha256 {registration.sha256}.",
    )


def track_with_dvc(registration: Registration) -> None:
    """Run `dvc add` on a batch and write its digest into the file that tracks it.

    Raises:
        BadDropError: `.dvcignore` rules, the drop's own ones too, would leave files out.
        InputError: DVC failed, with its message.
    """
    run_dvc("add", "--quiet", registration.folder.as_posix())
    tree = yaml.safe_load(registration.dvc_file.read_text(encoding="utf-8"))
    tracked = tree["outs"][0]["nfiles"]
    present = sum(path.is_file() for path in registration.folder.rglob("*"))
    if tracked != present:
        raise BadDropError(
            f"DVC would version only {tracked} of its {present} files, because .dvcignore excludes"
            " the others by their names (such as __pycache__, *.partial, a .dvcignore of its own);"
            " remove or rename them and drop it again"
        )
    tree["meta"] = {**(tree.get("meta") or {}), "content_sha256": registration.sha256}
    partial = registration.dvc_file.with_name(f"{registration.dvc_file.name}.partial")
    partial.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    partial.replace(registration.dvc_file)


def undo(registration: Registration) -> None:
    """Take back every trace of a batch but its files, which stay in `data/raw/BATCH`."""
    batch = registration.batch
    edit_params(PARAMS, lambda tree: unlist_batch(tree, batch))
    discard(registration.dvc_file)
    discard(VOLUMES / batch)
    discard(NAME_OUTPUTS / "ingest" / f"item-{batch}.word")
    if GIT_IGNORED.exists():
        lines = GIT_IGNORED.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.rstrip("\n") != f"/{batch}"]
        if kept != lines:
            GIT_IGNORED.write_text("".join(kept), encoding="utf-8")


def move_in(registration: Registration) -> None:
    """Move a drop to its batch's folder; a zip archive becomes the only file of one."""
    drop = registration.source
    if drop.is_dir():
        move_entry(drop, registration.folder)
        return
    registration.partial.mkdir(exist_ok=True)
    move_entry(drop, registration.partial / drop.name)
    end_move_in(registration)


def end_move_in(registration: Registration) -> None:
    """Do the last step of moving an archive, where only that is missing."""
    partial = registration.partial
    if not partial.is_dir():
        return
    discard_leftovers(partial)
    if (partial / registration.source.name).is_file():
        partial.rename(registration.folder)
    elif not any(partial.iterdir()):
        partial.rmdir()


def is_unchanged(drop: Drop | None, folder: Path, registration: Registration) -> bool:
    """Check that a batch's files are those that were hashed while they lay in the inbox.

    A move within a file system changes no file's times; after any other move they are read again.
    """
    if drop is None:
        return content_sha256(folder) == registration.sha256
    before = {(file.path, file.bytes, file.changed) for file in drop.files if file.path != COMPLETE}
    after = {
        (str(path.relative_to(folder)), status.st_size, status.st_ctime)
        for path in folder.rglob("*")
        if path.is_file() and (status := path.lstat())
    }
    return before == after or content_sha256(folder) == registration.sha256


def move_back(registration: Registration) -> None:
    """Move a drop back to the inbox, where a later run finds it."""
    end_move_in(registration)
    folder = registration.folder
    if folder.is_dir():
        target = free_path(registration.source)
        name = registration.source.name
        if name.lower().endswith(".zip") and [path.name for path in folder.iterdir()] == [name]:
            move_entry(folder / name, target)
            folder.rmdir()
        else:
            move_entry(folder, target)
    journal_path().unlink(missing_ok=True)


def free_path(source: Path) -> Path:
    """Return a drop's path in the inbox, with a number where a new drop has its name meanwhile."""
    ending = source.suffix if source.suffix.lower() == ".zip" else ""
    word = source.name.removesuffix(ending)[:60]
    path = source
    for number in count(2):
        if not path.exists():
            break
        path = source.with_name(f"{word}-{number}{ending}")
    return path


def list_batch(tree: Any, batch: str) -> None:
    """Add a batch to `data.batches`, unless it is listed."""
    if batch not in tree["data"]["batches"]:
        append_item(tree["data"]["batches"], batch)


def unlist_batch(tree: Any, batch: str) -> None:
    """Remove a batch from `data.batches`."""
    if batch in tree["data"]["batches"]:
        tree["data"]["batches"].remove(batch)


def with_line(text: str, line: str) -> str:
    """Return a text with one more line, unless it has it."""
    if line in text.splitlines():
        return text
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def make_read_only(folder: Path) -> None:
    """Take from everybody the right to change a batch's files."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o7555)
