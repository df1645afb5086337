"""`auglift pacs`: scans from a PACS into a new batch, and a release into a PACS."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from flows.entry_point import DONE, OTHER, REJECTED, end_on_sigterm, print_error
from flows.pacs_options import (
    AllowRemote,
    Called,
    Calling,
    Host,
    Port,
    Retries,
    Timeout,
    TlsFile,
    Url,
    UseTls,
    make_dimse_peer,
    make_filters,
    make_tls,
    make_web_peer,
)
from tasks.stage.errors import InputError

if TYPE_CHECKING:
    from tasks.commands.pacs.addresses import DimsePeer, WebPeer

app = typer.Typer(
    help="Pull scans from a PACS, listen for them, push a release (docs/pacs.md).",
    no_args_is_help=True,
)
EXIT_CODES: Final = (
    "User and password come from AUGLIFT_PACS_USER and AUGLIFT_PACS_PASSWORD, a token from"
    " AUGLIFT_PACS_TOKEN.\n\nExit codes: 0 done, 1 something could not be transferred (a list says"
    " what), 2 wrong input, 3 the release was refused or recalled."
)
PUSH_EXAMPLE: Final = "Example: auglift pacs push --called ORTHANC --port 4242\n\n"
LISTED: Final = 10  # failures that are printed


@app.command(
    epilog=f"Example: auglift pacs pull ward7 --called ORTHANC --study 1.2.3\n\n{EXIT_CODES}"
)
def pull(
    batch: Annotated[str, typer.Argument(help="Name of the new batch in data/raw.")],
    *,
    via: Annotated[
        Literal["c-get", "c-move", "dicomweb"] | None,
        typer.Option(help="How; dicomweb where --url is given, else c-get."),
    ] = None,
    url: Url = None,
    host: Host = "127.0.0.1",
    port: Port = 4242,
    called: Called = None,
    calling: Calling = "AUGLIFT",
    patient: Annotated[str, typer.Option(metavar="ID", help="Patient ID; * and ? match.")] = "",
    study: Annotated[list[str] | None, typer.Option(metavar="UID", help="May be repeated.")] = None,
    accession: Annotated[str, typer.Option(metavar="NUMBER", help="Accession number.")] = "",
    date: Annotated[str, typer.Option(help="Study date: 20240101, 20240101-20241231.")] = "",
    description: Annotated[str, typer.Option(help="Study description; * and ? match.")] = "",
    modality: Annotated[str, typer.Option(help="Of series, such as MR.")] = "",
    everything: Annotated[
        bool, typer.Option("--everything", help="All studies: the filters may then be left out.")
    ] = False,
    except_batch: Annotated[
        list[str] | None,
        typer.Option("--except", metavar="BATCH", help="Leave out what a batch holds; repeatable."),
    ] = None,
    listen_host: Annotated[str, typer.Option(help="c-move: address to receive at.")] = "127.0.0.1",
    listen_port: Annotated[
        int, typer.Option(min=1, max=65535, help="c-move: port to receive at.")
    ] = 11112,
    sender: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="AE", help="c-move: AE title that sends; else --called."),
    ] = None,
    accept_missing: Annotated[
        bool, typer.Option("--accept-missing", help="Close the batch without what failed.")
    ] = False,
    track: Annotated[bool, typer.Option("--track", help="Run `dvc add` on the batch.")] = False,
    allow_remote: AllowRemote = False,
    tls: UseTls = False,
    tls_ca: TlsFile = None,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
    timeout: Timeout = 30.0,
    retries: Retries = 3,
) -> None:
    """Pull studies into a new batch of data/raw.

    The batch appears when it is complete. A pull that ended early goes on where it stopped: run the
    same command again.
    """
    from tasks.commands.pacs.addresses import check_ae_title, check_host, read_credentials
    from tasks.commands.pacs.open_batch import check_batch_name
    from tasks.commands.pacs.pull import RAW
    from tasks.commands.pacs.pull import pull as pull_batch
    from tasks.commands.pacs.sources import DimseSource, Source, WebSource

    check_root()
    check_batch_name(batch)
    filters = make_filters(
        patient=patient, studies=study or [], accession=accession, date=date,
        description=description, modality=modality, everything=everything,
    )  # fmt: skip
    skip = [RAW / check_batch_name(name) for name in except_batch or []]
    for folder in skip:
        if not folder.is_dir():
            raise InputError(f"--except {folder.name}: {folder} is missing")
    credentials, files = read_credentials(), make_tls(tls, tls_ca, tls_cert, tls_key)
    source: Source
    if (via or ("dicomweb" if url else "c-get")) == "dicomweb":
        if url is None:
            raise InputError("--via dicomweb needs --url")
        source = WebSource(
            make_web_peer(
                url=url, allow_remote=allow_remote, tls=files, credentials=credentials,
                timeout=timeout,
            )
        )  # fmt: skip
    else:
        if url is not None:
            raise InputError(f"--url is for --via dicomweb, not for {via}")
        peer = make_dimse_peer(
            host=host, port=port, called=called, calling=calling, allow_remote=allow_remote,
            tls=files, credentials=credentials, timeout=timeout,
        )  # fmt: skip
        source = DimseSource(peer)
        if via == "c-move":
            check_host(listen_host, allow_remote=allow_remote)
            senders = tuple(check_ae_title(each, "--from") for each in sender or [])
            source = DimseSource(peer, (listen_host, listen_port), senders)
    result = pull_batch(
        source, filters, batch, skip=skip, retries=retries, accept_missing=accept_missing
    )
    print(
        f"{result.matched} instances match: {result.fetched} fetched, {result.here_before} were"
        f" here, {len(result.failures)} failed"
    )
    if result.failures:
        reasons = sorted(set(result.failures.values()))
        for reason in reasons[:LISTED]:
            count = list(result.failures.values()).count(reason)
            print_error(f"{count} instances: {reason}", OTHER)
        rest = "" if result.closed else "; the batch stays open: run the same command again"
        print_error(f"the list of them is .private/{result.failure_table}{rest}", OTHER)
    if result.closed:
        for line in follow_up(result.target, track=track):
            print(line)
    raise typer.Exit(OTHER if result.failures else DONE)


def check_root() -> None:
    """Check that the current folder is the root of a clone."""
    if not Path("dvc.yaml").exists() or not Path("params.yaml").exists():
        raise InputError("dvc.yaml is not here; run from the root of a clone of auglift")


def follow_up(target: Path, *, track: bool) -> list[str]:
    """Track a batch by DVC if that is wished; return what was done and what comes next."""
    lines = [f"{target} is complete"]
    if track:
        from flows.release_versions import dvc

        dvc("add", "--quiet", str(target))
        lines.append(f"DVC tracks it; next: git add {target}.dvc")
    else:
        lines.append(f"next: `dvc add {target}` to track it")
    lines.append(f"and {target.name} in data.batches of params.yaml, then `auglift run`")
    return lines


@app.command(
    epilog=f"Example: auglift pacs listen --from SCANNER1 --from ARCHIVE --inbox\n\n{EXIT_CODES}"
)
def listen(
    *,
    sender: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="AE", help="AE title that may send; may be repeated."),
    ] = None,
    from_any: Annotated[bool, typer.Option("--from-any", help="Any AE title may send.")] = False,
    title: Annotated[
        str, typer.Option("--title", metavar="AE", help="Our AE title; others are rejected.")
    ] = "AUGLIFT",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any.")] = 11112,
    quiet: Annotated[
        float, typer.Option(min=0.1, help="Seconds without an instance that close a batch.")
    ] = 300.0,
    name: Annotated[str, typer.Option(help="How the names of batches begin.")] = "pacs",
    inbox: Annotated[
        bool, typer.Option("--inbox", help="Drop batches into data/inbox, for `auglift intake`.")
    ] = False,
    batches: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    allow_remote: AllowRemote = False,
    tls: UseTls = False,
    tls_ca: TlsFile = None,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
    timeout: Timeout = 60.0,
) -> None:
    """Take what a PACS or scanner sends; close a batch after a quiet period.

    A study whose sender broke off waits until it is sent again. Ctrl-C ends; nothing is lost.
    """
    from flows.inbox_drops import COMPLETE
    from tasks.commands.pacs.addresses import check_ae_title, check_host
    from tasks.commands.pacs.listen import listen as listen_for_scans

    check_root()
    if not sender and not from_any:
        raise InputError("say who may send: --from AE (may be repeated), or --from-any")
    if sender and from_any:
        raise InputError("--from and --from-any contradict each other")
    check_host(host, allow_remote=allow_remote)
    senders = [check_ae_title(each, "--from") for each in sender or []]
    files = make_tls(tls, tls_ca, tls_cert, tls_key)
    end_on_sigterm()
    listen_for_scans(
        (host, port), title=check_ae_title(title, "--title"), senders=senders,
        folder=Path("data/inbox" if inbox else "data/raw"), name=name, quiet_s=quiet,
        batches=batches, tls=files, timeout_s=timeout, marker=COMPLETE if inbox else None,
        say=lambda line: print(line, flush=True),
    )  # fmt: skip


@app.command(epilog=PUSH_EXAMPLE + EXIT_CODES)
def push(
    *,
    folder: Annotated[
        Path, typer.Option("--release", metavar="DIR", help="A release, as written or fetched.")
    ] = Path("data/release"),
    url: Url = None,
    host: Host = "127.0.0.1",
    port: Port = 4242,
    called: Called = None,
    calling: Calling = "AUGLIFT",
    again: Annotated[
        bool, typer.Option("--again", help="Send also what this PACS took earlier.")
    ] = False,
    allow_remote: AllowRemote = False,
    tls: UseTls = False,
    tls_ca: TlsFile = None,
    tls_cert: TlsFile = None,
    tls_key: TlsFile = None,
    timeout: Timeout = 30.0,
    retries: Retries = 3,
) -> None:
    """Send the DICOM files of a release, by C-STORE, or by STOW-RS where --url is given.

    Only a release whose checksums hold, that was not refused or recalled, and whose files are all
    marked as synthetic. A second run sends what is missing.
    """
    from tasks.commands.export_dataset.release_folder import RefusedReleaseError
    from tasks.commands.pacs.addresses import read_credentials
    from tasks.commands.pacs.push import push as push_release
    from tasks.commands.pacs.push import read_summary

    credentials, files = read_credentials(), make_tls(tls, tls_ca, tls_cert, tls_key)
    peer: DimsePeer | WebPeer
    if url is not None:
        if called is not None:
            raise InputError("--called is for C-STORE and --url for STOW-RS: give one of them")
        peer = make_web_peer(
            url=url, allow_remote=allow_remote, tls=files, credentials=credentials, timeout=timeout
        )
    else:
        peer = make_dimse_peer(
            host=host, port=port, called=called, calling=calling, allow_remote=allow_remote,
            tls=files, credentials=credentials, timeout=timeout,
        )  # fmt: skip
    try:
        refuse_recalled(read_summary(folder)["version"])
        result = push_release(peer, folder, retries=retries, again=again)
    except RefusedReleaseError as error:
        raise typer.Exit(print_error(str(error), REJECTED)) from None
    print(
        f"version {result.version}: {result.sent} of {result.files} files sent,"
        f" {result.before} sent earlier, {len(result.failures)} failed"
    )
    for name, reason in sorted(result.failures.items())[:LISTED]:
        print_error(f"{name}: {reason}", OTHER)
    if len(result.failures) > LISTED:
        print_error(f"and {len(result.failures) - LISTED} more", OTHER)
    if result.failures:
        raise typer.Exit(OTHER)


def refuse_recalled(version: str) -> None:
    """Check that a version was not recalled, as far as this clone's tags tell.

    Raises:
        RefusedReleaseError: with the reason of the recall.
    """
    from flows.release_git import git, list_versions
    from tasks.commands.export_dataset.release_folder import RefusedReleaseError

    if git("rev-parse", "--git-dir").returncode:
        return
    for each in list_versions():
        if each.name == f"v{version}" and each.recall is not None:
            raise RefusedReleaseError(f"v{version} was recalled: {' '.join(each.recall.split())}")
