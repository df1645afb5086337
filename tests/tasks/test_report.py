"""The report: one page that needs nothing else, says everything in words, and repeats."""

import base64
import json
import re
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tasks.common.cohort_counts import count_cohort
from tasks.report import cohort_tables, subgroup_tables, wording
from tasks.schemas.lift import ArmFigure
from tasks.schemas.metrics import GateMetrics, SliceCounts, SubgroupRatio
from tasks.stage.errors import InputError
from tests.tasks.fake_run import Run, write
from tests.tasks.report_fixtures import Page, report, run_stage, with_stats


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return report(tmp_path_factory.mktemp("accepted"), draw=True)


def test_the_page_loads_nothing_and_runs_nothing(accepted: tuple[str, Page]) -> None:
    text, page = accepted
    assert [s for s in page.sources if not s.startswith(("data:image/", "#"))] == []
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert "@import" not in text
    assert "url(" not in text


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, accepted: tuple[str, Page]) -> None:
    assert report(tmp_path, draw=True)[0] == accepted[0]


def test_every_picture_has_words_for_those_who_cannot_see_it(accepted: tuple[str, Page]) -> None:
    assert len(accepted[1].pictures) > 15
    assert all(picture["alt"] for picture in accepted[1].pictures)


def test_headings_descend_without_a_gap(accepted: tuple[str, Page]) -> None:
    levels = accepted[1].headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_link_of_the_page_leads_somewhere(accepted: tuple[str, Page]) -> None:
    targets = {source[1:] for source in accepted[1].sources if source.startswith("#")}
    assert targets <= accepted[1].ids


def test_the_verdict_comes_first(accepted: tuple[str, Page]) -> None:
    text = accepted[1].words
    assert text.index("✓ Accepted") < text.index("Does it help?") < text.index("Provenance")


def test_the_page_names_measures_cohort_refusals_and_parameters(
    accepted: tuple[str, Page],
) -> None:
    text = accepted[1].words
    for word in ("Fréchet distance", "novel_measure", "missing-slice", "Radiological display"):
        assert word in text
    assert "train_gan: " in text


def test_a_rejection_gives_figure_and_limit_and_what_would_have_been_released(
    tmp_path: Path,
) -> None:
    _, page = report(tmp_path, verdict="rejected")
    assert "✗ Rejected" in page.words
    assert "Fréchet distance: 9.10 times that of real slices (at most 6.0)" in page.words
    assert "✗ outside" in page.words
    assert "What would have been released" in page.words


def test_an_accepted_set_is_not_said_to_keep_limits_that_were_not_measured(
    tmp_path: Path, accepted: tuple[str, Page]
) -> None:
    assert "within every limit of the gate, and" in accepted[1].words
    why = "10 validation tumours to set its limits by, at least 20 are needed"
    lacking = {"tumor_copies": why, "recall": "no figure"}  # recall has no limit to keep
    _, page = report(tmp_path, synthetic=6, not_measured=lacking)
    assert "every limit of the gate that could be measured ( not measured : Copied tumours)" in (
        page.words
    )
    assert f"Copied tumours : {why}." in page.words


def test_a_split_that_may_leak_is_said_first_stays_in_view_and_heads_every_printed_page(
    tmp_path: Path,
) -> None:
    text, _ = with_stats(tmp_path, patients_known=False)
    assert re.search(r"<body>\s*<aside class=.leak.><p><strong>The split may leak", text)
    screen, paper = text.split("@media print", 1)
    assert re.search(r"\.leak \{ position: sticky; top: 0", screen)
    # Browsers repeat a table's head on every page, if it may not be broken.
    assert re.search(r"body:has\(> \.leak\) \{ display: table", paper)
    assert re.search(r"\.leak \{ display: table-header-group; break-inside: avoid", paper)


def test_slices_of_few_patients_that_are_not_matched_are_said(
    tmp_path: Path, accepted: tuple[str, Page]
) -> None:
    assert "training and validation slices are" not in accepted[1].words
    _, page = with_stats(tmp_path, training_slices={"0": "in-range, caliper 8", "1": "matched"})
    assert "Fold 0: training and validation slices are in-range, caliper 8" in page.words
    assert "Fold 1: training and validation" not in page.words


def test_what_nobody_judged_is_not_said_to_have_been_refused(tmp_path: Path) -> None:
    write(tmp_path, Run(verdict="rejected", synthetic=6))
    path = tmp_path / "data/gate/0/samples.parquet"
    pd.read_parquet(path).assign(accepted=False, reason="unjudged").to_parquet(path)
    run_stage(tmp_path)
    text = Page((tmp_path / "data/report.html").read_text()).words
    assert "None of the 6 slices could be judged" in text
    assert "slices passed on their own" not in text


def test_known_patients_are_not_warned_of(accepted: tuple[str, Page]) -> None:
    assert "may leak" not in accepted[1].words


def test_patients_not_drawn_and_sessions_left_out_are_counted(tmp_path: Path) -> None:
    skipped = [{"subject": "sub-x", "session": "", "code": "missing-modality"}] * 3
    _, page = with_stats(tmp_path, unused_patients={"0": 7}, skipped=skipped)
    assert re.search(r"not drawn, unseen\s+7", page.words)
    assert re.search(r"missing-modality\s+3\s+a patient.s visit lacks", page.words)


def test_a_slice_left_out_of_a_fold_does_not_hide_its_patient() -> None:
    table = pd.DataFrame(
        {
            "subject": ["a", "a", "b"],
            "site": "S",
            "label": 1,
            "partition_0": ["unused", "test", "unused"],
        }
    )
    images = SliceCounts(n=1, accepted=1, memorised=0)
    cohort = count_cohort(table, {"0": GateMetrics(verdict="accepted", images=images)}, 1)
    assert cohort_tables.site_table("0", cohort).rows == [["S", "0", "0", "1"]]


def test_millimetres_of_pictures_without_scale_are_said_to_be_nominal(tmp_path: Path) -> None:
    _, page = with_stats(tmp_path, scale="body", masks_known=False)
    assert "the pictures state no scale" in " ".join(page.words.split())
    assert "never outlined" in page.words


@pytest.mark.parametrize("claim", ["helps", "harms", "no evidence", "not measured"])
def test_every_claim_is_said_in_words(tmp_path: Path, claim: str) -> None:
    _, page = report(tmp_path, claim=claim, synthetic=6)
    assert f"Segmentation: {claim}" in page.words
    assert wording.CLAIMS[claim] in page.words


def test_an_arm_with_too_few_slices_is_named(tmp_path: Path) -> None:
    _, page = report(tmp_path, too_few=True, claim="not measured", synthetic=6)
    assert "(too few)" in page.words


def test_folds_batches_and_a_generator_from_elsewhere_fit_the_page(tmp_path: Path) -> None:
    run = {"folds": ["0", "1", "2"], "batches": ["phantom", "second"], "external": True}
    _, page = report(tmp_path, **run, synthetic=6, channels=2)
    assert "Partitions of fold 2" in page.words
    assert "second" in page.words
    assert "data/elsewhere" in page.words
    assert "nothing was trained here" in page.words


def test_nothing_accepted_still_shows_what_was_generated(tmp_path: Path) -> None:
    _, page = report(tmp_path, verdict="rejected", accept_share=0.0)
    assert "none was accepted" in page.words


def test_words_from_the_data_cannot_become_markup(tmp_path: Path) -> None:
    write(tmp_path, Run(synthetic=6))
    path = tmp_path / "data/volumes/phantom/rejected.parquet"
    pd.read_parquet(path).assign(remedy="<script>alert(1)</script>").to_parquet(path)
    run_stage(tmp_path)
    assert "script" not in Page((tmp_path / "data/report.html").read_text()).tags


def test_why_nothing_is_claimed_stands_beside_the_claim(tmp_path: Path) -> None:
    write(tmp_path, Run(synthetic=6, claim="not measured"))
    path = tmp_path / "data/lift.json"
    reasons = {"segment": ["real did not converge"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reasons": reasons}))
    run_stage(tmp_path)
    page = (tmp_path / "data/report.html").read_text()
    assert "<br>Real did not converge." in page
    assert "Why nothing is claimed:" in page and "<li>real did not converge</li>" in page


def test_what_went_wrong_in_training_stands_before_the_figures(tmp_path: Path) -> None:
    write(tmp_path, Run(synthetic=6))
    path = tmp_path / "data/lift.json"
    note = "segment: seed 1 is left out of all arms: real learnt nothing with it"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": [note]}))
    run_stage(tmp_path)
    assert f"<li>{note}</li>" in (tmp_path / "data/report.html").read_text()


def test_a_missing_lift_is_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path, Run(synthetic=6))
    (tmp_path / "data/lift.json").unlink()
    with pytest.raises(InputError, match=r"data/lift\.json is missing"):
        run_stage(tmp_path)
    assert not list((tmp_path / "data").glob(".report*"))


def test_sheets_are_png_of_the_promised_size(accepted: tuple[str, Page]) -> None:
    sheets = [picture for picture in accepted[1].pictures if "width" in picture]
    assert sheets
    for picture in sheets:
        packed = base64.b64decode((picture["src"] or "").split(",", 1)[1])
        assert Image.open(BytesIO(packed)).width == int(picture["width"] or 0)


def test_the_page_says_whose_slices_it_shows(tmp_path: Path) -> None:
    for batches, said, unsaid in (
        (["phantom"], "slices of simulated patients (the phantom), of no person", "source data"),
        (["ward"], "slices of real patients: handle it like the source data", "imulated patients"),
        (["phantom", "ward"], "slices of real patients and of simulated patients", "of no person"),
    ):
        _, page = report(tmp_path / "-".join(batches), batches=batches, synthetic=6)
        assert said in page.words
        assert unsaid not in page.words


def test_the_first_screen_has_the_headline_and_the_plots_their_order(
    accepted: tuple[str, Page],
) -> None:
    text, page = accepted
    assert page.words.index("The gate accepts these synthetic slices") < page.words.index(
        "within every limit of the gate"
    )
    assert text.index("the strongest training without them. This is") < text.index(
        "Every metric, beside real slices alone"
    )


def test_subgroups_of_few_patients_are_not_shown() -> None:
    def group(n: int) -> dict[str, ArmFigure]:
        return {"real": ArmFigure(mean=0.8, ci95=(0.7, 0.9), n_patients=n)}

    (table,) = subgroup_tables.lift_subgroups({"site": {"A": group(12), "B": group(9)}}, 5)
    assert table.heads == ["trained on", "A (n = 12)", "B (n = 9)"]
    assert table.rows == [["real", "0.800 (0.700 to 0.900)", "0.800 (0.700 to 0.900)"]]
    # With the number of all patients known, A's would tell B's.
    assert not subgroup_tables.lift_subgroups({"site": {"A": group(12), "B": group(2)}}, 5)
    parts = {"site A": SubgroupRatio(ratio=2.0, n=40, patients=9),
             "site B": SubgroupRatio(ratio=3.0, n=4, patients=1)}  # fmt: skip
    shown = subgroup_tables.gate_subgroups(parts, 5)
    assert shown is not None
    hidden = ["not shown", "not shown"]  # nor is it told which of them is small
    assert [row[2:4] for row in shown.rows] == [hidden, hidden]
