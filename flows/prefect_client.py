"""Open clients of the Prefect server for the many short questions of a run."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import httpx
from prefect import get_client
from prefect.context import SettingsContext, get_settings_context

TIMEOUT_S = 10.0


@contextmanager
def server_client(retries: int = 3, timeout_s: float = TIMEOUT_S) -> Iterator[Any]:
    """Open a client with few retries, because its callers repeat what fails.

    Prefect reads all its settings and all certificates anew for each such client. A run opens
    dozens; here they are read once.

    Args:
        retries: How often a request is sent again.
        timeout_s: Seconds to wait for an answer.
    """
    context = get_settings_context()
    settings = context.settings
    few_retries = settings.client.model_copy(update={"max_retries": retries})
    options: dict[str, Any] = {"timeout": timeout_s}
    if not settings.api.tls_insecure_skip_verify:
        options["verify"] = read_certificates(settings.api.ssl_cert_file)
    with (
        SettingsContext(
            profile=context.profile, settings=settings.model_copy(update={"client": few_retries})
        ),
        get_client(sync_client=True, httpx_settings=options) as client,
    ):
        yield client


@cache
def read_certificates(file: str | None) -> ssl.SSLContext:
    """Read the certificates that servers are checked against; None stands for those of httpx."""
    if file is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=file)
