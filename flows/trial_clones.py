"""Trials side by side: each in a clone of its own, recorded as a DVC experiment.

`.tune/NAME/base` is the working tree as it was when the search began, with the inputs of the
trainer; each trial starts from a copy. All clones share the cache of DVC and the objects of Git.
A clone keeps the trainer's checkpoints, so that a trial that was killed goes on where it was.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from flows.search_space import Values, set_values
from tasks.params import PARAMS
from tasks.stage.errors import InputError
from tasks.stage.stage_io import discard


@dataclass(frozen=True)
class TrialClones:
    """The clones of one search, in `root`; `address` is the stage that its trials run."""

    root: Path
    address: str

    @property
    def base(self) -> Path:
        """What every trial starts from."""
        return self.root / "base"

    def prepare(self, needs: frozenset[str], fixed: Values) -> bool:
        """Make the base unless it is there already; says whether it was.

        Args:
            needs: the stages whose outputs the trials read; they are up to date.
            fixed: values that hold for every trial.
        """
        if self.base.is_dir():
            return True
        partial = self.base.with_suffix(".partial")
        discard(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        git(Path(), "clone", "--quiet", "--shared", ".", str(partial.absolute()))
        copy_uncommitted(partial)
        cache = dvc(Path(), "cache", "dir").strip()
        dvc(partial, "cache", "dir", "--local", str(Path(cache).absolute()))
        dvc(partial, "checkout", *sorted(needs))
        change_params(partial / PARAMS, fixed)
        partial.replace(self.base)
        return False

    def open(self, values: Values) -> Path:
        """The clone of a trial, with its values: as it was left, or new."""
        folder = self.root / "trials" / key_of(values)
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            discard(partial)
            partial.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.base, partial, symlinks=True)
            change_params(partial / PARAMS, values)
            partial.replace(folder)
        return folder

    def record(self, values: Values, words: str) -> str:
        """Save a trial that ended well as a DVC experiment of the repository; its name."""
        folder = self.root / "trials" / key_of(values)
        name = f"tune-{self.root.name}-{key_of(values)}"
        dvc(folder, "exp", "save", "--force", "--name", name, "--message", words, self.address)
        ref = git(folder, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").strip()
        git(folder, "push", "--quiet", "--force", "origin", f"{ref}:{ref}")
        return name

    def close(self, values: Values) -> None:
        """Drop a trial's clone: what it made is in the cache."""
        discard(self.root / "trials" / key_of(values))


def key_of(values: Values) -> str:
    """A short name of a trial's values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def copy_uncommitted(clone: Path) -> None:
    """Bring what is not committed into a clone: changed, new and removed files."""
    listed = git(Path(), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, target = Path(name), clone / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            discard(target)
            shutil.copy2(source, target, follow_symlinks=False)
        elif not source.exists():
            discard(target)


def change_params(path: Path, values: Values) -> None:
    """Set values in a `params.yaml` and leave its comments and its order alone."""
    if not values:
        return
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    editor.indent(mapping=2, sequence=4, offset=2)
    editor.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    tree = editor.load(path.read_text())
    set_values(tree, values)
    text = io.StringIO()
    editor.dump(tree, text)
    partial = path.with_suffix(".partial")
    partial.write_text(text.getvalue())
    partial.replace(path)


def check_commit() -> None:
    """An experiment belongs to a commit.

    Raises:
        StageError: when there is none yet.
    """
    if call(["git", "rev-parse", "--verify", "--quiet", "HEAD"], Path()).returncode:
        raise InputError(
            "this repository has no commit, which DVC experiments hang on; make one (git commit)"
        )


def git(folder: Path, *words: str) -> str:
    """What Git answers."""
    return answer(call(["git", *words], folder), f"git {words[0]}")


def dvc(folder: Path, *words: str) -> str:
    """What DVC answers."""
    return answer(call([sys.executable, "-m", "dvc", *words], folder), f"dvc {words[0]}")


def call(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command that ends by itself."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )  # fmt: skip


def answer(done: "subprocess.CompletedProcess[str]", what: str) -> str:
    """A command's output; a failure in its own words."""
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InputError(f"{what} failed: {said[-1] if said else 'it said nothing'}")
    return done.stdout
