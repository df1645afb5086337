"""Ask a PACS by DIMSE, with pynetdicom: C-FIND, C-GET and C-MOVE.

Standards: PS3.4 C (query and retrieve, study root), PS3.8 9.3 (associations).
"""

import logging
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from pydicom import Dataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import (
    AE,
    build_context,
    build_role,
    evt,
)
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from tasks.commands.pacs.addresses import DimsePeer, check_secret_path
from tasks.commands.pacs.filter_check import matches
from tasks.commands.pacs.open_batch import InstanceKey
from tasks.stage.errors import InputError

FIND: Final = StudyRootQueryRetrieveInformationModelFind
GET: Final = StudyRootQueryRetrieveInformationModelGet
MOVE: Final = StudyRootQueryRetrieveInformationModelMove
PENDING: Final = (0xFF00, 0xFF01)
SUCCESS: Final = 0x0000
STORED_WITH_WARNING: Final = range(0xB000, 0xC000)
PERMANENT: Final = 1  # result of a rejected association (PS3.8 9.3.4)

T = TypeVar("T")

UNCOMPRESSED: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
COMPRESSED: Final = [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless]
# What C-GET may bring: an association has at most 128 contexts. Those whose pixels PACS keep
# compressed have a context for each transfer syntax, because an acceptor chooses one of a context.
IMAGES: Final = [
    "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1",  # MR, enhanced MR
    "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1",  # CT, enhanced CT
    "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.130",  # PET, enhanced PET
    "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.2",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.7.3", "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
]  # fmt: skip
OTHERS: Final = [
    "1.2.840.10008.5.1.4.1.1.4.3", "1.2.840.10008.5.1.4.1.1.4.4",  # enhanced colour MR, legacy MR
    "1.2.840.10008.5.1.4.1.1.2.2", "1.2.840.10008.5.1.4.1.1.128.1",  # legacy CT and PET
    "1.2.840.10008.5.1.4.1.1.7.1", "1.2.840.10008.5.1.4.1.1.7.4",
    "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66",  # RT structures, raw data
    "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.2",  # registrations
    "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.30",  # label maps, parametric maps
    "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.22",  # reports
    "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.4.2",  # MR spectroscopy
]  # fmt: skip


class LostConnectionError(InputError):
    """No answer, or an association that ended before its work was done: another try may help."""


def receiving_contexts() -> list[PresentationContext]:
    """Return the contexts of what C-GET may bring, at most 127."""
    return [
        *(build_context(uid, UNCOMPRESSED) for uid in [*IMAGES, *OTHERS]),
        *(build_context(uid, syntax) for uid in IMAGES for syntax in COMPRESSED),
    ]


def silence_libraries() -> None:
    """Keep what pynetdicom, pydicom and dicomweb-client say out of logs: UIDs, names, addresses."""
    for name in ("pynetdicom", "pydicom", "dicomweb_client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"(pydicom|pynetdicom)\b")


def send_at_once(event: evt.Event) -> None:
    """Turn Nagle's algorithm off for a connection, which pynetdicom leaves on.

    A message is written as command and data set. The second would wait until the peer confirms the
    first, which it delays by about 40 ms (RFC 1122 4.2.3.2): once for every instance.
    """
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connect(
    peer: DimsePeer,
    contexts: list[PresentationContext],
    *,
    handlers: Sequence[tuple[Any, Callable[..., Any]]] = (),
    negotiation: Sequence[Any] = (),
) -> Association:
    """Open an association.

    Raises:
        LostConnectionError: nobody answers, or the PACS is busy.
        InputError: the PACS rejects one of the AE titles, or takes none of the contexts.
    """
    silence_libraries()
    entity = AE(ae_title=peer.calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = peer.timeout_s
    entity.connection_timeout = peer.timeout_s
    tls = (peer.tls.client_context(), peer.host) if peer.tls is not None else None
    association = entity.associate(
        peer.host, peer.port, contexts=contexts, ae_title=peer.called,
        ext_neg=[*negotiation, *user_identity(peer)], tls_args=tls,
        evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once), *handlers],
    )  # fmt: skip
    if association.is_established:
        return association
    if association.is_rejected:
        answer = association.acceptor.primitive
        reason = str(getattr(answer, "reason_str", "no reason")).lower()
        message = (
            f"{peer} rejects the association: {reason}; give its AE title with --called, and ours"
            f" ({peer.calling}), as it knows us, with --calling"
        )
        if getattr(answer, "result", PERMANENT) == PERMANENT:
            raise InputError(message)
        raise LostConnectionError(message)
    if association.acceptor.primitive is not None and not association.accepted_contexts:
        raise InputError(f"{peer} offers none of the services that are needed")
    secure = " by TLS" if peer.tls else ""
    raise LostConnectionError(
        f"no PACS answers at {peer.host}:{peer.port}{secure}; is it running, are host, port and TLS"
        " right?"
    )


def user_identity(peer: DimsePeer) -> list[UserIdentityNegotiation]:
    """Return user and password of the environment for the negotiation (PS3.7 D.3.3.7).

    Raises:
        InputError: they would leave this machine in clear text.
    """
    credentials = peer.credentials
    if not credentials.user or not credentials.password:
        return []
    if peer.tls is None:
        check_secret_path(peer.host, "--tls")
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field = credentials.user.encode()
    identity.secondary_field = credentials.password.encode()
    return [identity]


@contextmanager
def association_with(
    peer: DimsePeer, contexts: list[PresentationContext], **options: Any
) -> Iterator[Association]:
    """Yield an association; release it at the end, or abort it after an error."""
    association = connect(peer, contexts, **options)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    if association.is_established:
        association.release()


def retry(work: Callable[[], T], *, retries: int, pause_s: float = 0.5) -> T:
    """Do some work again where the connection was lost, after pauses that double.

    Raises:
        LostConnectionError: the last one, when no try is left.
    """
    for attempt in range(retries):
        try:
            return work()
        except LostConnectionError:
            time.sleep(pause_s * 2**attempt)
    return work()


def query(association: Association, level: str, **keys: str) -> list[Dataset]:
    """Send a C-FIND (PS3.4 C.4.1) and return its matches.

    Raises:
        LostConnectionError: the association ended.
        InputError: the PACS refused the query.
    """
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    matches = []
    for status, match in association.send_c_find(identifier, FIND):
        if "Status" not in status:
            raise LostConnectionError("the PACS broke off during the query")
        if status.Status in PENDING and match is not None:
            matches.append(match)
        elif status.Status != SUCCESS:
            raise InputError(f"the PACS refuses the query with the status 0x{status.Status:04X}")
    return matches


def find_instances(peer: DimsePeer, filters: dict[str, str], modality: str) -> list[InstanceKey]:
    """List the instances of all studies that match; `modality` may be empty.

    Raises:
        InputError: no answer, a rejection, or a query that is refused.
    """
    keys = []
    with association_with(peer, [build_context(FIND, UNCOMPRESSED)]) as association:
        for study in query(association, "STUDY", **{"StudyInstanceUID": "", **filters}):
            if not matches(filters, {name: text_of(study, name) for name in filters}):
                continue
            uid = str(study.StudyInstanceUID)
            found = query(
                association, "SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", Modality=modality
            )
            for series in found:
                if modality and str(series.get("Modality", modality)) != modality:
                    continue  # some PACS ignore a key
                number = str(series.SeriesInstanceUID)
                instances = query(
                    association, "IMAGE",
                    StudyInstanceUID=uid, SeriesInstanceUID=number, SOPInstanceUID="",
                )  # fmt: skip
                keys += [InstanceKey(uid, number, str(each.SOPInstanceUID)) for each in instances]
    return keys


def text_of(match: Dataset, keyword: str) -> str | None:
    """Return an attribute of an answer as a text; None where the answer lacks it."""
    return str(match.get(keyword) or "") if keyword in match else None


def identifier_of(study: str, series: str, instance: str | None) -> Dataset:
    """Return what C-GET and C-MOVE ask for: a series, or one instance of it."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES" if instance is None else "IMAGE"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study, series
    if instance is not None:
        identifier.SOPInstanceUID = instance
    return identifier


def check_transfer(responses: Iterator[tuple[Dataset, Dataset | None]]) -> str | None:
    """Read all responses of a C-GET or C-MOVE; return what the PACS says went wrong, if anything.

    Raises:
        LostConnectionError: the association ended before the last response.
    """
    failed = 0
    for status, _ in responses:
        if "Status" not in status:
            raise LostConnectionError("the PACS broke off during the transfer")
        if status.Status in PENDING:
            continue
        failed = int(status.get("NumberOfFailedSuboperations") or 0)
        if status.Status == 0xA801:
            return "the PACS does not know our AE title as a destination (status 0xA801)"
        if status.Status not in (SUCCESS, 0xB000):
            return f"status 0x{status.Status:04X}"
    return f"the PACS could not send {failed}" if failed else None


def get(
    peer: DimsePeer,
    requests: Sequence[tuple[str, str, str | None]],
    on_store: Callable[[evt.Event], int],
) -> str | None:
    """Fetch series or instances by C-GET in one association; return what went wrong last.

    Raises:
        LostConnectionError: the association ended.
    """
    contexts = [build_context(GET, UNCOMPRESSED), *receiving_contexts()]
    roles = [build_role(UID(uid), scp_role=True) for uid in [*IMAGES, *OTHERS]]
    problem = None
    with association_with(
        peer, contexts, handlers=[(evt.EVT_C_STORE, on_store)], negotiation=roles
    ) as association:
        for request in requests:
            answers = association.send_c_get(identifier_of(*request), GET)
            problem = check_transfer(answers) or problem
    return problem


def move(peer: DimsePeer, requests: Sequence[tuple[str, str, str | None]]) -> str | None:
    """Let the PACS send series or instances to `peer.calling` by C-MOVE; as `get` otherwise."""
    problem = None
    with association_with(peer, [build_context(MOVE, UNCOMPRESSED)]) as association:
        for request in requests:
            answers = association.send_c_move(identifier_of(*request), peer.calling, MOVE)
            problem = check_transfer(answers) or problem
    return problem
