"""`auglift notify`: let the Prefect server post to an address when a run needs a person.

It is a Prefect automation: the server itself sends the message. A second one tells of a run whose
machine may have died: Prefect sends a heartbeat of each run every three minutes, and by itself does
nothing when they stop. It changes no state, for heartbeats stop, too, while a server or a laptop
sleeps, and the run lives on.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from tasks.commands.command_line import help_end
from tasks.stage.errors import InputError

if TYPE_CHECKING:
    from prefect.automations import Automation

NOTIFY_EPILOG = help_end("auglift notify https://hooks.example.org/services/T0/B0/x")
# States in which a run needs a person: it waits for an approval, or ended other than well.
STATES = ("Paused", "Rejected", "WrongInput", "NotKept", "Failed", "TimedOut", "Crashed")
FLOWS = ("auglift", "auglift-tune", "intake")  # that of a worker's stage has other signs of life
# States in which no process is left that could send a heartbeat.
ENDS = ("Completed", "Cancelled", "Quarantined", "Suspended", *STATES[1:])
TEXT = (
    "flow.name ~ ' (' ~ flow_run.name ~ '): ' ~ flow_run.state.name ~ '. '"
    " ~ (flow_run.state.message or '')"
)
LOST_AFTER = timedelta(seconds=540)  # without a heartbeat: three of them
# What Slack, Mattermost and Microsoft Teams read.
PAYLOAD = '{"text": {{ (' + TEXT + ") | tojson }}}"
LOST_TEXT = (
    "flow.name ~ ' (' ~ flow_run.name ~ '): no sign of life for nine minutes. Where its machine"
    " is gone, set its state to Crashed on its page.'"
)
LOST_PAYLOAD = '{"text": {{ (' + LOST_TEXT + ") | tojson }}}"


def notify(
    url: Annotated[str, typer.Argument(help="Of a webhook: Slack, Mattermost, Teams, your own.")],
    *,
    name: Annotated[str, typer.Option(help="Of block and automation on the server.")] = "auglift",
) -> None:
    """Let your Prefect server post to an address when a run fails, is rejected or waits.

    Run it once; run it again to change the address. The address is stored on the server as a
    secret. `prefect automation delete NAME` ends it. The automation `NAME: lost runs` posts when a
    run gave no sign of life for nine minutes; it changes no state.
    """
    from prefect.settings import PREFECT_API_URL

    from flows.prefect_server import ensure_server

    if not url.startswith(("http://", "https://")):
        raise InputError("the address of a webhook begins with http:// or https://")
    if not PREFECT_API_URL.value():
        raise InputError(
            "there is no server that could send messages: start one (`prefect server start`) and"
            " name it in PREFECT_API_URL"
        )
    ensure_server()
    create_automation(url, name)
    typer.echo(f"the automation {name} posts when a run is in one of: {', '.join(STATES)}")


def create_automation(url: str, name: str) -> None:
    """Save the webhook's block and the automations, in place of earlier ones of the same name."""
    from prefect.automations import Automation
    from prefect.blocks.webhook import Webhook
    from prefect.events import EventTrigger, ResourceSpecification
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import Posture

    block = Webhook(url=url, headers={"Content-Type": "application/json"})
    identifier = block.save(name, overwrite=True)
    assert isinstance(identifier, UUID)  # not a coroutine: no event loop runs here
    automation = Automation(
        name=name,
        description="Post when a run fails, is rejected or waits for an approval.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in STATES},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=identifier, payload=PAYLOAD)],
    )
    save_automations(automation, find_lost_runs(f"{name}: lost runs", identifier))


def find_lost_runs(name: str, webhook: UUID) -> "Automation":
    """Return the automation that posts when the heartbeats of a run stop.

    Args:
        name: Of the automation.
        webhook: The id of the block that posts.
    """
    from prefect.automations import Automation
    from prefect.events import EventTrigger, ResourceSpecification
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import Posture

    return Automation(
        name=name,
        description="Post when a run that has not ended gives no sign of life any more.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={f"prefect.flow-run.{sign}" for sign in ("heartbeat", *ENDS)},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=LOST_AFTER,
        ),
        actions=[CallWebhook(block_document_id=webhook, payload=LOST_PAYLOAD)],
    )


def save_automations(*automations: "Automation") -> None:
    """Save automations on the server, in place of earlier ones of the same names."""
    from prefect import get_client

    names = {automation.name for automation in automations}
    with get_client(sync_client=True) as client:
        for found in client.request("POST", "/automations/filter", json={}).json():
            if found["name"] in names:
                client.request("DELETE", "/automations/{id}", path_params={"id": found["id"]})
        for automation in automations:
            body = automation.model_dump(mode="json", exclude={"id"})
            client.request("POST", "/automations/", json=body)
