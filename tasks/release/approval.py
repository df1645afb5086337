"""Decide whether the candidate may be released: the gate's verdict, then a reviewer's approval."""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.stage.errors import InputError

APPROVAL: Final = Path("data/approval.json")


class Approval(BaseModel):
    """A reviewer's decision on the release candidate that `digest` identifies."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    decision: Literal["pending", "approved", "refused"]
    reviewer: str | None = None
    reason: str | None = None
    digest: str | None = None

    def approves(self, digest: str) -> bool:
        """Return whether this very candidate was approved; an approval holds for no other."""
        return self.decision == "approved" and self.digest == digest


def read_approval() -> Approval:
    """Read `data/approval.json`.

    Raises:
        InputError: naming the key, when it is not a decision.
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
    """List why the candidate must not be released, in words; an empty list releases it."""
    blocking = [f"gate: {reason}" for reason in reasons] if rejected else []
    if not (blocking or accepted_slices):
        blocking.append("no slice was accepted")
    if approval.decision == "refused":
        reviewer = f" by {approval.reviewer}" if approval.reviewer else ""
        blocking.append(
            f"a person refused it{reviewer}: {approval.reason or 'no reason was given'}"
        )
    elif require_approval and not approval.approves(digest):
        if approval.decision == "pending":
            blocking.append("release.require_approval is on and no person has decided yet")
        else:
            blocking.append(
                f"the approval is for the digest {approval.digest}, this candidate is another"
            )
    return blocking


def describe_review(approval: Approval, digest: str) -> str:
    """Describe the data set's human review."""
    if approval.approves(digest):
        return f"approved by {approval.reviewer or 'a reviewer who gave no name'}"
    return "not reviewed by a person"
