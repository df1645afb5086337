"""Receive instances by DIMSE, with pynetdicom: a C-STORE SCP (PS3.4 B)."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from tasks.commands.pacs.dimse import send_at_once, silence_libraries
from tasks.stage.errors import InputError

# A listener inflates nothing: a few bytes of a deflated data set can fill the memory.
RECEIVED: Final = [uid for uid in ALL_TRANSFER_SYNTAXES if uid != DeflatedExplicitVRLittleEndian]


def start_storage_server(
    address: tuple[str, int],
    *,
    title: str,
    senders: Sequence[str],
    handlers: Sequence[tuple[Any, Callable[..., Any]]],
    tls: Any = None,
    timeout_s: float = 60.0,
) -> Any:
    """Start a storage server (C-STORE SCP) in threads; return it, for `shutdown()`.

    It rejects callers who ask for another AE title than `title`, and those not among `senders`
    (all may send where that is empty).

    Raises:
        InputError: when the address cannot be listened on.
    """
    silence_libraries()
    entity = AE(ae_title=title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(senders)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = timeout_s
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), RECEIVED)
    entity.add_supported_context("1.2.840.10008.1.1")  # verification
    try:
        return entity.start_server(
            address,
            block=False,
            ssl_context=tls,
            evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once), *handlers],
        )
    except OSError as error:
        host, port = address
        raise InputError(f"cannot listen on {host}:{port} ({error.strerror})") from None
