"""The section `after_run` of `params.yaml`: what happens to the results of a good run."""

from typing import ClassVar

from pydantic import Field

from tasks.params import Section


class AfterRun(Section):
    """What the flow does with the results of a run that the gate did not reject; all is off.

    No stage reads it, so that switching it on makes nothing run again.
    """

    section: ClassVar[str] = "after_run"
    commit: bool = Field(False, description="commit dvc.lock, params and metrics to git")
    branch: str = Field(
        "", pattern=r"^[^\s~^:?*\[\\-][^\s~^:?*\[\\]*$|^$", max_length=200,
        description="to commit to; empty: the one that is checked out",
    )  # fmt: skip
    author: str = Field(
        "", pattern=r"^[^<>]*[^<>\s] <[^<>\s]+>$|^$",
        description="such as `Night run <night@example.org>`; empty: git's own user",
    )  # fmt: skip
    push_commit: bool = Field(False, description="git push that branch to origin")
    push: bool = Field(False, description="dvc push all data of the run to the default remote")
