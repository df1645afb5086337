"""Which Prefect server a run uses, and how it gets there."""

import os
import shutil
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.prefect_server import check_server_answers
from flows.proxy_bypass import bypass_proxy, bypass_proxy_of, is_loopback
from tasks.stage.errors import InputError
from tests.flows import toy_pipeline
from tests.flows.in_process import run_auglift
from tests.flows.processes import FLOW

PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
ASK = "from flows.prefect_server import ensure_server; ensure_server(); print('answers')"


class Proxy(socketserver.BaseRequestHandler):
    """A proxy that lets nothing through."""

    asked: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        """Note what it was asked for."""
        self.asked.append(self.request.recv(4096).partition(b"\r\n")[0])
        self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_NAMES:
        for spelt in (name, name.upper()):
            # Set first, so that what a test makes of it is undone.
            monkeypatch.setenv(spelt, "")
            monkeypatch.delenv(spelt)


@pytest.mark.verify  # the next test starts such a server, without a run
def test_a_run_behind_a_proxy_reaches_its_own_server(
    repo: Path, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXY_NAMES[:3]:
        monkeypatch.setenv(name.upper(), proxy)
    toy_pipeline.change_section(repo, "lift", seed=51)
    Proxy.asked.clear()
    done = toy_pipeline.run_module(repo, *FLOW)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not Proxy.asked


@pytest.mark.parametrize("host", ["localhost", None])
def test_a_run_behind_a_proxy_reaches_a_users_server_on_this_machine_or_its_own(
    tmp_path: Path, prefect_api: str, empty_prefect_database: Path, proxy: str, host: str | None
) -> None:
    Proxy.asked.clear()
    shutil.copy(empty_prefect_database, tmp_path / "prefect.db")
    done = toy_pipeline.run_module(
        tmp_path,
        "timeit",
        "-n1",
        "-r1",
        ASK,
        HTTP_PROXY=proxy,
        http_proxy=proxy,
        PREFECT_HOME=str(tmp_path),
        PREFECT_API_URL=prefect_api.replace("127.0.0.1", host) if host else "",
    )
    assert done.stdout.startswith("answers"), done.stderr
    assert not Proxy.asked


@pytest.mark.parametrize("spelt", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_both_spellings_of_no_proxy_get_what_either_held(
    spelt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(spelt, "http://proxy.hospital.example:3128")
    monkeypatch.setenv("NO_PROXY", "pacs.hospital.example, localhost")
    monkeypatch.setenv("no_proxy", ".intern")
    bypass_proxy()
    bypass_proxy()
    merged = ".intern,pacs.hospital.example,localhost,127.0.0.1,::1,0.0.0.0"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == merged


def test_nothing_is_set_without_a_proxy_or_where_none_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bypass_proxy()
    assert "NO_PROXY" not in os.environ
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.hospital.example:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    bypass_proxy()
    assert os.environ["NO_PROXY"] == "*"
    assert "no_proxy" not in os.environ


def test_another_name_of_this_machine_is_not_asked_for_at_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.hospital.example:3128")
    bypass_proxy_of("http://127.0.1.1:4200/api")
    assert os.environ["no_proxy"].endswith(",127.0.1.1")
    bypass_proxy_of("http://192.0.2.7:4200/api")
    assert "192.0.2.7" not in os.environ["no_proxy"]
    assert not is_loopback("192.0.2.7")


def test_a_run_whose_server_is_not_there_ends_with_one_line(
    repo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repo)
    toy_pipeline.change_section(repo, "lift", seed=52)
    url = "http://bob:secret@127.0.0.1:9/api"
    assert run_auglift("run", api=url) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("auglift: PREFECT_API_URL is http://127.0.0.1:9/api, where no Prefect")
    assert "prefect server start" in line
    assert "secret" not in line


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "nonsense"])
def test_the_address_of_a_server_that_is_not_there_is_named_in_one_line(url: str) -> None:
    message = complaint_about(url)
    assert message.startswith(f"PREFECT_API_URL is {url}, where no Prefect server answers (")
    assert "prefect server start" in message


def test_what_answers_but_is_no_prefect_server_is_one_line_too(proxy: str) -> None:
    assert "502 Bad Gateway" in complaint_about(f"{proxy}/api")


def complaint_about(url: str) -> str:
    """Return the one line in which a server's address is rejected."""
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(InputError) as caught:
        check_server_answers(url)
    assert "\n" not in str(caught.value)
    return str(caught.value)
