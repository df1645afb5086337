"""`auglift release`: versions of the released data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from flows.entry_point import OTHER, REJECTED, print_error
from tasks.commands.command_line import help_end

app = typer.Typer(
    help="Tag, fetch, compare and recall versions of data/release.", no_args_is_help=True
)
Version = Annotated[str, typer.Argument(help="Such as v1.2.0.")]
WIDEST_CELL: Final = 48
RECALL_EXAMPLE: Final = 'auglift release recall v1.1.0 --reason "a patient withdrew the consent"'
AFFECTED_CODES: Final = "0 done, 2 wrong input, 1 some version cannot be read, or anything else"
EXIT_CODES: Final = "0 done, 2 wrong input, 3 the release was refused or recalled, 1 anything else"


def end_rejected(error: Exception) -> NoReturn:
    """End with one line and the exit code of a rejection."""
    raise typer.Exit(print_error(str(error), REJECTED))


@app.command(epilog=help_end("auglift release tag v1.2.0", codes=EXIT_CODES))
def tag(version: Version) -> None:
    """Make data/release a version: push its data, make a git tag and GTO's entry.

    The version must be release.version of params.yaml, all committed and up to date. A released
    version is never rewritten.
    """
    from flows.release_git import WithdrawnError
    from flows.release_versions import tag_release

    try:
        lines = tag_release(version)
    except WithdrawnError as error:
        end_rejected(error)
    print("\n".join(lines))


@app.command(epilog=help_end("auglift release fetch v1.2.0 releases/v1.2.0", codes=EXIT_CODES))
def fetch(
    version: Version,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    repo: Annotated[
        str | None, typer.Option(help="Another clone or a git URL, else this clone.")
    ] = None,
) -> None:
    """Bring a version into a folder and verify every checksum; a recalled one is refused."""
    from flows.release_git import WithdrawnError
    from flows.release_versions import fetch_release

    try:
        lines = fetch_release(version, out, repo)
    except WithdrawnError as error:
        end_rejected(error)
    print("\n".join(lines))


@app.command(epilog=help_end("auglift release verify release", codes=EXIT_CODES))
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Such as from `dvc get`.")],
) -> None:
    """Verify the checksums of a release that came another way: dvc get, dvc import, a disk."""
    from tasks.release.checksums import verify_checksums

    verify_checksums(folder)
    print(f"{folder}: every checksum verified")


@app.command(epilog=help_end("auglift release diff v1.1.0 v1.2.0", codes=EXIT_CODES))
def diff(old: Version, new: Version) -> None:
    """Say in words and a table what changed between two versions.

    Patients, slices, gate, lift and params.
    """
    from flows.release_history import diff_versions

    sentences, rows = diff_versions(old, new)
    print("\n".join(sentences))
    if rows:
        print_table(("", old, new), rows)


@app.command(
    epilog=help_end(
        "auglift release affected sub-1a2b3c4d5e6f",
        codes=AFFECTED_CODES,
    )
)
def affected(
    subject: Annotated[str, typer.Argument(help="A pseudonym (sub-...), or the patient's ID.")],
) -> None:
    """List the versions that a patient went into, as when a consent is withdrawn."""
    from flows.release_history import affected_versions

    pseudonym, rows, problems = affected_versions(subject)
    if rows:
        print(f"{pseudonym} went into:")
        print_table(("version", "how", ""), rows)
    else:
        print(f"{pseudonym} went into no released version that can be read")
    for problem in problems:
        print_error(problem, OTHER)
    if problems:
        raise typer.Exit(OTHER)


@app.command(epilog=help_end(RECALL_EXAMPLE, codes=EXIT_CODES))
def recall(
    version: Version,
    reason: Annotated[
        str, typer.Option(help="Why, for those who try to fetch it.")
    ] = "withdrawn by its makers",
) -> None:
    """Mark a version as withdrawn, so that `auglift release fetch` refuses it."""
    from flows.release_history import recall_version

    print("\n".join(recall_version(version, reason)))


def print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in aligned columns; a long text is cut."""
    table = [[shorten(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def shorten(text: str) -> str:
    """Cut a text to what fits a column."""
    return text if len(text) <= WIDEST_CELL else f"{text[: WIDEST_CELL - 3]}..."
