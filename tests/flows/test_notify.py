"""`auglift notify`: the message that the server posts, and what it needs."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from uuid import uuid4

import pytest
from jinja2.sandbox import SandboxedEnvironment
from prefect import flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running

from flows import notify as notify_command
from flows.notify import PAYLOAD, create_automation, notify
from tasks.stage.errors import InputError
from tests.flows.processes import request_json, wait_for


@pytest.mark.parametrize("message", ['fold 0: "too alike" | 50 %\n', None])
def test_the_message_is_json_whatever_a_state_says(message: str | None) -> None:
    state = SimpleNamespace(name="Rejected", message=message)
    text = SandboxedEnvironment().from_string(PAYLOAD).render(
        flow=SimpleNamespace(name="auglift"),
        flow_run=SimpleNamespace(name="phantom, 2d458d8", state=state),
    )  # fmt: skip
    said = json.loads(text)["text"]
    assert said == f"auglift (phantom, 2d458d8): Rejected. {message or ''}"


def test_an_address_of_the_web_and_a_server_of_ones_own_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(InputError, match="begins with http"):
        notify("hooks.example.org")
    with pytest.raises(InputError, match="start one"):
        notify("https://hooks.example.org")


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A webhook's address, and the texts that were posted there."""
    texts: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts.append(json.loads(body)["text"])
            self.send_response(HTTPStatus.OK)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", texts
        server.shutdown()


@pytest.mark.verify
def test_a_message_tells_of_a_run_whose_heartbeats_stop_and_the_run_stays_as_it_is(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch, webhook: tuple[str, list[str]]
) -> None:
    url, texts = webhook
    monkeypatch.setattr(notify_command, "LOST_AFTER", timedelta(seconds=20))
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        create_automation(url, "lost")
        create_automation(url, "lost")  # in place of the first
        made = request_json(f"{prefect_api}/automations/filter", "POST", {})
        with get_client(sync_client=True) as client:
            lost, alive, ended, foreign = (
                client.create_flow_run(flow(name=name)(print), name=run, state=Running())
                for name, run in [
                    ("auglift", "lost"), ("auglift", "alive"), ("auglift", "ended"),
                    ("another", "foreign"),
                ]
            )  # fmt: skip

            def send_heartbeat(run: FlowRun) -> None:
                name = client.read_flow(run.flow_id).name
                event = {
                    "id": str(uuid4()), "event": "prefect.flow-run.heartbeat", "payload": {},
                    "occurred": datetime.now(UTC).isoformat(),
                    "resource": {"prefect.resource.id": f"prefect.flow-run.{run.id}"},
                    "related": [{
                        "prefect.resource.id": f"prefect.flow.{run.flow_id}",
                        "prefect.resource.role": "flow", "prefect.resource.name": name,
                    }],
                }  # fmt: skip
                request_json(f"{prefect_api}/events", "POST", [event])

            def is_told() -> bool:
                send_heartbeat(alive)
                time.sleep(2)
                return bool(texts)

            try:
                assert len(made) == 2
                for run in (lost, ended, foreign):
                    send_heartbeat(run)
                client.set_flow_run_state(ended.id, Completed())
                assert wait_for(is_told, 180)
                assert not wait_for(lambda: len(texts) > 1, 10)
                assert client.read_flow_run(lost.id).state.is_running()
            finally:  # other tests share the server
                for automation in made:
                    request_json(f"{prefect_api}/automations/{automation['id']}", "DELETE")
    assert texts[0].startswith("auglift (lost): no sign of life for nine minutes.")
