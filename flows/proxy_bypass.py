"""Keep requests to this machine away from a network's proxy, such as a hospital's."""

import ipaddress
import os
import socket
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def bypass_proxy(hosts: tuple[str, ...] = LOOPBACK) -> None:
    """Add hosts to `NO_PROXY` and `no_proxy` where the environment names a proxy.

    Child processes inherit both. Libraries read one spelling or the other, so each gets the union
    of both values. Without a proxy nothing changes, because a `NO_PROXY` alone would switch off
    the proxies of macOS's system settings.
    """
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return  # `urllib.request` takes 30 ms to import
    from urllib.request import getproxies_environment

    if not any(key != "no" for key in getproxies_environment()):
        return
    found = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    words = [word.strip() for text in found for word in text.split(",")]
    if "*" in words:
        return
    merged = ",".join(dict.fromkeys([word for word in words if word] + list(hosts)))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = merged


def bypass_proxy_of(url: str) -> None:
    """Add the host of an address to `NO_PROXY` where it is another name of this machine."""
    host = urlsplit(url).hostname
    if host is not None and is_loopback(host):
        bypass_proxy((*LOOPBACK, host))


def is_loopback(host: str) -> bool:
    """Check whether a host name or address resolves to this machine's loopback interface only."""
    try:
        answers = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
    return all(address.is_loopback or address.is_unspecified for address in addresses)
