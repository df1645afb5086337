"""The intake's promises: what becomes of a drop, whatever it holds."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import inbox_intake, inbox_quarantine
from flows.batch_registration import choose_batch_name
from flows.inbox_drops import COMPLETE, find_drops
from flows.inbox_intake import take_all
from flows.params_file import append_item, edited_text
from tests.flows import toy_pipeline
from tests.flows.in_process import run_auglift
from tests.flows.intake_clone import batches, drop, git, take


def test_a_complete_drop_becomes_a_committed_batch_and_a_changed_params_keeps_its_comments(
    inbox: Path,
) -> None:
    before = Path("params.yaml").read_text() + "# my own note\n"
    Path("params.yaml").write_text(before)
    Path("staged.txt").write_text("mine")
    git("add", "staged.txt")
    drop(inbox, "ward7")
    assert take(inbox)["batch"].detail == "ward7"
    assert batches() == ["phantom", "ward7"]
    after = Path("params.yaml").read_text()
    assert after.replace("[phantom, ward7]", "[phantom]") == before
    assert not (inbox / "ward7").exists()
    assert [path.name for path in Path("data/raw/ward7").iterdir()] == ["series"]
    assert not Path("data/raw/ward7/series/1.dcm").stat().st_mode & 0o222

    changed = git("show", "--stat=200", "--format=%s", "HEAD").splitlines()
    assert changed[0] == "Add the batch ward7"
    assert {line.split("|")[0].strip() for line in changed if "|" in line} == {
        "data/raw/.gitignore", "data/raw/ward7.dvc", "params.yaml",
    }  # fmt: skip
    # What a person staged or edited is neither committed nor lost.
    assert git("diff", "--cached", "--name-only").split() == ["staged.txt"]
    assert git("diff", "--name-only").split() == ["params.yaml"]
    assert "my own note" not in git("show", "HEAD:params.yaml")
    assert dvc_status_of("ward7") == {}
    assert inbox_intake.batches_to_start() == ["ward7"]
    assert Path("data/volumes/ward7/files.txt").read_text() == "1"
    assert not inbox_intake.journal_path().exists()


def dvc_status_of(batch: str) -> dict[str, object]:
    """What DVC finds changed in a batch and its ingest."""
    words = ["status", "--json", f"data/raw/{batch}.dvc", f"ingest@{batch}"]
    done = toy_pipeline.run_module(Path(), "dvc", *words)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_duplicate_under_other_names_and_a_bad_drop_hold_up_no_other(inbox: Path) -> None:
    drop(inbox, "a", "one")
    copy = drop(inbox, "b", "one")
    (copy / "series/1.dcm").rename(copy / "x.dcm")
    (copy / ".DS_Store").write_text("left by a file manager")
    (inbox / "c").mkdir()
    (inbox / "c/letter.txt").write_text("no scan")
    (inbox / "c" / COMPLETE).touch()
    drop(inbox, "d", "two")
    outcomes = take_all(inbox, 60, lambda _: None)
    assert [outcome.kind for outcome in outcomes] == ["batch", "duplicate", "quarantined", "batch"]
    assert batches() == ["phantom", "a", "d"]
    assert "the batch a holds the same files" in outcomes[1].detail
    token = outcomes[2].token
    reason = (inbox_quarantine.QUARANTINE / f"{token}.txt").read_text()
    assert reason == "ingest@c: data/raw/c holds no image\n"
    assert (inbox_quarantine.QUARANTINE / token / "c/letter.txt").read_text() == "no scan"
    assert not list(Path("data/raw").glob("c*"))
    assert "/c" not in Path("data/raw/.gitignore").read_text().splitlines()
    assert not any(Path("data/inbox").iterdir())
    assert f"{token},c,quarantined" in Path(".private/intake.csv").read_text()


HOSTILE = [
    "; touch gone #", "$(touch gone)", "`touch gone`", "a b", "..\\..\\x", "...", "-rf", "--help",
    "a\nb", "\x1b[31m", "Müller", "Mu\u0308ller", "患者", "con@home", "x" * 200, "phantom", "a.dvc",
    "null", "2024", "[a, b]", "{x: y}", "#", "&", "*", "${item}", "café'\"",
]  # fmt: skip


def test_no_name_of_a_drop_becomes_part_of_a_command_or_a_path(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*HOSTILE, os.fsdecode(b"\xff\xfe")]
    chosen = {name: choose_batch_name(name, "0" * 64) for name in names}
    from tasks.params.data import Data

    for name, batch in chosen.items():
        assert batch == name or batch.endswith("-" + "0" * 12), name
        Data.model_validate({"batches": [batch]})
    assert chosen["Müller"] == "Müller"
    assert chosen["phantom"] == "phantom-000000000000"
    assert chosen["2024"] == "2024"
    for number, name in enumerate(names):
        drop(inbox, name, f"scan {number}") if not name.startswith(".") else None
    found = find_drops(inbox, 60)
    assert len(found) == len(names) - 2  # those that begin with a dot are passed over
    assert not any(each.waits_for or each.fault for each in found)
    for each in found:
        if each.name not in ("; touch gone #", os.fsdecode(b"\xff\xfe")):
            shutil.rmtree(each.path)
    lines: list[str] = []
    outcomes = take_all(inbox, 60, lines.append)
    assert {outcome.kind for outcome in outcomes} == {"batch"}, outcomes
    assert len(batches()) == 3
    assert not Path("gone").exists()
    assert not any("touch" in line for line in lines)


def test_a_drop_that_is_still_copied_waits(inbox: Path) -> None:
    fresh = drop(inbox, "fresh", marked=False)
    old = 1_000_000_000
    os.utime(fresh / "series/1.dcm", (old, old))  # as `cp -p` and `rsync -a` do
    assert "it changed 0 s ago" in find_drops(inbox, 60)[0].waits_for
    assert not find_drops(inbox, 0)[0].waits_for
    with (fresh / "series/2.dcm").open("w"):
        assert find_drops(inbox, 0)[0].waits_for == "a program still writes a file in it"
    (fresh / "series/3.dcm.filepart").touch()
    assert "unfinished files" in find_drops(inbox, 0)[0].waits_for
    (fresh / COMPLETE).touch()
    assert not find_drops(inbox, 60)[0].waits_for
    drop(inbox, ".hidden")
    drop(inbox, "whole.partial")
    assert [each.name for each in find_drops(inbox, 0)] == ["fresh"]


def link_outside(folder: Path) -> None:
    (folder / "key").symlink_to("../../../.private/key")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def only_empty(folder: Path) -> None:
    (folder / "series/1.dcm").write_text("")


def latin1(folder: Path) -> None:
    (folder / os.fsdecode(b"M\xfcller.dcm")).write_text("x")


def dvcignore(folder: Path) -> None:
    (folder / "series/.dvcignore").write_text("*.dcm")


@pytest.mark.parametrize("spoil", [link_outside, pipe, only_empty, latin1, dvcignore])
def test_a_drop_that_can_never_be_a_batch_says_why(
    inbox: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(drop(inbox, "odd"))
    (found,) = find_drops(inbox, 60)
    reasons = {
        link_outside: "symbolic links", pipe: "pipes", only_empty: "empty", latin1: "UTF-8",
        dvcignore: ".dvcignore",
    }  # fmt: skip
    assert reasons[spoil] in found.fault
    assert [o.kind for o in take_all(inbox, 60, lambda _: None)] == ["quarantined"]
    assert not any(inbox.iterdir())


def test_a_drop_of_which_dvc_would_leave_files_out_is_no_batch(inbox: Path) -> None:
    (drop(inbox, "sly") / "2.pyc").write_text("x")
    outcome = take(inbox)["quarantined"]
    assert "DVC would version only" in outcome.detail
    assert batches() == ["phantom"]


def test_a_fault_of_the_clone_is_no_fault_of_the_drop(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(inbox, "ward7")
    Path("ingest.py").write_text("raise RuntimeError('out of memory')\n")
    outcome = take(inbox)["failed"]
    assert "out of memory" in outcome.detail
    assert (inbox / "ward7/series/1.dcm").exists()
    assert batches() == ["phantom"]
    assert not Path("data/raw/ward7.dvc").exists()
    assert not inbox_intake.is_work_left()


def test_a_zip_archive_is_a_batch_and_another_single_file_is_none(inbox: Path) -> None:
    (inbox / "ward8.zip").write_bytes(b"PK")
    (inbox / "letter.txt").write_text("hello")
    first, second = find_drops(inbox, 0)
    assert (
        first.fault
        == "it is a single file; put the files of one batch into a folder or a zip" + (" archive")
    )
    assert not second.fault
    assert choose_batch_name(second.name, "0" * 64) == "ward8"


@pytest.mark.parametrize("comment", ["", "  # ours", "\n  # about the next key"])
def test_a_batch_is_appended_where_a_reader_expects_it(comment: str) -> None:
    text = f"data:\n  batches:\n    - phantom{comment}\n\n# the next section\nslices:\n  size: 64\n"
    changed = edited_text(text, lambda tree: append_item(tree["data"]["batches"], "ward7"))
    own = comment if not comment.startswith("\n") else ""
    after = comment if comment.startswith("\n") else ""
    assert changed == (
        f"data:\n  batches:\n    - phantom{own}\n    - ward7{after}\n\n# the next section\n"
        "slices:\n  size: 64\n"
    )


def test_the_command_takes_a_drop_and_runs_the_pipeline(
    inbox: Path, prefect_api: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(inbox, "ward7")
    assert run_auglift("intake", "--inbox", str(tmp_path / "in")) == 0
    assert capsys.readouterr().out == f"Nothing to take: {tmp_path / 'in'} holds no drop.\n"
    assert run_auglift("intake", api=prefect_api) == 0
    assert capsys.readouterr().out.startswith("Drops: 1 became batches (ward7). Pipeline: ")
    assert Path("data/volumes/phantom").is_dir()  # the pipeline ran what else had changed
    assert not inbox_intake.is_work_left()
