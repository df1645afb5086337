"""Listen for scans that a PACS or a scanner sends, and close a batch after a quiet period.

A study whose sender broke off, or still sends, stays in the open batch until it is sent again. The
open batch outlives this process: the next one goes on with it.
"""

import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.pdu import A_RELEASE_RQ

from tasks.commands.pacs import storage_server
from tasks.commands.pacs.addresses import Tls
from tasks.commands.pacs.open_batch import INCOMPLETE, InstanceKey, OpenBatch, check_batch_name
from tasks.commands.pacs.sources import save_event
from tasks.stage.errors import InputError
from tasks.stage.stage_io import file_lock

LOOK_S: Final = 0.1
LONGEST_NAME: Final = 60


@dataclass
class Receiver:
    """Writes what comes to an open batch; the methods `on_...` run in threads of associations.

    `folder` is where closed batches go, `name` how their names begin; `marker` names a file that
    says of a closed one that it is complete.
    """

    folder: Path
    name: str
    say: Callable[[str], None] = print
    marker: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    sending: dict[Any, set[str]] = field(default_factory=dict)  # studies of open associations
    releasing: set[Any] = field(default_factory=set)  # associations whose sender asks for release
    unsaved: set[InstanceKey] = field(default_factory=set)  # no room for them: to be sent again
    last: float = field(default_factory=time.monotonic)
    refused: int = 0

    @property
    def batch(self) -> OpenBatch:
        """The open batch; it gets the name of its place when it is closed.

        No other batch can be named so (`check_batch_name`): no pull works in its folder.
        """
        return OpenBatch(self.folder / f"{self.name}@listening")

    def on_open(self, event: evt.Event) -> None:
        """Note that somebody sends."""
        with self.lock:
            self.sending[event.assoc] = set()

    def on_store(self, event: evt.Event) -> int:
        """Save an instance; its study counts as incomplete until its association is released."""
        with self.lock:
            studies = self.sending.setdefault(event.assoc, set())
            status, key = save_event(event, lambda data: self.save(data, studies))
            self.last = time.monotonic()
            self.refused += key is None
            return status

    def save(self, data: bytes, studies: set[str]) -> InstanceKey:
        """Save an instance after its study was marked as incomplete, and added to `studies`."""

        def begin(key: InstanceKey) -> None:
            self.unsaved.add(key)
            if key.study not in studies:
                studies.add(key.study)
                mark = self.batch.folder / key.study / INCOMPLETE
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()

        key = self.batch.save(data, begin)
        self.unsaved.discard(key)
        return key

    def on_release(self, event: evt.Event) -> None:
        """Take the studies of an association as complete, unless another one still sends them."""
        with self.lock:
            studies = self.sending.pop(event.assoc, set())
            self.complete(studies)

    def on_close(self, event: evt.Event) -> None:
        """Note an association that ended without release: its studies stay incomplete."""
        with self.lock:
            studies = self.sending.pop(event.assoc, set())
            released = event.assoc in self.releasing
            self.releasing.discard(event.assoc)
            if released:  # the connection may close before `on_release` is called
                self.complete(studies)
            elif studies:
                self.last = time.monotonic()
                self.say(
                    f"a sender broke off: {len(studies)} studies stay open until they are sent"
                    " again"
                )

    def on_message(self, event: evt.Event) -> None:
        """Note that a sender asks for the release of its association (PS3.8 9.3.6)."""
        if isinstance(event.pdu, A_RELEASE_RQ):
            with self.lock:
                self.releasing.add(event.assoc)

    def complete(self, studies: set[str]) -> None:
        """Take studies as complete, unless others send them or an instance could not be saved."""
        if not studies:
            return  # an association without images keeps no batch open
        short = studies & {key.study for key in self.unsaved}
        for study in studies - short - set().union(*self.sending.values()):
            (self.batch.folder / study / INCOMPLETE).unlink(missing_ok=True)
        self.last = time.monotonic()
        if short:
            self.say(
                f"cannot write what comes, is there room? {len(short)} studies stay open until"
                " they are sent again"
            )

    def handlers(self) -> list[tuple[Any, Callable[..., Any]]]:
        """Return the handlers of pynetdicom's events."""
        return [
            (evt.EVT_ESTABLISHED, self.on_open),
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_PDU_RECV, self.on_message),
            (evt.EVT_RELEASED, self.on_release),
            (evt.EVT_CONN_CLOSE, self.on_close),
        ]

    def close_if_quiet(self, quiet_s: float) -> Path | None:
        """Close a batch of the complete studies when nothing came for a while; return its place."""
        with self.lock:
            if self.sending or time.monotonic() - self.last < quiet_s:
                return None
            studies = [path for path in self.batch.folder.glob("*") if path.is_dir()]
            short = {key.study for key in self.unsaved}
            complete = [
                path.name
                for path in studies
                if path.name not in short and not (path / INCOMPLETE).exists()
            ]
            if not complete:
                return None
            target = self.new_place()
            count = self.batch.close(target, complete, self.marker)
            incomplete = len(studies) - len(complete)
            refused, self.refused = self.refused, 0
        more = f"; {incomplete} incomplete studies wait" if incomplete else ""
        more += f"; {refused} instances were refused" if refused else ""
        self.say(f"closed {target}: {len(complete)} studies, {count} instances{more}")
        return target

    def new_place(self) -> Path:
        """Return the place of the next batch, named by the time, and numbered if taken."""
        stem = f"{self.name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
        place, number = self.folder / stem, 2
        while place.exists():
            place, number = self.folder / f"{stem}-{number}", number + 1
        return place


def listen(
    address: tuple[str, int],
    *,
    title: str,
    senders: list[str],
    folder: Path,
    name: str,
    quiet_s: float,
    batches: int = 0,
    tls: Tls | None = None,
    timeout_s: float = 60.0,
    marker: str | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Listen until Ctrl-C, or until `batches` were closed (0: no end); return how many were.

    Raises:
        InputError: the address cannot be listened on, or another process listens for this folder.
    """
    check_batch_name(name)
    folder.mkdir(parents=True, exist_ok=True)
    receiver = Receiver(folder, name, say, marker)
    lock = Path(".locks") / f"pacs-listen-{name}"
    taken = f"another `auglift pacs listen` writes batches named {name}; end it, or give --name"
    closed = 0
    if len(name) > LONGEST_NAME:
        raise InputError(f"--name has {len(name)} characters, at most {LONGEST_NAME}")
    with file_lock(lock, taken):
        receiver.batch.recover(name)
        server = storage_server.start_storage_server(
            address, title=title, senders=senders, handlers=receiver.handlers(),
            tls=tls.server_context() if tls is not None else None, timeout_s=timeout_s,
        )  # fmt: skip
        port = server.server_address[1]
        waiting = len(receiver.batch.keys())
        say(
            f"listening as {title} on {address[0]}:{port}"
            + (f"; {waiting} instances of an earlier run wait to be closed" if waiting else "")
        )
        try:
            while not batches or closed < batches:
                time.sleep(LOOK_S)
                closed += receiver.close_if_quiet(quiet_s) is not None
        except KeyboardInterrupt:
            say("stopped; what came since the last batch stays for the next run")
        finally:
            server.shutdown()
    return closed
