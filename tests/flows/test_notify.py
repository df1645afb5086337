"""`auglift notify`: the message that the server posts, and what it needs."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from jinja2.sandbox import SandboxedEnvironment
from prefect import flow, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Running

from flows import notify as notify_command
from flows.notify import PAYLOAD, find_lost_runs, notify, save_automations
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


@pytest.mark.verify
def test_a_run_whose_heartbeats_stop_is_set_to_crashed_and_another_is_not(
    prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify_command, "LOST_AFTER", timedelta(seconds=20))
    with temporary_settings({PREFECT_API_URL: prefect_api}):
        save_automations(find_lost_runs("lost"))
        save_automations(find_lost_runs("lost"))  # in place of the first
        (automation,) = request_json(f"{prefect_api}/automations/filter", "POST", {})
        with get_client(sync_client=True) as client:
            lost, alive = (
                client.create_flow_run(flow(name="lost")(print), state=Running()) for _ in range(2)
            )

    def send_heartbeat(run: object) -> None:
        event = {
            "id": str(uuid4()), "event": "prefect.flow-run.heartbeat", "payload": {},
            "occurred": datetime.now(UTC).isoformat(), "related": [],
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        }  # fmt: skip
        request_json(f"{prefect_api}/events", "POST", [event])

    def is_crashed(run: object) -> bool:
        if run is lost.id:
            send_heartbeat(alive.id)
        return bool(request_json(f"{prefect_api}/flow_runs/{run}")["state"]["type"] == "CRASHED")

    send_heartbeat(lost.id)
    try:
        assert wait_for(lambda: is_crashed(lost.id), 180)
        assert not is_crashed(alive.id)
    finally:  # other tests share the server
        request_json(f"{prefect_api}/automations/{automation['id']}", "DELETE")
