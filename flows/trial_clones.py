"""Clone the repository for each trial, and save trials as DVC experiments.

`.tune/NAME/base` is the working tree as it was when the search began, with the trainer's inputs.
Each trial starts from a copy of it. All clones share the cache of DVC and the objects of Git. A
clone keeps the trainer's checkpoints, so that a killed trial resumes from them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.params_file import edit_params
from flows.search_space import Values, set_values
from tasks.stage.errors import InputError
from tasks.stage.params_file import PARAMS
from tasks.stage.stage_io import discard


@dataclass(frozen=True)
class TrialClones:
    """The clones of one search in the folder `root`; `address` is the stage that its trials run."""

    root: Path
    address: str

    @property
    def base(self) -> Path:
        """The clone that every trial starts from."""
        return self.root / "base"

    def create_base(self, needs: frozenset[str], fixed: Values) -> bool:
        """Create the base clone unless it exists.

        Args:
            needs: The stages whose outputs the trials read; they are up to date.
            fixed: Values that hold for every trial.

        Returns:
            Whether the base existed already.
        """
        if self.base.is_dir():
            return True
        partial = self.base.with_suffix(".partial")
        discard(partial)
        partial.parent.mkdir(parents=True, exist_ok=True)
        run_git(Path(), "clone", "--quiet", "--shared", ".", str(partial.absolute()))
        copy_uncommitted(partial)
        cache = run_dvc(Path(), "cache", "dir").strip()
        run_dvc(partial, "cache", "dir", "--local", str(Path(cache).absolute()))
        run_dvc(partial, "checkout", *sorted(needs))
        write_params(partial / PARAMS, fixed)
        partial.replace(self.base)
        return False

    def open_clone(self, values: Values) -> Path:
        """Return the clone of a trial: the one that an earlier run left, or a new one."""
        folder = self.root / "trials" / values_hash(values)
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            discard(partial)
            partial.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.base, partial, symlinks=True)
            write_params(partial / PARAMS, values)
            partial.replace(folder)
        return folder

    def save_experiment(self, values: Values, message: str) -> str:
        """Save a completed trial as a DVC experiment of the repository; return its name."""
        folder = self.root / "trials" / values_hash(values)
        name = f"tune-{self.root.name}-{values_hash(values)}"
        run_dvc(
            folder, "exp", "save", "--force", "--name", name, "--message", message, self.address
        )
        ref = run_git(
            folder, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}"
        ).strip()
        run_git(folder, "push", "--quiet", "--force", "origin", f"{ref}:{ref}")
        return name

    def remove_clone(self, values: Values) -> None:
        """Remove a trial's clone; its outputs stay in DVC's cache."""
        discard(self.root / "trials" / values_hash(values))


def values_hash(values: Values) -> str:
    """Return a short hash of a trial's values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def copy_uncommitted(clone: Path) -> None:
    """Copy uncommitted changes into a clone: changed, new and removed files."""
    file_list = run_git(Path(), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, file_list.split("\0")):
        source, target = Path(name), clone / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            discard(target)
            shutil.copy2(source, target, follow_symlinks=False)
        elif not source.exists():
            discard(target)


def write_params(path: Path, values: Values) -> None:
    """Set values in a `params.yaml`; its comments and its order stay."""
    if not values:
        return
    edit_params(path, lambda tree: set_values(tree, values))


def check_commit() -> None:
    """Check that the repository has a commit, to which DVC attaches experiments.

    Raises:
        InputError: when it has none.
    """
    if run_command(["git", "rev-parse", "--verify", "--quiet", "HEAD"], Path()).returncode:
        raise InputError(
            "this repository has no commit, which DVC experiments hang on; make one (git commit)"
        )


def run_git(folder: Path, *arguments: str) -> str:
    """Run Git and return its output."""
    return command_output(run_command(["git", *arguments], folder), f"git {arguments[0]}")


def run_dvc(folder: Path, *arguments: str) -> str:
    """Run DVC and return its output."""
    return command_output(
        run_command([sys.executable, "-m", "dvc", *arguments], folder), f"dvc {arguments[0]}"
    )


def run_command(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command that reads no input, and capture its output."""
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )  # fmt: skip


def command_output(done: "subprocess.CompletedProcess[str]", what: str) -> str:
    """Return a command's output.

    Raises:
        InputError: when it failed, with the last line that it printed.
    """
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise InputError(f"{what} failed: {lines[-1] if lines else 'it said nothing'}")
    return done.stdout
