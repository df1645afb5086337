"""`auglift compare`: two runs side by side, in words and as a page."""

from pathlib import Path
from typing import Annotated

import typer

from tasks.commands.command_line import help_end
from tasks.stage.errors import InputError

COMPARE_EPILOG = help_end(
    "auglift compare v1.1.0 v1.2.0",
    "auglift compare main  # with the current files",
    "auglift compare muddy-oxes windy-yaks --out trial.html  # experiments of DVC",
)
Run = Annotated[str, typer.Argument(help="A tag, branch, commit, experiment, or workspace.")]


def compare(
    first: Run,
    second: Run = "workspace",
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("comparison.html"),
) -> None:
    """Compare two runs: verdict, claims, figures, params, patients; print it and write a page.

    Reads what DVC has of each revision, from its cache or the remote; nothing is computed again.
    """
    from flows.comparison_page import render_comparison
    from flows.preflight import check_root
    from flows.run_record import describe_changes, read_record
    from tasks import params
    from tasks.params.release import Release

    check_root()
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written; name a file in a folder that exists with --out")
    before, after = read_record(first), read_record(second)
    page = render_comparison(before, after, params.read_section(Release).smallest_cell)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(out)
    print("\n".join([*describe_changes(before, after), str(out)]))
