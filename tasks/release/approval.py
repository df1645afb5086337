"""Whether the candidate may leave: the gate's verdict, then a person's word."""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.stage.errors import InputError

APPROVAL: Final = Path("data/approval.json")


class Approval(BaseModel):
    """A person's decision on the release candidate that `digest` names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    decision: Literal["pending", "approved", "refused"]
    reviewer: str | None = None
    reason: str | None = None
    digest: str | None = None

    def approves(self, digest: str) -> bool:
        """Whether exactly this candidate was approved: an approval never passes to another."""
        return self.decision == "approved" and self.digest == digest


def read_approval() -> Approval:
    """Read `data/approval.json`.

    Raises:
        StageError: naming the key, when it is not a decision.
    """
    try:
        return Approval.model_validate_json(APPROVAL.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f'{APPROVAL} is missing; restore it from git or write {{"decision": "pending"}}'
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{APPROVAL}: {key} is {first['input']!r}: {first['msg']}") from None


def blocking_reasons(
    *,
    reasons: list[str],
    rejected: bool,
    accepted_slices: int,
    approval: Approval,
    digest: str,
    require_approval: bool,
) -> list[str]:
    """Why the candidate must stay, in words; an empty list lets it go."""
    found = [f"gate: {reason}" for reason in reasons] if rejected else []
    if not (found or accepted_slices):
        found.append("no slice was accepted")
    if approval.decision == "refused":
        by = f" by {approval.reviewer}" if approval.reviewer else ""
        found.append(f"a person refused it{by}: {approval.reason or 'no reason was given'}")
    elif require_approval and not approval.approves(digest):
        if approval.decision == "pending":
            found.append("release.require_approval is on and no person has decided yet")
        else:
            found.append(
                f"the approval is for the digest {approval.digest}, this candidate is another"
            )
    return found


def review(approval: Approval, digest: str) -> str:
    """What the data set says of its human review."""
    if approval.approves(digest):
        return f"approved by {approval.reviewer or 'a reviewer who gave no name'}"
    return "not reviewed by a person"
