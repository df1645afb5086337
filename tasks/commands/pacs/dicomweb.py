"""Speak DICOMweb (PS3.18) with a PACS by dicomweb-client: QIDO-RS, WADO-RS, STOW-RS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from tasks.commands.pacs.addresses import Credentials, WebPeer
from tasks.commands.pacs.dimse import LostConnectionError, silence_libraries
from tasks.commands.pacs.filter_check import matches
from tasks.commands.pacs.open_batch import InstanceKey
from tasks.stage.errors import InputError

AS_STORED: Final = (("application/dicom", "*"),)  # any transfer syntax: nothing is converted
PAGE: Final = 500
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
MODALITY: Final = "00080060"
WORTH_A_RETRY: Final = (408, 429, 502, 503, 504)


class TokenAuth(requests.auth.AuthBase):  # type: ignore[misc]
    """Send a bearer token."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: Any) -> Any:
        """Add the header to a request."""
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class WildcardSession(requests.Session):  # type: ignore[misc]
    """Leave `*` and `?` of a query as they are: Orthanc 1.10 does not decode them."""

    def send(self, request: Any, **options: Any) -> Any:
        """Send a request."""
        request.url = request.url.replace("%2A", "*").replace("%3F", "?")
        return super().send(request, **options)


def make_client(peer: WebPeer) -> DICOMwebClient:
    """Make a client; user, password and token come from nowhere but `peer` (no `.netrc`)."""
    silence_libraries()
    session = WildcardSession()
    session.trust_env = False
    session.max_redirects = 0  # another host would get the queries, or the images of a push
    if peer.tls is not None:
        if peer.tls.ca is not None:
            session.verify = str(peer.tls.ca)
        if peer.tls.certificate is not None:
            pair = (peer.tls.certificate, peer.tls.key or peer.tls.certificate)
            session.cert = (str(pair[0]), str(pair[1]))
    session.auth = authentication(peer.credentials)
    client = DICOMwebClient(peer.url, session=session, timeout=peer.timeout_s)
    client.set_http_retry_params(retry=False)  # the caller tries again
    return client


def authentication(credentials: Credentials) -> Any:
    """Return what adds user and password, or the token, to each request."""
    if credentials.token:
        return TokenAuth(credentials.token)
    if credentials.user and credentials.password:
        return (credentials.user, credentials.password)
    return None


@contextmanager
def explain_errors(peer: WebPeer) -> Iterator[None]:
    """Turn errors of HTTP into one line without tokens, UIDs or bodies.

    Raises:
        LostConnectionError: nobody answers, or asks to try again.
        InputError: any other answer than success.
    """
    try:
        yield
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in WORTH_A_RETRY:
            raise LostConnectionError(f"{peer} answers with HTTP {code}") from None
        hint = {
            401: "; it wants other credentials (docs/pacs.md)",
            403: "; it wants other credentials (docs/pacs.md)",
            404: "; --url must be the root of its DICOMweb services",
        }.get(code, "")
        raise InputError(f"{peer} answers with HTTP {code}{hint}") from None
    except requests.TooManyRedirects:
        raise InputError(
            f"{peer} redirects to another address, which is not followed; give that one as --url"
        ) from None
    except requests.exceptions.SSLError:
        raise InputError(f"{peer} has no certificate that is trusted; see --tls-ca") from None
    except requests.RequestException as error:
        raise LostConnectionError(
            f"no DICOMweb service answers at {peer} ({type(error).__name__}); is it running, and is"
            " --url right?"
        ) from None
    except (ValueError, KeyError, OSError) as error:
        raise InputError(
            f"{peer} does not answer as DICOMweb does ({type(error).__name__}); --url must be the"
            " root of its DICOMweb services"
        ) from None


def find_instances(peer: WebPeer, filters: dict[str, str], modality: str) -> list[InstanceKey]:
    """List the instances of all studies that match; `modality` may be empty."""
    client = make_client(peer)
    keys = []
    tags = {keyword: f"{tag_for_keyword(keyword):08X}" for keyword in filters}
    studies = pages(
        client.search_for_studies, STUDY, search_filters=filters, fields=list(filters) or None
    )
    for study, answer in studies.items():
        values = {
            name: value_of(answer, tag) if tag in answer else None for name, tag in tags.items()
        }
        if not matches(filters, values):
            continue
        of_series = {"Modality": modality} if modality else {}
        series = pages(client.search_for_series, SERIES, study, search_filters=of_series)
        for number, entry in series.items():
            if modality and value_of(entry, MODALITY) not in ("", modality):
                continue  # some servers ignore a filter
            found = pages(client.search_for_instances, INSTANCE, study, number)
            keys += [InstanceKey(study, number, instance) for instance in found]
    return keys


def pages(search: Any, tag: str, *place: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Read all pages of a search: the entries by the UID in `tag`.

    A server that ignores the offset repeats what it gave, which ends the search.
    """
    entries: dict[str, dict[str, Any]] = {}
    while True:
        page = search(*place, limit=PAGE, offset=len(entries), **options)
        new = {value_of(entry, tag): entry for entry in page}
        if not new.keys() - entries.keys():
            return entries
        entries |= new
        if len(page) < PAGE:
            return entries


def value_of(entry: dict[str, Any], tag: str) -> str:
    """Return the first value of an attribute of DICOM JSON (PS3.18 F), or an empty text."""
    values = entry.get(tag, {}).get("Value") or [""]
    return str(values[0])


def retrieve(peer: WebPeer, series: Sequence[InstanceKey], *, whole: bool) -> Iterator[Dataset]:
    """Yield the data sets of instances of one series, as the PACS keeps them."""
    client = make_client(peer)
    if whole:
        yield from client.iter_series(series[0].study, series[0].series, media_types=AS_STORED)
        return
    for key in series:
        yield client.retrieve_instance(key.study, key.series, key.instance, media_types=AS_STORED)


def store(peer: WebPeer, datasets: Sequence[Dataset]) -> dict[str, str]:
    """Send data sets by STOW-RS in one request; return why those that failed did, by their UID."""
    client = make_client(peer)
    try:
        answer = client.store_instances(datasets)
    except requests.HTTPError as error:
        # 409: every one failed; the reasons are in the body, if at all.
        if error.response is None or error.response.status_code != 409:
            raise
        return {str(dataset.SOPInstanceUID): "HTTP 409" for dataset in datasets}
    failed = answer.get("FailedSOPSequence") or []
    stored = {
        str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence") or []
    }
    silent = {str(dataset.SOPInstanceUID) for dataset in datasets} - stored
    return dict.fromkeys(silent, "the answer does not say that it was stored") | {
        str(item.ReferencedSOPInstanceUID): f"reason 0x{int(item.get('FailureReason') or 0):04X}"
        for item in failed
    }
