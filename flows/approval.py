"""Write a person's decision on the release candidate, and say where one is missing."""

import json
from dataclasses import dataclass
from typing import Literal

from flows import preflight
from flows.summary import RELEASE, REPORT, Summary
from tasks import params
from tasks.params.release import Release
from tasks.release.approval import read_approval, write_approval
from tasks.stage.errors import InputError

MIN_DIGITS = 12  # of a digest that is given in part
REFUSAL = RELEASE / "refusal.json"


@dataclass(frozen=True)
class OpenDecision:
    """A candidate for which only a person's decision is missing."""

    digest: str

    @property
    def line(self) -> str:
        """What to do, in one line."""
        return (
            f"The release waits for a person: look at {REPORT}, then run `auglift approve"
            " --reviewer NAME` (or `auglift refuse`), and `auglift run`."
        )


def find_open_decision() -> OpenDecision | None:
    """Return the candidate for which a decision is missing, as the last release says; else None.

    A candidate that must not be released for another reason needs no decision.
    """
    if not params.read_section(Release).require_approval or not REFUSAL.exists():
        return None
    refusal = json.loads(REFUSAL.read_text())
    decided = read_approval().decides(refusal["digest"])
    if decided or len(refusal["reasons"]) != 1:
        return None
    return OpenDecision(refusal["digest"])


def closing_line(verdict: Summary) -> str:
    """Return the verdict, and what to do where the release waits for a person."""
    waiting = find_open_decision()
    return f"{verdict.line} {waiting.line}" if waiting else verdict.line


def decide(
    decision: Literal["approved", "refused"], *, reviewer: str, note: str, seen: str | None = None
) -> str:
    """Write a decision on the current candidate to `data/approval.json`.

    Args:
        decision: What was decided.
        reviewer: Who decided.
        note: Why.
        seen: The digest of the candidate that the person looked at, or its beginning.

    Returns:
        A line that says what was written and what to do next.

    Raises:
        InputError: when the candidate is another one than was looked at, or is rejected anyway.
    """
    from tasks.common.flagged_slices import exclude_flagged
    from tasks.common.release_candidate import read_candidate
    from tasks.release.release_contents import choose_candidate
    from tasks.schemas.review import read_review

    preflight.check_root()
    settings = params.read_section(Release)
    folds = [str(fold) for fold in params.read_key("slices.folds")]
    candidate, digest = choose_candidate(settings, folds)
    shown = exclude_flagged(read_candidate(folds), read_review()).digest
    check_seen(seen, {digest, shown})
    if decision == "approved":
        if not candidate.accepted:
            raise InputError(
                "the gate rejected these slices, so an approval would not release them:"
                f" {'; '.join(candidate.reasons)}"
            )
        check_report(shown)
    approval = write_approval(decision, reviewer=reviewer, reason=note, digest=digest)
    return (
        f"{decision} by {approval.reviewer}: candidate {digest[:MIN_DIGITS]}… in"
        " data/approval.json; `auglift run` (or `dvc repro release`) brings it into the release"
    )


def check_seen(seen: str | None, digests: set[str]) -> None:
    """Check that the digest which a person names is the candidate's.

    Raises:
        InputError: when it is another one, or too short to tell.
    """
    if seen is None:
        return
    if len(seen) < MIN_DIGITS:
        raise InputError(f"--digest {seen}: expected {MIN_DIGITS} digits or more")
    if not any(digest.startswith(seen) for digest in digests):
        raise InputError(
            f"--digest {seen}: the candidate is now {min(digests)[:MIN_DIGITS]}…, not the one you"
            f" looked at; nothing was written: look at {REPORT} again"
        )


def check_report(digest: str) -> None:
    """Check that `data/report.html` is about the current candidate.

    Raises:
        InputError: when it is missing or of an earlier one.
    """
    if not REPORT.exists() or digest not in REPORT.read_text():
        raise InputError(
            f"{REPORT} does not show what would be released now; run `auglift run` (or `dvc"
            " repro`), look at it, then approve"
        )
