"""`auglift approve` and `auglift refuse`: a person's decision on what would be released."""

from typing import Annotated

import typer

from tasks.commands.command_line import help_end
from tasks.stage.errors import InputError

Reviewer = Annotated[str, typer.Option(help="Who decides; stands in the data card.")]
Digest = Annotated[
    str | None,
    typer.Option(
        help="Of the candidate that was looked at, as the report gives it, or its first"
        " 12 or more digits: the decision is not written where the candidate is another."
    ),
]
APPROVE_EPILOG = help_end(
    'auglift approve --reviewer "A. Reader" --note "looked at all" --digest 4f0c9a77d1e2'
)
REFUSE_EPILOG = help_end('auglift refuse --reviewer "A. Reader" --note "tumours look painted on"')


def approve(
    *,
    reviewer: Reviewer,
    note: Annotated[str, typer.Option(help="Such as what was looked at.")] = "",
    digest: Digest = None,
) -> None:
    """Approve what data/report.html shows for release; `auglift run` then releases it.

    The approval holds for these slices and this verdict only, by their digest.
    It is written to data/approval.json, which Git tracks.
    """
    from flows import approval

    typer.echo(approval.decide("approved", reviewer=reviewer, note=note, seen=digest))


def refuse(
    *,
    reviewer: Reviewer,
    note: Annotated[str, typer.Option(help="Why; stands in the refusal.")],
    digest: Digest = None,
) -> None:
    """Refuse the release of what data/report.html shows; a later candidate may be approved."""
    from flows import approval

    if not note.strip():
        raise InputError("--note is empty; say in a line why it is refused")
    typer.echo(approval.decide("refused", reviewer=reviewer, note=note, seen=digest))
