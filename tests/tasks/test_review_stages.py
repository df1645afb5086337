"""What readers answered reaches pool, report and release, and counts only for what they saw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tasks.commands.review.reader_statistics import review_figures
from tasks.common.reader_ratings import slice_sha256
from tasks.common.release_candidate import read_candidate
from tasks.pool.__main__ import main as run_pool
from tasks.release.__main__ import main as run_release
from tasks.release.approval import read_approval, write_approval
from tasks.schemas.review import FoldReview, Rating, Review
from tasks.stage.errors import InputError
from tests.tasks.fake_run import Run, write
from tests.tasks.report_fixtures import run_stage


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write(tmp_path / "run", Run(synthetic=26, accept_share=0.9)))
    return Path()


def answer(
    readers: dict[str, float], *, scores: bool = True, flagged: tuple[int, ...] = (),
    digest: str | None = None,
) -> None:  # fmt: skip
    """Write `data/review.json`: readers of known skill rate every accepted slice, and as many real.

    Realism is the row modulo 5, plus 1, so that the best slices are known.
    """
    candidate = read_candidate(["0"])
    accepted = np.flatnonzero(candidate.samples["accepted"])
    ratings, clusters = [], []
    for number, (reader, skill) in enumerate(readers.items()):
        rng = np.random.default_rng(number)
        for origin in ("real", "synthetic"):
            for row in map(int, accepted):
                right = rng.random() < skill
                other = "real" if origin == "synthetic" else "synthetic"
                ratings.append(
                    Rating.model_validate(
                        {
                            "reader": reader, "origin": origin, "row": row,
                            "label": int(candidate.samples["label"][row]),
                            "slice_sha256": slice_sha256(
                                candidate.images[row], candidate.masks[row]
                            ) if origin == "synthetic" else f"real {row}",
                            "decision": origin if right else other,
                            "scores": {"realism": row % 5 + 1} if scores else {},
                            "flagged": row in flagged and origin == "synthetic",
                            "artefact_kinds": ["tumor_edge"] if row == accepted[0] else [],
                            "comment": "<b>rim</b> too sharp" if row == accepted[0] else "",
                            "outline_from": "blank" if row == accepted[1] else None,
                            "outline_dice": 0.81 if row == accepted[1] else None,
                        }
                    )
                )  # fmt: skip
                clusters.append(f"{origin} {row}")
    study = FoldReview(
        digest=digest or candidate.fold_digests["0"],
        figures=review_figures(
            ratings, clusters, {"real": len(accepted), "synthetic": len(accepted)}
        ),
        ratings=ratings,
    )
    Path("data/review.json").write_text(Review(folds={"0": study}).model_dump_json())


def set_params(section: str, **values: Any) -> None:
    path = Path("params.yaml")
    tree = yaml.safe_load(path.read_text())
    tree[section] |= values
    path.write_text(yaml.safe_dump(tree))


def release() -> dict[str, Any]:
    run_release()
    folder = Path("data/release")
    name = "release.json" if (folder / "release.json").exists() else "refusal.json"
    document: dict[str, Any] = json.loads((folder / name).read_text())
    return document


def test_flagged_slices_drop_out_of_the_release_and_the_card_says_so(root: Path) -> None:
    before = release()
    accepted = np.flatnonzero(read_candidate(["0"]).samples["accepted"])
    answer({"A": 0.7, "B": 0.7}, flagged=(int(accepted[0]), int(accepted[3])))
    after = release()
    assert after["slices"] == before["slices"] - 2
    assert after["digest"] != before["digest"]
    rows = pd.read_csv("data/release/slices.csv")["source_row"]
    assert not set(rows) & {int(accepted[0]), int(accepted[3])}
    card = Path("data/release/DATACARD.md").read_text()
    assert "2 readers told synthetic from real slices, blinded, with accuracy 0." in card
    assert "2 slices that the gate had accepted were flagged by a reader" in card


def test_answers_on_other_slices_flag_nothing(root: Path) -> None:
    before = release()
    accepted = np.flatnonzero(read_candidate(["0"]).samples["accepted"])
    answer({"A": 0.7}, flagged=(int(accepted[0]),))
    path = Path("data/synthetic/0/images.npy")
    np.save(path, np.load(path) * np.float16(0.9))
    after = release()
    assert after["slices"] == before["slices"]
    assert after["readers"] == "no reader study of these slices"


@pytest.mark.parametrize(
    ("criterion", "skills", "words"),
    [
        ({"max_accuracy": 0.65}, {}, "nobody has rated these slices"),
        ({"max_accuracy": 0.65}, {"A": 1.0}, "with accuracy 1.00"),
        ({"max_accuracy": 0.65}, {"A": 0.6}, "interval 0."),  # not shown to be below the limit
        ({"min_readers": 2}, {"A": 0.5}, "1 took part (release.readers.min_readers: 2)"),
        ({"min_realism": 4}, {"A": 0.5}, "on average (release.readers.min_realism: 4)"),
        ({"max_accuracy": 0.9, "min_readers": 2, "min_realism": 2}, {"A": 0.5, "B": 0.5}, None),
    ],
)
def test_a_criterion_of_readers_blocks_or_lets_through(
    root: Path, criterion: dict[str, Any], skills: dict[str, float], words: str | None
) -> None:
    set_params("release", readers=criterion)
    if skills:
        answer(skills)
    document = release()
    if words is None:
        assert document["status"] == "released"
    else:
        assert document["status"] == "refused"
        assert any(words in reason for reason in document["reasons"]), document["reasons"]
        assert words in Path("data/release/REFUSED.md").read_text()


def test_a_study_of_an_earlier_candidate_does_not_satisfy_the_criterion(root: Path) -> None:
    set_params("release", readers={"max_accuracy": 0.9})
    answer({"A": 0.5}, digest="0" * 64)
    assert "nobody has rated these slices" in release()["reasons"][0]


def test_a_filter_by_readers_adds_the_best_rated_half_of_each_label(root: Path) -> None:
    answer({"A": 0.5})
    set_params("downstream", arms=["real", "real+synthetic"])
    set_params("pool", filter={"score": "rating_realism", "keep": 0.5}, ratio=0.3, min_images=2)
    run_pool()
    added = pd.read_parquet("data/pool/real+synthetic/samples.parquet")
    assert len(added) > 4
    samples = read_candidate(["0"]).samples
    for label, rows in added.groupby("label"):
        of_label = samples[samples["accepted"] & (samples["label"] == label)]["row"]
        worst = (of_label % 5).sort_values().iloc[: len(of_label) // 2]
        assert rows["source_row"].mod(5).min() >= worst.max() - 1
        assert not set(rows["source_row"]) & set(of_label[of_label % 5 == 0])


def test_a_filter_by_readers_without_readers_is_one_line(root: Path) -> None:
    set_params("pool", filter={"score": "rating_realism", "keep": 0.5})
    with pytest.raises(InputError, match="rates no accepted slice of fold 0: run `auglift review"):
        run_pool()
    answer({"A": 0.5}, scores=False)
    with pytest.raises(InputError, match="rates no accepted slice"):
        run_pool()


def test_the_report_shows_readers_only_where_there_are_any(root: Path) -> None:
    run_stage(root)
    assert "What readers say" not in Path("data/report.html").read_text()
    answer({"A": 0.9, "B": 0.6})
    run_stage(root)
    page = Path("data/report.html").read_text()
    for words in ("What readers say", "together", "Fleiss", "Cohen", "Tumour edge", "0.810",
                  "&lt;b&gt;rim&lt;/b&gt;", "Accuracy of readers: A: "):  # fmt: skip
        assert words in page, words
    assert "Readers saw other slices" not in page
    answer({"A": 0.9}, digest="1" * 64)
    run_stage(root)
    assert "Readers saw other slices" in Path("data/report.html").read_text()


def test_a_damaged_review_is_one_line_and_the_release_stays(root: Path) -> None:
    release()
    sums = Path("data/release/SHA256SUMS").read_bytes()
    for text, words in (('{"folds": {"0": 3}}', "folds.0"), ("{", "Invalid JSON")):
        Path("data/review.json").write_text(text)
        with pytest.raises(InputError, match=words):
            run_release()
    Path("data/review.json").unlink()
    with pytest.raises(InputError, match="is missing; restore it from git"):
        run_release()
    assert Path("data/release/SHA256SUMS").read_bytes() == sums


def test_a_refusal_holds_for_the_candidate_that_was_refused_only(root: Path) -> None:
    digest = release()["digest"]
    write_approval("refused", reviewer="A. Reader", reason="masks miss\nthe rim", digest=digest)
    assert release()["reasons"] == ["a person refused it by A. Reader: masks miss the rim"]
    accepted = np.flatnonzero(read_candidate(["0"]).samples["accepted"])
    answer({"A": 0.5}, flagged=(int(accepted[0]),))
    assert release()["status"] == "released"  # another candidate, and no approval is required
    set_params("release", require_approval=True)
    assert "the refusal is for the digest" in release()["reasons"][0]


def test_an_approval_with_its_note_stands_in_the_card(root: Path) -> None:
    set_params("release", require_approval=True)
    digest = release()["digest"]
    write_approval("approved", reviewer="A. Reader", reason="looked at 200 slices", digest=digest)
    assert release()["review"] == "approved by A. Reader: looked at 200 slices"
    card = Path("data/release/DATACARD.md").read_text()
    assert "- Review: approved by A. Reader: looked at 200 slices." in card


@pytest.mark.parametrize("reviewer", ["", "  \n ", "x" * 1001, "A\x07B"])
def test_a_reviewer_who_cannot_stand_in_a_card_is_one_line(root: Path, reviewer: str) -> None:
    before = read_approval()
    with pytest.raises(InputError, match="the reviewer is"):
        write_approval("approved", reviewer=reviewer, reason="", digest="0" * 64)
    assert read_approval() == before
