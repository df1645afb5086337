"""What the repository's host reads is valid, and says what the code says."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.imports import ROOT

TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))


def load(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_workflow_runs_what_ci_runs() -> None:
    (job,) = load(".github/workflows/ci.yml")["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert ".ci/run" in commands and os.access(ROOT / ".ci/run", os.X_OK)
    assert commands.index(".ci/run") < commands.index("make docs")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_an_issue_form_has_what_the_host_asks_for(path: Path) -> None:
    form = load(path)
    assert form["name"] and form["description"]
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    assert fields and all(each["attributes"]["label"] for each in fields)
    identifiers = [each["id"] for each in fields]
    assert len(set(identifiers)) == len(identifiers)
    if path.stem != "feature":
        assert "No patient data here" in path.read_text()


def test_the_citation_and_the_changelog_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = load("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == version
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_links_of_the_files_at_the_root_lead_to_files() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{name}: {link}"
