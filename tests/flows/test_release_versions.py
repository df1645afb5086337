"""Versions of a release: tagged in one clone, fetched, compared and recalled in another."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import gto.api
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from flows import comparison_page, release_history, release_versions
from flows.cli import main
from flows.release_commands import app
from flows.release_git import WithdrawnError, list_versions
from flows.run_record import RunRecord, read_record
from tasks.ingest.privacy.pseudonyms import DEMO_KEY, Pseudonyms
from tasks.release.__main__ import main as run_release
from tasks.release.checksums import verify_checksums, write_checksums
from tasks.stage.errors import InputError
from tests.flows.dag_with_quick_stages import dvc, git
from tests.flows.toy_pipeline import ROOT
from tests.tasks.fake_run import Run, write

DAG = """
stages:
  made:
    cmd: "true"
    outs:
      - data/slices: {persist: true}
      - data/gate/0: {persist: true}
      - data/synthetic: {persist: true}
      - data/lift.json: {persist: true}
      - data/report.html: {persist: true}
  release:
    cmd: exec python -m tasks.release
    deps: [data/slices, data/gate, data/synthetic, data/lift.json, data/report.html]
    params: [release, slices.folds, synthetic.source]
    outs: [data/release]
artifacts:
  release: {path: data/release, type: dataset}
"""
PATIENT = "hospital-id-17"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with the versions v1.0.0 and v1.1.0, and a folder as DVC remote beside it.

    In v1.1.0 a patient joined who trains, and the gate's limit and the count of slices differ.
    """
    root = tmp_path_factory.mktemp("versions") / "clone"
    write(root, Run(synthetic=4, accept_share=1.0, size=16))
    joined = Pseudonyms(DEMO_KEY).subject(PATIENT)
    (root / "dvc.yaml").write_text(DAG)
    (root / ".gitignore").write_text("".join(
        f"/data/{name}\n" for name in
        ("slices", "gate", "synthetic", "lift.json", "lift.csv", "report.html", "release",
         "volumes", "gan")
    ) + "/.locks/\n")  # fmt: skip
    git(root, "init", "-q", "-b", "main")
    for key in ("user.name", "user.email"):
        git(root, "config", key, "t@t")
    (root / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/.gitignore", root / ".dvc/.gitignore")
    (root / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {root.parent / 'store'}\n"
    )
    release_as(root, "v1.0.0")
    write_second(root, joined)
    release_as(root, "v1.1.0", gate={"tolerance": 3.0})
    return root


def release_as(root: Path, version: str, *, gate: dict[str, float] | None = None) -> None:
    """Set the version, run the stage in this process, commit, tag."""
    tree = yaml.safe_load((root / "params.yaml").read_text())
    tree["release"]["version"] = version[1:]
    tree["gate"] |= gate or {}
    (root / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_release()
        dvc(root, "commit", "-q", "-f")
        git(root, "add", "-A")
        git(root, "commit", "-qm", version)
        release_versions.tag_release(version)


def write_second(root: Path, joined: str) -> None:
    """Make the data of the second version: another run, one patient's pseudonym another."""
    params = (root / "params.yaml").read_text()
    second = write(root.parent / "second", Run(synthetic=6, accept_share=1.0, size=16))
    for name in ("slices", "gate", "synthetic"):
        shutil.rmtree(root / "data" / name)
        shutil.move(second / "data" / name, root / "data" / name)
    path = root / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    table["subject"] = table["subject"].replace({"sub-0002": joined})
    table.to_parquet(path)
    (root / "params.yaml").write_text(params)


@pytest.fixture
def clone(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another machine's clone, which has no data yet; the tests run in it."""
    git(tmp_path, "clone", "-q", str(origin), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    for key in ("user.name", "user.email"):
        git(tmp_path / "clone", "config", key, "t@t")
    yield tmp_path / "clone"


def test_a_version_is_a_tag_and_an_entry_of_gto_and_comes_whole_to_another_clone(
    origin: Path, clone: Path
) -> None:
    assert [each.name for each in list_versions()] == ["v1.0.0", "v1.1.0"]
    latest = gto.api.find_latest_version(".", "release")
    assert latest is not None and latest.version == "v1.1.0"
    release_versions.fetch_release("v1.1.0", clone.parent / "got", None)
    release_versions.fetch_release("v1.0.0", clone.parent / "by-url", str(origin))
    sums = (origin / "data/release/SHA256SUMS").read_text()
    assert (clone.parent / "got/SHA256SUMS").read_text() == sums
    assert (clone.parent / "by-url/SHA256SUMS").read_text() != sums
    assert json.loads((clone.parent / "by-url/release.json").read_text())["version"] == "1.0.0"


@pytest.mark.verify
def test_dvc_get_and_dvc_import_bring_a_version_too(origin: Path, tmp_path: Path) -> None:
    dvc(tmp_path, "get", str(origin), "data/release", "--rev", "v1.1.0", "-q", "-o", "got")
    verify_checksums(tmp_path / "got")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    dvc(other, "init", "-q")
    dvc(other, "import", str(origin), "data/release", "--rev", "v1.0.0", "-q")
    verify_checksums(other / "release")


def test_a_flipped_byte_in_the_remote_is_caught_and_nothing_is_left(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "-q", str(origin), "clone")
    shutil.copytree(origin.parent / "store", tmp_path / "store")
    dvc(tmp_path / "clone", "remote", "modify", "store", "url", str(tmp_path / "store"))
    png = origin / "data/release/png/sub-syn00001.png"
    (target,) = (
        path for path in (tmp_path / "store").rglob("*")
        if path.is_file() and path.read_bytes() == png.read_bytes()
    )  # fmt: skip
    data = bytearray(target.read_bytes())
    data[60] ^= 1
    target.chmod(0o644)
    target.write_bytes(data)
    monkeypatch.chdir(tmp_path / "clone")
    with pytest.raises(InputError, match=r"sub-syn00001\.png was changed"):
        release_versions.fetch_release("v1.1.0", tmp_path / "got", None)
    assert not (tmp_path / "got").exists()


def test_the_difference_of_two_versions_is_told_in_words_and_a_table(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["diff", "v1.0.0", "v1.1.0"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "24 in v1.0.0, 24 in v1.1.0; 1 joined, 1 left, 0 moved" in shown
    assert "Synthetic slices: 4, then 6 (+2)." in shown
    assert "Gate, fold 0: accepted, 4 of 4, then accepted, 6 of 6." in shown
    assert "Lift, segment: helps, as before." in shown
    assert "Params: 2 changed." in shown
    assert any(line.split() == ["params:", "gate.tolerance", "2.0", "3.0"]
               for line in shown.splitlines())  # fmt: skip


def test_two_runs_are_compared_on_a_page_of_their_own(
    clone: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(clone, "rev-parse", "v1.1.0^{commit}").strip()
    git(clone, "update-ref", "refs/exps/ab/cdef/windy-yaks", head)  # where DVC keeps experiments
    monkeypatch.setattr("sys.argv", ["auglift", "compare", "v1.0.0", "windy-yaks"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "Gate, fold 0: accepted, 4 of 4, then accepted, 6 of 6." in capsys.readouterr().out
    page = (clone / "comparison.html").read_text()
    assert "The gate: accepted in both; classify: helps in both; segment: helps in both." in page
    assert re.search(r"gate.tolerance</th><td>2.0</td><td>3.0</td>", page)
    # One patient joined: on a page that may be handed on, a number of one is not told.
    assert "fewer than 5 joined, fewer than 5 left, 0 moved" in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    same = comparison_page.render_comparison(*[read_record("v1.1.0")] * 2, 5)
    assert same.count("Nothing differs.") == 3
    for wrong in (["v9.9.9", "v1.0.0"], ["v1.0.0", "--out", "nowhere/page.html"], ["v1.0.0"]):
        monkeypatch.setattr("sys.argv", ["auglift", "compare", *wrong])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("known_as", ["pseudonym", "identifier"])
def test_the_versions_that_a_patient_went_into_are_found_in_a_clone_without_data(
    known_as: str, clone: Path
) -> None:
    pseudonym = Pseudonyms(DEMO_KEY).subject(PATIENT)
    subject = pseudonym if known_as == "pseudonym" else PATIENT
    found, rows, problems = release_history.affected_versions(subject)
    assert found == pseudonym
    assert problems == []
    assert rows == [("v1.1.0", "its slices trained (fold 0)", "")]
    assert release_history.affected_versions("nobody")[1] == []
    with pytest.raises(InputError, match="SUBJECT is blank"):
        release_history.affected_versions(" ")


@pytest.mark.parametrize(
    ("fold", "subject", "role"),
    [
        (None, "sub-a", "its slices are in the data set"),
        ("1", "sub-a", "its pseudonym is in patients.csv"),
        (1, "sub-b", "its slices are in the data set"),
        (None, "sub-b", None),  # left out of fold 0
    ],
)
def test_of_an_augmented_version_it_is_said_what_of_the_patient_it_holds(
    fold: str | int | None, subject: str, role: str | None
) -> None:
    partitions = {"0": {"sub-a": "train"}, "1": {"sub-a": "test", "sub-b": "train"}}
    params = {"release.contents": "augmented", "release.fold": fold}
    record = RunRecord("v1.0.0", partitions, {}, {}, {}, params)
    assert release_history.role_in_augmented(record, subject) == role
    plain = RunRecord("v1.0.0", partitions, {}, {}, {}, {"release.contents": "synthetic"})
    assert release_history.role_in_augmented(plain, subject) is None


def test_a_recalled_version_is_refused_in_every_clone_and_said_to_be_recalled(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "origin"
    shutil.copytree(origin, own, symlinks=True)
    git(tmp_path, "clone", "-q", str(own), "clone")
    monkeypatch.chdir(own)
    release_history.recall_version("v1.1.0", "a patient withdrew the consent")
    with pytest.raises(InputError, match="recalled already: a patient withdrew"):
        release_history.recall_version("v1.1.0", "again")
    monkeypatch.chdir(tmp_path / "clone")  # which has fetched no tag since
    with pytest.raises(WithdrawnError, match=r"v1\.1\.0 was recalled: a patient withdrew"):
        release_versions.fetch_release("v1.1.0", tmp_path / "got", None)
    with pytest.raises(WithdrawnError, match="was recalled"):
        release_versions.fetch_release("v1.1.0", tmp_path / "got", str(own))
    ended = CliRunner().invoke(app, ["fetch", "v1.1.0", str(tmp_path / "got")])
    assert ended.exit_code == 3
    assert ended.stderr.splitlines() == [
        "auglift: v1.1.0 was recalled: a patient withdrew the consent"
    ]
    assert not (tmp_path / "got").exists()
    release_versions.fetch_release("v1.0.0", tmp_path / "older", None)
    pseudonym = Pseudonyms(DEMO_KEY).subject(PATIENT)
    assert release_history.affected_versions(pseudonym)[1][0][2] == "recalled"


def tag_state(root: Path) -> tuple[str, str]:
    """The tags of a clone and the files of its DVC remote."""
    store = sorted(path.name for path in (root.parent / "store").rglob("*"))
    return git(root, "tag"), " ".join(store)


def test_what_must_not_be_tagged_is_one_line_and_changes_nothing(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "clone"
    shutil.copytree(origin, own, symlinks=True)
    monkeypatch.chdir(own)
    before = tag_state(own)

    def fails(words: str, version: str = "v1.2.0", error: type[Exception] = InputError) -> None:
        with pytest.raises(error, match=words):
            release_versions.tag_release(version)
        assert tag_state(own) == before

    fails("the tag v1.1.0 exists already here: a released version is never rewritten", "v1.1.0")
    fails("'1.2.0' is no version; expected one such as v1.2.0, did you mean v1.2.0?", "1.2.0")
    fails("data/release says that it is version 1.1.0, not v1.2.0: set release.version")
    params = own / "params.yaml"
    params.write_text(params.read_text().replace("version: 1.1.0", "version: 1.2.0"))
    summary = json.loads((own / "data/release/release.json").read_text())
    released = own / "data/release/release.json"
    released.unlink()
    released.write_text(json.dumps(summary | {"version": "1.2.0"}))
    fails(r"params\.yaml is not committed: a version must be what a commit describes")
    git(own, "commit", "-qam", "edited without a run")
    fails(r"data/release is not what this commit makes: .*release would run; run `dvc repro`")
    monkeypatch.setattr(release_versions, "check_clean", lambda: None)
    write_checksums(own / "data/release")
    dvc(own, "remote", "modify", "store", "url", "/proc/no/such/store")
    fails("dvc push failed")
    (own / ".dvc/config").write_text("")
    fails("there is no DVC remote to push the data to; add one with `dvc remote add")
    shutil.rmtree(own / "data/release")
    (own / "data/release").mkdir()
    (own / "data/release/refusal.json").write_text(json.dumps({"reasons": ["gate: too far off"]}))
    fails("was refused, so it cannot become a version: gate: too far off", error=WithdrawnError)


def test_a_version_that_is_not_there_and_a_full_folder_are_one_line(clone: Path) -> None:
    with pytest.raises(InputError, match=r"no released version v3\.0\.0; released: v1\.0\.0, v1"):
        release_versions.fetch_release("v3.0.0", clone.parent / "got", None)
    with pytest.raises(InputError, match="is not empty"):
        release_versions.fetch_release("v1.0.0", clone, None)
    assert (clone / "params.yaml").exists()
