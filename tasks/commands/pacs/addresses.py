"""Check where a PACS is and who we are to it: host, AE titles, TLS, credentials."""

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tasks.stage.errors import InputError

USER, PASSWORD, TOKEN = "AUGLIFT_PACS_USER", "AUGLIFT_PACS_PASSWORD", "AUGLIFT_PACS_TOKEN"
# PS3.5 6.2: an AE title has 1 to 16 characters, no backslash, no control character, and is not
# made of spaces alone.
AE_TITLE: Final = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")


@dataclass(frozen=True)
class Credentials:
    """What the environment says of user and token; never shown."""

    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return bool(self.user or self.token)


@dataclass(frozen=True)
class Tls:
    """Files of a TLS connection (PEM); a certificate and its key are our own."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def client_context(self) -> ssl.SSLContext:
        """Return the context of a client: the PACS must show a certificate for its host name.

        Raises:
            InputError: when a file cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            self.load_own(context)
        except (OSError, ssl.SSLError) as error:
            raise self.unreadable(error) from None
        return context

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server; with `ca`, senders must show a certificate of it.

        Raises:
            InputError: when a file cannot be read, or there is no certificate.
        """
        if self.certificate is None:
            raise InputError("--tls to be sent to needs --tls-cert and --tls-key")
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
            if self.ca is not None:
                context.verify_mode = ssl.CERT_REQUIRED
            self.load_own(context)
        except (OSError, ssl.SSLError) as error:
            raise self.unreadable(error) from None
        return context

    def load_own(self, context: ssl.SSLContext) -> None:
        """Load our certificate, if there is one; a key that asks for a password is an error."""
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key, password="")

    def unreadable(self, error: Exception) -> InputError:
        """Say which files could not be read, and why."""
        names = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path)
        return InputError(f"the TLS files ({names}) cannot be read as PEM: {error}")


@dataclass(frozen=True)
class DimsePeer:
    """A PACS by DIMSE: `called` is its AE title, `calling` our own; times in seconds."""

    host: str
    port: int
    called: str
    calling: str
    tls: Tls | None = None
    credentials: Credentials = field(default_factory=Credentials, repr=False)
    timeout_s: float = 30.0

    def __str__(self) -> str:
        return f"{self.called}@{self.host}:{self.port}"


@dataclass(frozen=True)
class WebPeer:
    """A PACS by DICOMweb: `url` is the root of its services."""

    url: str
    tls: Tls | None = None
    credentials: Credentials = field(default_factory=Credentials, repr=False)
    timeout_s: float = 30.0

    def __str__(self) -> str:
        return self.url


def check_ae_title(title: str, option: str) -> str:
    """Check an AE title (PS3.5 6.2), and return it without the spaces around it.

    Raises:
        InputError: naming the option.
    """
    if AE_TITLE.fullmatch(title) is None:
        raise InputError(
            f"{option} is {title!r}: an AE title has 1 to 16 ASCII characters and no backslash"
        )
    return title.strip()


def check_host(host: str, *, allow_remote: bool) -> str:
    """Check that a host to connect to, or an address to listen on, is this machine, or allowed.

    Raises:
        InputError: when the name is not known, or leads elsewhere and `allow_remote` is not given.
    """
    try:
        answers = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        raise InputError(f"the host {host!r} is not known; check its spelling") from None
    addresses = [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
    if not allow_remote and not all(address.is_loopback for address in addresses):
        raise InputError(
            f"{host} is not this machine: give --allow-remote where patients' data may travel there"
        )
    return host


def check_url(url: str, *, allow_remote: bool, credentials: Credentials) -> str:
    """Check the root of DICOMweb services: http or https, no password in it, a known host.

    Raises:
        InputError: saying what is wrong; a password or token goes over https only.
    """
    try:
        parts = urlsplit(url)
        host, secret, _ = parts.hostname, parts.password or parts.username, parts.port
    except ValueError:
        host, secret, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise InputError("--url is no address such as http://127.0.0.1:8042/dicom-web")
    if secret:
        raise InputError(f"--url holds a user or password: give them by {USER} and {PASSWORD}")
    check_host(host, allow_remote=allow_remote)
    if credentials.given and parts.scheme == "http" and allow_remote:
        check_secret_path(host, f"https, not http, in --url ({host})")
    return url.rstrip("/")


def check_secret_path(host: str, remedy: str) -> None:
    """Check that a password or token does not leave this machine in clear text.

    Raises:
        InputError: with the remedy.
    """
    try:
        check_host(host, allow_remote=False)
    except InputError:
        raise InputError(f"a password or token would travel in clear text: use {remedy}") from None


def read_credentials(environment: Mapping[str, str] = os.environ) -> Credentials:
    """Read user and password, or a token, from the environment.

    Raises:
        InputError: when there is one of user and password, but not the other.
    """
    user, password = environment.get(USER) or None, environment.get(PASSWORD) or None
    if (user is None) != (password is None):
        missing = PASSWORD if password is None else USER
        raise InputError(f"{missing} is not set: {USER} and {PASSWORD} go together")
    return Credentials(user, password, environment.get(TOKEN) or None)
