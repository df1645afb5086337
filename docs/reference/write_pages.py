"""Write the pages of this folder from the code, so that they cannot lie.

python -m docs.reference.write_pages          # `make docs` does it
python -m docs.reference.write_pages --check  # exit code 1 where a page is not up to date
"""

import sys
from collections.abc import Callable
from pathlib import Path

from docs.reference import command_page, file_page, graph_image, params_page, performance_page
from docs.reference.markdown import NOTE, table

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LIMIT_OF = {"FD(": "frechet"}  # measures whose limit has another name; on the bundled features


def rejection_codes_page() -> str:
    """Return the page of rejection codes."""
    from tasks.ingest.core.rejection import code_table

    return (
        "# Rejection codes\n\n`rejected.parquet` of a batch has one row for each rejected file or"
        " series, with one of these codes, a reason and a remedy. [Ingest](../ingest.md) says what"
        f" is read.\n\n{code_table()}"
    )


def measures_page() -> str:
    """Return the page of the gate's measures and of the metrics of downstream models."""
    from tasks.params.gate import REQUIRED, MeasureLimits
    from tasks.report.wording import MEASURES, METRICS, REJECTION_REASONS

    limits = MeasureLimits()
    rows = []
    for name, entry in MEASURES.items():
        limit = getattr(limits, LIMIT_OF.get(name, name), None)
        shown = "reported only" if limit is None else params_page.show_value(limit)
        required = "yes" if LIMIT_OF.get(name, name) in REQUIRED else ""
        rows.append((f"`{name}`", entry.name, entry.sentence, shown, required))
    metrics = [
        (f"`{name}`", entry.name, entry.sentence, better(entry.larger_is_better))
        for name, entry in METRICS.items()
    ]
    reasons = [(f"`{name}`", words) for name, words in REJECTION_REASONS.items()]
    return f"""# Measures

## Of a set of synthetic slices

Every measure is also taken between real patients; the gate limits the ratio of the two. A name is
the start of the measure's name in `metrics.json`. A measure that is required rejects a set where it
could not be taken. [The judge](../judge.md) says what the limits let through.

{table(("measure", "name", "meaning", "default limit of the ratio", "required"), rows)}
## Why a single slice is rejected

{table(("reason", "meaning"), reasons)}
## Of downstream models

{table(("metric", "name", "meaning", "better"), metrics)}
[The lift](../lift.md) says how arms are compared.
"""


def better(larger: bool | None) -> str:
    """Say which way a metric improves."""
    return "" if larger is None else "larger" if larger else "smaller"


PAGES: dict[str, Callable[[], str]] = {
    "reference/params.md": params_page.render,
    "reference/cli.md": command_page.render,
    "reference/rejection-codes.md": rejection_codes_page,
    "reference/measures.md": measures_page,
    "reference/files.md": file_page.render,
    "performance.md": performance_page.render,
    "images/dag.svg": graph_image.render,
}


def rendered_pages() -> dict[Path, str]:
    """Return every generated file with its text."""
    pages = {}
    for name, render in PAGES.items():
        text = render()
        pages[DOCS / name] = f"{NOTE}{text}" if name.endswith(".md") else text
    return pages


def main() -> None:
    """Write the pages, or say which are not up to date."""
    pages = rendered_pages()
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in pages.items() if not is_equal(path, text)]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not up to date; run `make docs`", file=sys.stderr)
        raise SystemExit(1 if stale else 0)
    for path, text in pages.items():
        if not is_equal(path, text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def is_equal(path: Path, text: str) -> bool:
    """Return whether a file holds a text."""
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    main()
