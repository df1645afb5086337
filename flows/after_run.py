"""After a good run: commit `dvc.lock`, params and metrics to git, and push the data.

The commit is made beside the working tree, of exactly what ran: the files of HEAD, the lock files,
and `params.yaml` with the values that the run had set. So a branch of results can be checked out
and `dvc status` is clean there, whatever the working tree holds.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from flows import git_commit
from flows.dvc_command import run_dvc
from flows.dvc_graph import default_remote, read_plan
from flows.overrides import Overrides
from flows.release_git import git, git_output
from flows.run_request import RunRequest
from flows.secret_values import hide_secrets
from tasks import params
from tasks.params.after_run import AfterRun
from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS

LOCKS = ("dvc.lock", "data/raw/dvc.lock")
METRICS = Path("metrics")  # their copy in git; DVC keeps the originals
# What may differ from HEAD: the run writes the locks, a person the params and decisions.
MAY_DIFFER = (*LOCKS, str(PARAMS), "data/approval.json", "data/review.json")


def check_after_run(overrides: Overrides) -> None:
    """Check, before anything runs, that its results can be committed and pushed.

    Raises:
        InputError: one line that says what is missing.
    """
    settings = params.read_section(AfterRun)
    if settings.push and not default_remote():
        raise InputError(
            "params.yaml: after_run.push is true, but this clone has no default DVC remote; add"
            " one (`dvc remote add -d NAME URL`) or set it to false"
        )
    if settings.push_commit and not settings.commit:
        raise InputError("params.yaml: after_run.push_commit needs after_run.commit")
    if not settings.commit:
        return
    if git("rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise InputError("params.yaml: after_run.commit is true, but the repository has no commit")
    if settings.branch and git("check-ref-format", "--branch", settings.branch).returncode:
        raise InputError(f"params.yaml: after_run.branch is {settings.branch!r}, no branch's name")
    head = current_branch()
    if not (settings.branch or head):
        raise InputError(
            "params.yaml: after_run.branch is empty and no branch is checked out; name one"
        )
    if overrides and settings.branch in ("", head):
        raise InputError(
            "a run that overrides params.yaml cannot be committed to the branch that is checked"
            " out: set after_run.branch to another one, such as results, or write the values to"
            " params.yaml"
        )
    changed = git_output("diff", "--name-only", "HEAD").splitlines()
    if other := [name for name in changed if not may_differ(name)]:
        raise InputError(
            f"params.yaml: after_run.commit is true, but {', '.join(other[:3])} has changes that"
            " are not committed; commit them first, or the results could not be repeated"
        )


def may_differ(name: str) -> bool:
    """Check whether a file may differ from HEAD: copies of metrics do after a kill."""
    return name in MAY_DIFFER or Path(name).parent == METRICS


def is_anything_kept() -> bool:
    """Check whether the results of a run are to be pushed or committed."""
    settings = params.read_section(AfterRun)
    return settings.push or settings.commit


def read_head() -> str:
    """Return the commit that is checked out; "" where there is none."""
    return git("rev-parse", "--verify", "--quiet", "HEAD").stdout.strip()


def keep_results(request: RunRequest, head: str, say: Callable[[str], None]) -> None:
    """Push the data and commit the results, as `after_run` says.

    The caller holds the clone. Data are pushed first: a commit never names data that no remote has.

    Args:
        request: What the run was asked to do.
        head: The commit that was checked out when it began.
        say: Receives what was done.

    Raises:
        InputError: the clone is no longer as the run left it; git or DVC fails, with its last line.
    """
    settings = params.read_section(AfterRun)
    if not is_anything_kept():
        return
    check_nothing_changed(request.overrides, head, say)
    if settings.push:
        said = run_dvc("push", "--run-cache").strip().splitlines()
        say(f"pushed to the DVC remote: {said[-1] if said else 'done'}")
    if not settings.commit:
        return
    branch = settings.branch or current_branch()
    commit = commit_results(branch, settings.author, request.overrides)
    say(f"committed to {branch}: {commit[:10]}" if commit else f"{branch} has these results")
    if settings.push_commit:
        git_output("push", "--quiet", "origin", f"refs/heads/{branch}:refs/heads/{branch}")
        say(f"pushed {branch} to origin")


def check_nothing_changed(overrides: Overrides, head: str, say: Callable[[str], None]) -> None:
    """Check that code, params and data are those that the run ended with.

    Raises:
        InputError: someone changed or committed something meanwhile.
    """
    check_after_run(overrides)
    found = "another commit is checked out" if read_head() != head else ""
    changed = read_plan(say).changed
    if not found and changed:
        found = f"{changed[0].address} would run again ({changed[0].why or 'its inputs changed'})"
    if found:
        raise InputError(f"the results are not kept: {found}; run again")


def commit_results(branch: str, author: str, overrides: Overrides) -> str:
    """Commit what ran, with its results, to a branch; return the commit, "" where nothing is new.

    The working tree stays as it is. On the branch that is checked out, git then knows the committed
    files.
    """
    head = git_output("rev-parse", "HEAD")
    tip = git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}").stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        environment = {"GIT_INDEX_FILE": str(scratch / "index")}
        run_git(environment, "read-tree", "HEAD")
        run_git(environment, "rm", "-r", "--cached", "--quiet", "--ignore-unmatch", str(METRICS))
        files = collect_files(overrides, scratch)
        for name, content in files.items():
            blob = git_output("hash-object", "-w", "--no-filters", "--", str(content))
            entry = f"100644,{blob},{name}"
            run_git(environment, "update-index", "--add", "--cacheinfo", entry)
        tree = run_git(environment, "write-tree").strip()
    base = tip or head
    if git_output("rev-parse", f"{base}^{{tree}}") == tree:
        if branch == current_branch():
            match_head(files)  # a kill may have come between
        return ""
    parents = [base]
    if git("merge-base", "--is-ancestor", head, base).returncode:
        parents.append(head)  # the code that ran is newer than the last results
    words = [word for parent in parents for word in ("-p", parent)]
    message = commit_message(overrides)
    variables = git_commit.author() | author_variables(author)
    commit = run_git(variables, "commit-tree", tree, *words, "-m", message).strip()
    run_git({}, "update-ref", f"refs/heads/{branch}", commit, tip or "0" * 40)
    if branch == current_branch():
        match_head(files)
    return commit


def match_head(files: Collection[str]) -> None:
    """Let git know the committed files, and make the copies of metrics those of HEAD."""
    known = git_output("ls-files", "--", str(METRICS)).splitlines()
    run_git({}, "reset", "--quiet", "--", *files, *known)
    copies = [name for name in files if Path(name).parent == METRICS]
    if copies:
        run_git({}, "checkout", "--quiet", "--", *copies)
    for name in set(known) - set(copies):  # of a fold that is no longer listed
        Path(name).unlink(missing_ok=True)


def collect_files(overrides: Overrides, scratch: Path) -> dict[str, Path]:
    """Return the files of the commit that may differ from HEAD, with where their content lies."""
    files = {name: Path(name) for name in MAY_DIFFER if Path(name).exists()}
    if overrides:
        from flows.trial_clones import write_params  # imports Optuna

        written = scratch / PARAMS.name
        written.write_bytes(PARAMS.read_bytes())
        write_params(written, overrides)
        files[str(PARAMS)] = written
    for fold in map(str, params.read_key("slices.folds")):
        for stage in ("gan", "gate"):
            files[f"{METRICS}/{stage}-{fold}.json"] = Path("data", stage, fold, "metrics.json")
    files[f"{METRICS}/lift.json"] = Path("data/lift_metrics.json")
    return {name: path for name, path in files.items() if path.exists()}


def commit_message(overrides: Overrides) -> str:
    """Return the message of the commit: batches, verdict, what was overridden."""
    from flows.summary import read_summary

    batches = ", ".join(map(str, params.read_key("data.batches")))
    lines = [f"Results of {batches}", "", read_summary().line]
    lines += [f"{key}: {value}" for key, value in overrides.items()]
    return "\n".join(lines)


def author_variables(author: str) -> dict[str, str]:
    """Return git's variables of an author `Name <mail>`; none for git's own user."""
    if not author:
        return {}
    name, _, mail = author.rstrip(">").partition(" <")
    return {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", name), ("EMAIL", mail))
    }


def current_branch() -> str:
    """Return the branch that is checked out; "" where none is."""
    return git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()


def run_git(environment: dict[str, str], *words: str) -> str:
    """Run git with some variables more and return what it printed."""
    return run_command(["git", *words], environment, f"git {words[0]}")


def run_command(command: list[str], environment: dict[str, str], what: str) -> str:
    """Run a command and return what it printed.

    Raises:
        InputError: when it fails, with its last line, without secrets.
    """
    done = subprocess.run(
        command,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        said = hide_secrets(lines[-1] if lines else "it said nothing")
        raise InputError(f"{what} failed: {said}; the run's results are kept in this clone")
    return done.stdout
