"""Decide whether the candidate may be released: the gate's verdict, then a person's approval."""

import json
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output

APPROVAL: Final = Path("data/approval.json")
MAX_TEXT_LENGTH: Final = 1000


class Approval(BaseModel):
    """A reviewer's decision on the release candidate that `digest` identifies.

    Without a digest a refusal holds for every candidate, and an approval for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    decision: Literal["pending", "approved", "refused"]
    reviewer: str | None = None
    reason: str | None = None
    digest: str | None = None

    def approves(self, digest: str) -> bool:
        """Return whether this very candidate was approved; an approval holds for no other."""
        return self.decision == "approved" and self.digest == digest

    def refuses(self, digest: str) -> bool:
        """Return whether this candidate was refused, or every one."""
        return self.decision == "refused" and self.digest in (None, digest)

    def decides(self, digest: str) -> bool:
        """Return whether a person has decided on this candidate."""
        return self.approves(digest) or self.refuses(digest)


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


def write_approval(
    decision: Literal["approved", "refused"], *, reviewer: str, reason: str, digest: str
) -> Approval:
    """Write a person's decision on a candidate to `data/approval.json`.

    Args:
        decision: What was decided.
        reviewer: Who decided, in one line.
        reason: Why; line breaks become spaces.
        digest: Of the candidate.

    Raises:
        InputError: when a text is empty, too long or holds characters that cannot be seen.
    """
    approval = Approval(
        decision=decision,
        reviewer=check_text("reviewer", reviewer),
        reason=check_text("note", reason) if reason.strip() else None,
        digest=digest,
    )
    with atomic_output(APPROVAL) as path:
        path.write_text(json.dumps(approval.model_dump(), indent=2, ensure_ascii=False) + "\n")
    return approval


def check_text(name: str, text: str) -> str:
    """Return a text with single spaces, after a check that it can stand in a data card.

    Raises:
        InputError: naming the text.
    """
    line = " ".join(text.split())
    if not (line and line.isprintable() and len(line) <= MAX_TEXT_LENGTH):
        raise InputError(
            f"the {name} is {line[:40]!r}: expected a line of at most {MAX_TEXT_LENGTH} characters"
            " that can be seen"
        )
    return line


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
    if approval.refuses(digest):
        reviewer = f" by {approval.reviewer}" if approval.reviewer else ""
        blocking.append(
            f"a person refused it{reviewer}: {approval.reason or 'no reason was given'}"
        )
    elif require_approval and not approval.approves(digest):
        if approval.decision == "pending":
            blocking.append("release.require_approval is on and no person has decided yet")
        else:
            word = "approval" if approval.decision == "approved" else "refusal"
            blocking.append(
                f"the {word} is for the digest {approval.digest}, this candidate is another"
            )
    return blocking


def describe_review(approval: Approval, digest: str) -> str:
    """Describe the data set's human review."""
    if approval.approves(digest):
        reviewer = f"approved by {approval.reviewer or 'a reviewer who gave no name'}"
        return f"{reviewer}: {approval.reason}" if approval.reason else reviewer
    return "not reviewed by a person"
