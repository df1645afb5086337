"""Take the complete drops of an inbox: each becomes a batch, or goes into the quarantine.

The steps of one drop: its files are hashed, it is written into the journal, moved to
`data/raw/BATCH`, added to DVC, listed in `params.yaml`, ingested, and committed to git. Each step
can be repeated after a kill. A drop that turns out to be bad is taken back whole.
"""

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows import dvc_locks
from flows.batch_registration import (
    Registration,
    choose_batch_name,
    end_move_in,
    find_same_content,
    is_unchanged,
    journal_path,
    move_back,
    move_in,
    read_journal,
    register,
    start_registration,
    undo,
    write_journal,
)
from flows.clone_lock import exclusive_run
from flows.dvc_runner import DvcRunner
from flows.git_commit import check_ready
from flows.inbox_drops import (
    COMPLETE,
    BadDropError,
    Drop,
    content_sha256,
    find_drops,
    holds_same,
    os_error,
)
from flows.inbox_quarantine import discard_leftovers, quarantine, record_outcome, remove_copied
from flows.preflight import NEEDED_BYTES
from flows.run_failure import ENDED, StageFailed
from tasks import params
from tasks.ingest.privacy.private_files import make_private_folder
from tasks.ingest.privacy.pseudonyms import Pseudonyms, load_key
from tasks.params.ingest import Ingest
from tasks.stage.errors import InputError
from tasks.stage.stage_io import discard

OutcomeKind = Literal["batch", "duplicate", "quarantined", "waits", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a drop: `detail` is its batch, or the reason; `token` stands for its name."""

    token: str
    kind: OutcomeKind
    detail: str

    @property
    def line(self) -> str:
        """The outcome in one line, without the drop's name."""
        words = {
            "batch": "became the batch",
            "duplicate": "is a duplicate:",
            "quarantined": "was quarantined:",
            "waits": "waits:",
            "failed": "could not be taken, and the next run tries again:",
        }
        return f"drop {self.token} {words[self.kind]} {self.detail}"


Take = Callable[[Drop, str, DvcRunner, Callable[[str], None]], Outcome]


class DropTokens:
    """Tokens that stand for the names of drops, which may name patients."""

    def __init__(self) -> None:
        """Read the key of the pseudonyms.

        Raises:
            InputError: it is not the key of `params.yaml`.
        """
        self._pseudonyms = Pseudonyms(load_key(params.read_section(Ingest).key_fingerprint))

    def token(self, name: str) -> str:
        """Return the token of a drop's name."""
        return self._pseudonyms.file_token(f"inbox/{name}").removeprefix("file-")


def take_drop(drop: Drop, token: str, runner: DvcRunner, say: Callable[[str], None]) -> Outcome:
    """Make one complete drop a batch, or move it into the quarantine.

    An error of the disk, or of rights, is an outcome: it holds up no other drop.

    Raises:
        StageFailed: the run was ended.
    """
    try:
        return take_readable(drop, token, runner, say)
    except OSError as error:
        return Outcome(token, "failed", os_error(error))


def take_readable(drop: Drop, token: str, runner: DvcRunner, say: Callable[[str], None]) -> Outcome:
    """Make one complete drop a batch, or move it into the quarantine.

    Raises:
        StageFailed: the run was ended.
        OSError: the drop cannot be read or moved.
    """
    if drop.fault:
        return put_aside(drop.path, token, "quarantined", drop.fault)
    free = shutil.disk_usage("data").free
    if free < drop.bytes + NEEDED_BYTES:
        return Outcome(
            token, "waits",
            f"it needs {(drop.bytes + NEEDED_BYTES) / 2**20:.0f} MiB of disk and"
            f" {free / 2**20:.0f} MiB are free (`dvc gc -w` drops unused versions)",
        )  # fmt: skip
    try:
        sha256 = content_sha256(drop.path)
        if (same := find_same_content(drop.path, sha256)) is not None:
            return put_aside(
                drop.path, token, "duplicate", f"the batch {same} holds the same files"
            )
    except BadDropError as error:
        return put_aside(drop.path, token, "quarantined", str(error))
    except FileNotFoundError:
        return Outcome(token, "waits", "it changed while it was read")
    batch = choose_batch_name(drop.name, sha256)
    registration = start_registration(token, drop.path, batch, sha256)
    return finish(registration, runner, say, changed_since=drop)


def resume(runner: DvcRunner, say: Callable[[str], None]) -> Outcome | None:
    """Finish the drop that a killed run left on its way; None where there is none."""
    registration = read_journal()
    if registration is None:
        return None
    say(f"going on with drop {registration.token}, which a run left on its way")
    try:
        return go_on(registration, runner, say)
    except OSError as error:
        return Outcome(registration.token, "failed", os_error(error))


def go_on(
    registration: Registration, runner: DvcRunner, say: Callable[[str], None]
) -> Outcome | None:
    """Finish the drop of the journal; None where it is in the inbox, or no longer anywhere.

    Raises:
        StageFailed: the run was ended.
        OSError: the drop cannot be read or moved.
    """
    source, folder = registration.source, registration.folder
    for place in (source.parent, folder.parent):
        discard_leftovers(place)
    end_move_in(registration)
    if not folder.is_dir() or not any(folder.iterdir()):
        # Not moved yet, moved back or into the quarantine already, or taken away by hand. What is
        # in the inbox is examined anew: it may have changed since.
        discard(folder)
        journal_path().unlink()
        return None
    # Moved from another disk, the drop may still be in the inbox as well.
    if source.exists() and holds_same(source, folder):
        remove_copied(source)
    return finish(registration, runner, say)


def finish(
    registration: Registration,
    runner: DvcRunner,
    say: Callable[[str], None],
    *,
    changed_since: Drop | None = None,
) -> Outcome:
    """Register a drop that is in the journal; take it back where that fails.

    Args:
        registration: What is written in the journal.
        runner: Runs ingest.
        say: Receives the lines of ingest.
        changed_since: The drop as it was examined; None after a kill. Where it changed since it
            was hashed, it goes back to the inbox.

    Raises:
        StageFailed: the run was ended; the next one goes on.
    """
    token, batch, folder = registration.token, registration.batch, registration.folder
    source = registration.source
    try:
        if registration.fault:
            raise BadDropError(registration.fault)
        if not folder.is_dir():
            move_in(registration)
        (folder / COMPLETE).unlink(missing_ok=True)
        if not registration.dvc_file.exists() and not is_unchanged(
            changed_since, folder, registration
        ):
            move_back(registration)
            return Outcome(token, "waits", "it changed while it was taken")
        register(registration, runner, say)
    except BadDropError as error:
        write_journal(registration.model_copy(update={"fault": str(error)}))
        undo(registration)
        outcome = put_aside(folder, token, "quarantined", str(error), name=source.name)
        journal_path().unlink()
        return outcome
    except (InputError, StageFailed, OSError) as error:
        if isinstance(error, StageFailed) and error.code == ENDED:
            raise
        undo(registration)
        move_back(registration)
        reason = os_error(error) if isinstance(error, OSError) else " ".join(str(error).split())
        return Outcome(token, "failed", reason)
    record_outcome(token, source.name, "batch", batch)
    return Outcome(token, "batch", batch)


def put_aside(
    path: Path, token: str, kind: Literal["duplicate", "quarantined"], reason: str, name: str = ""
) -> Outcome:
    """Move a drop into the quarantine with a reason."""
    if not path.exists() and not path.is_symlink():
        return Outcome(token, kind, reason)  # moved by a run that was killed
    record_outcome(token, name or path.name, kind, reason=reason)
    reason_file = quarantine(path, token, reason)
    return Outcome(token, kind, f"{reason}; see {reason_file}")


def check_clone_for_intake() -> None:
    """Check what would make every drop fail, so that no drop is blamed for it.

    Raises:
        InputError: saying what is wrong.
    """
    from flows import preflight

    make_private_folder()
    preflight.check_root()
    preflight.check_params()
    DropTokens()
    check_ready()


def list_complete(inbox: Path, quiet_seconds: float) -> tuple[list[Drop], list[Drop]]:
    """Return the drops that are complete, and those that wait."""
    drops = find_drops(inbox, quiet_seconds)
    return [d for d in drops if not d.waits_for], [d for d in drops if d.waits_for]


def take_all(
    inbox: Path, quiet_seconds: float, say: Callable[[str], None], take: Take | None = None
) -> list[Outcome]:
    """Take every complete drop, as the only run of this clone.

    Args:
        inbox: The folder of the drops.
        quiet_seconds: How long nothing may have changed in a complete drop.
        say: Receives a line for each drop, and the lines of ingest.
        take: What takes a drop: `take_drop`, or a task around it.

    Raises:
        InputError: the inbox cannot be read or written.
        StageFailed: the run was ended.
    """
    outcomes: list[Outcome] = []
    runner = DvcRunner()
    tokens = DropTokens()

    def enter(outcome: Outcome) -> None:
        if outcome.kind == "batch":
            note_batch(outcome.detail)
        outcomes.append(outcome)
        say(outcome.line)

    try:
        with exclusive_run(say):
            # A batch must not be listed in the midst of a `dvc repro`.
            dvc_locks.wait_until_unused(Path(), say, runner.ended)
            if (resumed := resume(runner, say)) is not None:
                enter(resumed)
            discard_leftovers(inbox)
            complete, waiting = list_complete(inbox, quiet_seconds)
            for drop in complete:
                token = tokens.token(drop.name)
                if journal_path().exists():  # it holds one drop
                    enter(Outcome(token, "waits", "an earlier drop is still on its way"))
                else:
                    enter((take or take_drop)(drop, token, runner, say))
    finally:
        runner.end()
    for drop in waiting:
        enter(Outcome(tokens.token(drop.name), "waits", drop.waits_for))
    return outcomes


def start_file() -> Path:
    """Return the file that lists the batches for which the pipeline has yet to be started."""
    return make_private_folder() / "intake-start.json"


def batches_to_start() -> list[str]:
    """Return the batches for which the pipeline has yet to be started."""
    path = start_file()
    return list(json.loads(path.read_text())) if path.exists() else []


def note_batch(batch: str) -> None:
    """Note that the pipeline has to be started for a batch, and only then that its drop is done."""
    change_batches_to_start(lambda batches: [*batches, *({batch} - set(batches))])
    journal_path().unlink(missing_ok=True)


def note_started(started: list[str]) -> None:
    """Note that the pipeline was started for some batches; others may have come meanwhile."""
    change_batches_to_start(lambda batches: [b for b in batches if b not in started])


def change_batches_to_start(change: Callable[[list[str]], list[str]]) -> None:
    """Change the list of batches to start; two intakes of this clone do so one after the other."""
    path = start_file()
    with path.with_name("intake-start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if batches := change(batches_to_start()):
            partial = path.with_name(".intake-start.json.partial")
            partial.write_text(json.dumps(batches))
            partial.replace(path)
        else:
            path.unlink(missing_ok=True)


def is_work_left() -> bool:
    """Check whether a run left a drop on its way, or a pipeline to be started."""
    return journal_path().exists() or start_file().exists()
