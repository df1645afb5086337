"""Serve the reader study, or write its results; `auglift review` runs this."""

import contextlib
import json
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from tasks import params
from tasks.commands.command_line import exit_code_of
from tasks.commands.review.answer_store import AnswerStore, set_aside
from tasks.commands.review.answers import check_reader_name
from tasks.commands.review.reading_session import ReadingSession
from tasks.commands.review.server import make_app
from tasks.commands.review.studies import DEFAULT_BEST, Study, open_study, resume_study
from tasks.commands.review.study_slices import SlicePool
from tasks.schemas.review import REVIEW
from tasks.stage.errors import InputError
from tasks.stage.processes import die_with_parent
from tasks.stage.stage_io import file_lock
from tasks.stage.stage_runtime import exit_with_error

EPILOG = """
Examples:

  auglift review                     100 slices of the first fold

  auglift review --reader AB         for one reader

  auglift review --new -n 200        a new study; the last one is kept

  auglift review export              write data/review.json, print accuracy

  auglift review --search gan        compare the generators of a search

Exit codes: 0 done, 2 wrong input (one line says what), 1 anything else.
"""

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)

Fold = Annotated[
    str | None,
    typer.Option(metavar="FOLD", help="One of slices.folds; the first one if not given."),
]


Search = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of a search: compare its best generators instead."),
]


@app.callback(invoke_without_command=True, epilog=EPILOG)
def serve(
    context: typer.Context,
    *,
    fold: Fold = None,
    search: Search = None,
    best: Annotated[
        int, typer.Option(min=2, max=10, help="Generators of a search to compare.")
    ] = DEFAULT_BEST,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=4, max=5000,
                                 help="Slices, half of them real; 100 if not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Which slices; 0 if not given.")] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="NAME", help="The only reader; else each enters initials.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    proxy_host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Name of a proxy of yours, with TLS, if any."),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Begin a new study; the last one is kept.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:  # fmt: skip
    """Rate real and synthetic slices in a browser, blinded, as several readers may.

    The page is served on this machine only, to whoever has the link with its token. Answers are
    saved as they are given; the next start goes on with the same study. Ctrl-C ends it.
    """
    if context.invoked_subcommand is not None:
        return

    def run() -> None:
        if reader is not None:
            check_reader_name(reader)
        study = Study(choose_fold(fold), search, best)
        taken = f"the study {study.name} is open in another process; end it first"
        with file_lock(Path(".locks") / f"review-{study.name}", taken):
            if new and (kept := set_aside(study.path)):
                print(f"the last study is kept in {kept}")
            store, pool = open_study(study, count=count, seed=seed)
            try:
                serve_study(store, pool, reader=reader, port=port, host=proxy_host, opens=browser)
            finally:
                store.close()

    run_command(run)


@app.command()
def export(*, fold: Fold = None, search: Search = None) -> None:
    """Write the finished answers to data/review.json, and print accuracy and agreement.

    Pool, report and release read the file. It says which slices are real: export when all readers
    are done. Outlines become masks in .review/outlines-FOLD. With --search, .tune/NAME/readers.json
    is written instead, for `auglift tune --objective readers`. Exit codes: 0 done, 2 nothing to
    export.
    """
    from tasks.commands.review import export_results, search_study  # they import statsmodels

    def run() -> None:
        chosen = Study(choose_fold(fold), search)
        store, pool = resume_study(chosen)
        try:
            if search is not None:
                folder = search_study.search_folder(search)
                for trial, own in search_study.export_search(store, pool, folder).items():
                    print(
                        f"trial {trial}: realism {own['realism']:.2f} ({own['low']:.2f} to"
                        f" {own['high']:.2f}) on {own['slices']} slices"
                    )
                print(f"`auglift tune --name {search} --objective readers` chooses by it")
                return
            study = export_results.export_study(store, pool)
            export_results.print_figures(chosen.fold, study.figures, count_answers(store))
        finally:
            store.close()
        print(f"written to {REVIEW}; `dvc repro` brings it into the report and the release")

    run_command(run)


def run_command(run: Callable[[], None]) -> None:
    """Run a command; wrong input is one line and exit code 2."""
    die_with_parent()
    try:
        run()
    except InputError as error:
        exit_with_error("review", str(error))
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def choose_fold(fold: str | None) -> str:
    """Return the fold of the study.

    Raises:
        InputError: when it is not listed in `slices.folds`.
    """
    folds = [str(each) for each in params.read_key("slices.folds")]
    if fold is not None and fold not in folds:
        raise InputError(f"--fold {fold}: slices.folds lists {', '.join(folds)}")
    return folds[0] if fold is None else fold


def serve_study(
    store: AnswerStore, pool: SlicePool, *, reader: str | None, port: int, host: str | None,
    opens: bool,
) -> None:  # fmt: skip
    """Serve a study on loopback until Ctrl-C; print the link at the start and the progress after.

    Raises:
        InputError: when the port is taken.
    """
    stats = json.loads(Path("data/slices/stats.json").read_text())
    token = secrets.token_urlsafe(24)
    with contextlib.closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)  # a browser that is quicker than the server waits
        except OSError as error:
            raise InputError(
                f"--port {port} cannot be used ({error.strerror}); take another one, or 0"
            ) from None
        link = f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
        session = ReadingSession(
            store, pool, modalities=stats["modalities"], oriented=stats.get("scale") != "body",
            reader=reader,
        )  # fmt: skip
        web = make_app(session, token=token, host=host)
        print(f"{len(store.slices)} slices; open this link, Ctrl-C ends:")
        print(f"  {link}", flush=True)
        if opens:
            webbrowser.open(link)
        config = uvicorn.Config(web, log_level="error", access_log=False, server_header=False)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    for name, (done, total) in count_answers(store).items():
        print(f"{name}: {done} of {total} slices answered")
    print("all answers are kept; `auglift review export` when the readers are done")


def count_answers(store: AnswerStore) -> dict[str, tuple[int, int]]:
    """Count how many slices each reader has answered, and how many there are."""
    return {
        reader: (
            sum(answer.done for answer in store.answers(reader).values()),
            len(store.slices),
        )
        for reader in store.readers()
    }


if __name__ == "__main__":
    raise SystemExit(exit_code_of(app, sys.argv[1:], name="auglift review"))
