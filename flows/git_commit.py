"""Commit some files to git and nothing else, as one atomic step.

The commit is made beside the working tree: changes that a person has staged or not yet committed,
in the same files too, stay as they are. The branch moves only from the commit that was read, so two
writers cannot overwrite each other. Hooks do not run.
"""

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from flows.secret_values import hide_secrets
from tasks.stage.errors import InputError

FALLBACK_AUTHOR = {"NAME": "auglift", "EMAIL": "auglift@localhost"}
UNDER_WAY = ("MERGE_HEAD", "rebase-merge", "rebase-apply", "CHERRY_PICK_HEAD", "REVERT_HEAD")


def commit_edits(edits: dict[str, Callable[[str], str]], message: str) -> str:
    """Commit edits of files as they are in HEAD; return the commit's id, or HEAD's if none changed.

    Args:
        edits: For each path, a function from its text in HEAD ("" where it is new) to the new text.
        message: The commit's message.

    Raises:
        InputError: no commit yet, a merge or rebase under way, or the branch moved meanwhile.
    """
    check_ready()
    head = git("rev-parse", "HEAD").strip()
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git("read-tree", head, env=index)
        entries = []
        for path, edit in edits.items():
            before = read_committed(head, path)
            if (after := edit(before)) != before:
                blob = git("hash-object", "-w", "--stdin", text=after).strip()
                entries += ["--cacheinfo", f"100644,{blob},{path}"]
        if not entries:
            return head
        git("update-index", "--add", *entries, env=index)
        tree = git("write-tree", env=index).strip()
    commit = git("commit-tree", tree, "-p", head, "-m", message, env=author()).strip()
    git("update-ref", "-m", message.splitlines()[0], "HEAD", commit, head)
    update_index(head, list(edits), entries)
    return commit


def check_ready() -> None:
    """Check that HEAD is a commit and that git is not in the middle of a merge or a rebase.

    Raises:
        InputError: saying which, and the remedy.
    """
    folder = Path(git("rev-parse", "--absolute-git-dir").strip())
    for name in UNDER_WAY:
        if (folder / name).exists():
            raise InputError(
                f"git is in the middle of a merge or a rebase ({name}); end it, then run again"
            )
    try:
        git("rev-parse", "--verify", "--quiet", "HEAD")
    except InputError:
        raise InputError("this repository has no commit yet; make one (git commit)") from None


def read_committed(commit: str, path: str) -> str:
    """Return the text of a file in a commit; "" where the commit has no such file."""
    if not git("ls-tree", commit, "--", path).strip():
        return ""
    return git("cat-file", "blob", f"{commit}:{path}")


def update_index(head: str, paths: list[str], entries: list[str]) -> None:
    """Enter the commit's files into the index, except those of which something else is staged."""
    staged = set(git("diff", "--cached", "--name-only", "-z", head, "--", *paths).split("\0"))
    ours = [
        word
        for flag, entry in zip(entries[::2], entries[1::2], strict=True)
        if entry.split(",", 2)[2] not in staged
        for word in (flag, entry)
    ]
    if ours:
        git("update-index", "--add", *ours)


def author() -> dict[str, str]:
    """Return the variables that name an author, where git's configuration names none."""
    missing = {}
    for key, value in FALLBACK_AUTHOR.items():
        try:
            git("config", f"user.{key.lower()}")
        except InputError:
            for role in ("AUTHOR", "COMMITTER"):
                if f"GIT_{role}_{key}" not in os.environ:
                    missing[f"GIT_{role}_{key}"] = value
    return missing


def git(*words: str, text: str = "", env: dict[str, str] | None = None) -> str:
    """Run git and return what it printed.

    Raises:
        InputError: with git's first line, without secrets, when it fails.
    """
    done = subprocess.run(
        ["git", *words],
        input=text.encode("utf-8", "surrogateescape"),
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0", **(env or {})},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        line = next(iter(done.stderr.decode(errors="replace").strip().splitlines()), "no message")
        raise InputError(f"git {words[0]} failed: {hide_secrets(line)}")
    return done.stdout.decode("utf-8", "surrogateescape")
