"""What the commands of `auglift pacs` share: options, and the PACS and the query made of them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tasks.stage.errors import InputError

if TYPE_CHECKING:
    from tasks.commands.pacs.addresses import Credentials, DimsePeer, Tls, WebPeer
    from tasks.commands.pacs.sources import Filters

DATES: Final = re.compile(r"\d{8}|\d{8}-(\d{8})?|-\d{8}")

Host = Annotated[str, typer.Option(help="Of the PACS.", envvar="AUGLIFT_PACS_HOST")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Its DICOM port.")]
Called = Annotated[str | None, typer.Option(metavar="AE", help="AE title of the PACS.")]
Calling = Annotated[str, typer.Option(metavar="AE", help="Our AE title, as the PACS knows it.")]
Url = Annotated[
    str | None,
    typer.Option(help="Root of its DICOMweb services, such as http://127.0.0.1:8042/dicom-web."),
]
AllowRemote = Annotated[
    bool, typer.Option("--allow-remote", help="Use a network: else only this machine.")
]
UseTls = Annotated[bool, typer.Option("--tls", help="Speak DIMSE by TLS.")]
TlsFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="PEM file.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")]
Retries = Annotated[int, typer.Option(min=0, max=10, help="After a lost connection.")]


def make_tls(
    wanted: bool, ca: Path | None, certificate: Path | None, key: Path | None
) -> "Tls | None":
    """Return the TLS files; None without TLS."""
    from tasks.commands.pacs.addresses import Tls

    if not (wanted or ca or certificate or key):
        return None
    if key and not certificate:
        raise InputError("--tls-key needs --tls-cert")
    return Tls(ca, certificate, key)


def make_dimse_peer(
    *,
    host: str,
    port: int,
    called: str | None,
    calling: str,
    allow_remote: bool,
    tls: "Tls | None",
    credentials: "Credentials",
    timeout: float,
) -> "DimsePeer":
    """Check the options of a PACS by DIMSE."""
    from tasks.commands.pacs.addresses import DimsePeer, check_ae_title, check_host

    if called is None:
        raise InputError("give the AE title of the PACS with --called, or its --url for DICOMweb")
    called, calling = check_ae_title(called, "--called"), check_ae_title(calling, "--calling")
    check_host(host, allow_remote=allow_remote)
    return DimsePeer(host, port, called, calling, tls, credentials, timeout)


def make_web_peer(
    *,
    url: str,
    allow_remote: bool,
    tls: "Tls | None",
    credentials: "Credentials",
    timeout: float,
) -> "WebPeer":
    """Check the options of a PACS by DICOMweb."""
    from tasks.commands.pacs.addresses import WebPeer, check_url

    url = check_url(url, allow_remote=allow_remote, credentials=credentials)
    return WebPeer(url, tls, credentials, timeout)


def make_filters(
    *,
    patient: str,
    studies: list[str],
    accession: str,
    date: str,
    description: str,
    modality: str,
    everything: bool,
) -> "Filters":
    """Make the query of the options.

    Raises:
        InputError: no filter, a wrong UID or date.
    """
    from tasks.commands.pacs.open_batch import UID
    from tasks.commands.pacs.sources import Filters

    for uid in studies:
        if UID.fullmatch(uid) is None:
            raise InputError("--study is no UID: digits and dots, at most 64 of them")
    if date and DATES.fullmatch(date) is None:
        raise InputError(f"--date is {date!r}: expected 20240101, or a range 20240101-20241231")
    keys = {
        "PatientID": patient, "AccessionNumber": accession, "StudyDate": date,
        "StudyDescription": description,
    }  # fmt: skip
    keys = {name: value for name, value in keys.items() if value}
    if not (keys or studies or everything):
        raise InputError(
            "say what to pull (--patient, --study, --accession, --date, --description), or"
            " --everything"
        )
    return Filters(keys, tuple(studies), modality)
