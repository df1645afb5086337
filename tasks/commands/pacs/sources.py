"""Fetch instances from a PACS by C-GET, by C-MOVE or by DICOMweb, behind one interface."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final, Protocol

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import evt

from tasks.commands.pacs import dicomweb, dimse, storage_server
from tasks.commands.pacs.addresses import DimsePeer, WebPeer
from tasks.commands.pacs.open_batch import DuplicateError, InstanceKey, InvalidInstanceError
from tasks.stage.errors import InputError

LATE_S: Final = 5.0
OUT_OF_RESOURCES, CANNOT_UNDERSTAND, DUPLICATE = 0xA700, 0xC000, 0x0111

Save = Callable[[bytes], InstanceKey]


@dataclass(frozen=True)
class Filters:
    """What to look for: `keys` of studies by their keywords, their UIDs, a series' modality."""

    keys: dict[str, str] = field(default_factory=dict)
    studies: tuple[str, ...] = ()
    modality: str = ""

    def queries(self) -> list[dict[str, str]]:
        """Return the keys of each query: one a study where studies are named."""
        if not self.studies:
            return [self.keys]
        return [{**self.keys, "StudyInstanceUID": uid} for uid in self.studies]


class Source(Protocol):
    """A PACS to fetch from; `late_s`: how long after a fetch its last instances may still come."""

    @property
    def late_s(self) -> float:
        """Return it, in seconds."""

    def find(self, filters: Filters) -> list[InstanceKey]:
        """List the instances that match."""

    def ready(self, save: Save) -> contextlib.AbstractContextManager[None]:
        """Prepare to fetch: `save` is called with each file."""

    def fetch(self, series: Sequence[InstanceKey], *, whole: bool) -> str | None:
        """Fetch instances of one series (`whole`: all of it); return what went wrong, in words."""


def save_event(event: evt.Event, save: Save) -> tuple[int, InstanceKey | None]:
    """Save what a C-STORE brings; return the status of the answer (PS3.4 B.2.3), and the UIDs."""
    try:
        return dimse.SUCCESS, save(event.encoded_dataset())
    except InvalidInstanceError:
        return CANNOT_UNDERSTAND, None
    except DuplicateError:
        return DUPLICATE, None
    except OSError:
        return OUT_OF_RESOURCES, None


@dataclass
class DimseSource:
    """A PACS by DIMSE. For C-MOVE it sends to the address `listen`, from one of `senders`."""

    peer: DimsePeer
    listen: tuple[str, int] | None = None
    senders: tuple[str, ...] = ()
    save: Save | None = None

    @property
    def late_s(self) -> float:
        """A PACS may answer a C-MOVE before its last instance has come."""
        return LATE_S if self.listen is not None else 0.0

    def find(self, filters: Filters) -> list[InstanceKey]:
        """List the instances that match."""
        return [
            key
            for keys in filters.queries()
            for key in dimse.find_instances(self.peer, keys, filters.modality)
        ]

    @contextlib.contextmanager
    def ready(self, save: Save) -> Iterator[None]:
        """Prepare to fetch; for C-MOVE, listen meanwhile."""
        self.save = save
        if self.listen is None:
            yield
            return
        tls = self.peer.tls.server_context() if self.peer.tls is not None else None
        server = storage_server.start_storage_server(
            self.listen, title=self.peer.calling, senders=self.senders or (self.peer.called,),
            handlers=[(evt.EVT_C_STORE, self.on_store)], tls=tls,
        )  # fmt: skip
        try:
            yield
        finally:
            server.shutdown()

    def on_store(self, event: evt.Event) -> int:
        """Save an instance that comes."""
        assert self.save is not None
        return save_event(event, self.save)[0]

    def fetch(self, series: Sequence[InstanceKey], *, whole: bool) -> str | None:
        """Fetch instances of one series."""
        first = series[0]
        requests: list[tuple[str, str, str | None]] = [
            (key.study, key.series, key.instance) for key in series
        ]
        if whole:
            requests = [(first.study, first.series, None)]
        if self.listen is None:
            return dimse.get(self.peer, requests, self.on_store)
        return dimse.move(self.peer, requests)


@dataclass
class WebSource:
    """A PACS by DICOMweb."""

    peer: WebPeer
    save: Save | None = None
    late_s: float = 0.0

    def find(self, filters: Filters) -> list[InstanceKey]:
        """List the instances that match."""
        with dicomweb.explain_errors(self.peer):
            return [
                key
                for keys in filters.queries()
                for key in dicomweb.find_instances(self.peer, keys, filters.modality)
            ]

    @contextlib.contextmanager
    def ready(self, save: Save) -> Iterator[None]:
        """Prepare to fetch."""
        self.save = save
        yield

    def fetch(self, series: Sequence[InstanceKey], *, whole: bool) -> str | None:
        """Fetch instances of one series."""
        assert self.save is not None
        problem = None
        for keys in [series] if whole else [[key] for key in series]:
            try:
                datasets = dicomweb.retrieve(self.peer, keys, whole=whole)
                while True:
                    with dicomweb.explain_errors(self.peer):
                        dataset = next(datasets, None)
                    if dataset is None:
                        break
                    self.save(to_bytes(dataset))
            except dimse.LostConnectionError:
                raise
            except (InputError, InvalidInstanceError, DuplicateError) as error:
                problem = str(error)
            except OSError as error:
                return f"cannot write a file of the batch ({error.strerror})"
        return problem


def to_bytes(dataset: Any) -> bytes:
    """Write a data set as the bytes of a file (PS3.10).

    Raises:
        InvalidInstanceError: when it cannot be written.
    """
    buffer = BytesIO()
    meta: Any = getattr(dataset, "file_meta", {})
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian  # it was inflated when it was read
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise InvalidInstanceError(f"no file can be made of it ({type(error).__name__})") from None
    return buffer.getvalue()


def wait_for(
    keys: Sequence[InstanceKey], has: Callable[[InstanceKey], bool], *, most_s: float
) -> None:
    """Wait for instances that may still come."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline and not all(map(has, keys)):
        time.sleep(0.05)
