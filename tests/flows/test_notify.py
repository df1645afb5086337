"""`auglift notify`: the message that the server posts, and what it needs."""

import json
from types import SimpleNamespace

import pytest
from jinja2.sandbox import SandboxedEnvironment

from flows.notify import PAYLOAD, notify
from tasks.stage.errors import InputError


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
