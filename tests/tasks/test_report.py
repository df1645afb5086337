"""The report: one page that needs nothing else, says everything in words, and repeats."""

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.common.cohort_counts import count_cohort
from tasks.common.release_candidate import SIMULATED
from tasks.common.slice_montage import OUTLINE, evenly_spaced, slice_montage, to_grey
from tasks.report import charts, cohort_tables, headline, report_page, subgroup_tables, wording
from tasks.report.__main__ import main
from tasks.schemas.lift import ArmFigure, Contrast, Lift
from tasks.schemas.metrics import GateMetrics, SliceCounts, SubgroupRatio
from tasks.stage.errors import InputError
from tests.tasks.fake_run import Run, write


class Page(HTMLParser):
    """The page's words, links, pictures and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.said: list[str] = []
        self.feed(text)
        self.words = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if "id" in attributes:
            self.ids.add(attributes["id"] or "")
        if tag == "img":
            self.pictures.append(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def report(root: Path, *, draw: bool = False, **run: Any) -> tuple[str, Page]:
    """Write a made-up run into `root` and its report, the charts only where they matter."""
    write(root, Run(**run))
    run_stage(root, draw=draw)
    text = (root / "data/report.html").read_text()
    return text, Page(text)


def run_stage(root: Path, *, draw: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        if not draw:
            patch.setattr(charts, "svg_data_uri", lambda *_: "data:image/svg+xml;base64,")
        main()


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
    said = accepted[1].words
    assert said.index("✓ Accepted") < said.index("Does it help?") < said.index("Provenance")


def test_the_page_names_measures_cohort_refusals_and_parameters(
    accepted: tuple[str, Page],
) -> None:
    said = accepted[1].words
    for word in ("Fréchet distance", "novel_measure", "missing-slice", "Radiological display"):
        assert word in said
    assert "train_gan: " in said


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


def with_stats(root: Path, **changes: object) -> tuple[str, Page]:
    """The report of a run whose slices say more of themselves."""
    write(root, Run(synthetic=6))
    path = root / "data/slices/stats.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    run_stage(root)
    text = (root / "data/report.html").read_text()
    return text, Page(text)


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
    said = Page((tmp_path / "data/report.html").read_text()).words
    assert "None of the 6 slices could be judged" in said
    assert "slices passed on their own" not in said


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


def test_the_outline_lies_on_the_masks_border() -> None:
    mask = np.zeros((1, 16, 16), np.uint8)
    mask[0, 4:12, 6:10] = 1
    image = np.full((1, 16, 16), -1.0, np.float32)
    pixels = np.asarray(slice_montage(image, mask, marks=[""], columns=1, tile_px=160))
    rows, columns = np.nonzero((np.abs(pixels.astype(int) - OUTLINE) < 3).all(axis=-1))
    assert abs(rows.min() - 40) <= 2
    assert abs(rows.max() - 120) <= 2
    assert abs(columns.min() - 60) <= 2
    assert abs(columns.max() - 100) <= 2


def test_the_picture_shows_the_patients_right_at_the_left() -> None:
    image = np.full((1, 16, 16), -1.0, np.float32)
    image[0, :, :4] = 1.0  # low columns: patient right
    pixels = np.asarray(slice_montage(image, None, marks=[""], columns=1, tile_px=160).convert("L"))
    assert pixels[80, :20].mean() > 200
    assert pixels[80, -20:].mean() < 10


def test_grey_maps_the_ends_and_blackens_what_is_no_number() -> None:
    values = np.array([[-1.0, 1.0, np.nan, np.inf]])
    assert to_grey(values).tolist() == [[0, 255, 0, 255]]


def test_a_spread_keeps_both_ends_and_repeats_nothing() -> None:
    chosen = evenly_spaced(np.arange(100), 12)
    assert chosen[0] == 0
    assert chosen[-1] == 99
    assert len(set(chosen)) == 12


@pytest.mark.parametrize(
    ("low", "high", "larger", "colour"),
    [
        (0.1, 0.2, True, charts.BLUE),
        (-0.2, -0.1, True, charts.VERMILLION),
        (-0.2, -0.1, False, charts.BLUE),
        (-0.1, 0.1, True, charts.GREY),
    ],
)
def test_colour_follows_what_is_better(low: float, high: float, larger: bool, colour: str) -> None:
    assert charts.lift_colour(low, high, larger)[0] == colour


def test_a_chart_is_svg_without_clock_or_version() -> None:
    arms = {"real": ArmFigure(mean=0.7), "synthetic": ArmFigure(status="too few")}
    uri = charts.forest_plot("dice", charts.differences_to_real(arms), larger_is_better=True)
    drawn = base64.b64decode(uri.split(",", 1)[1]).decode()
    assert uri == charts.forest_plot(
        "dice", charts.differences_to_real(arms), larger_is_better=True
    )
    assert "<svg" in drawn
    assert "dc:date" not in drawn


def test_the_decisive_comparison_is_the_best_arms_hardest_rival() -> None:
    lifts = {("a", "x"): 0.2, ("a", "y"): 0.01, ("b", "x"): 0.05, ("b", "y"): 0.04}
    contrasts = [
        Contrast(arm=a, reference=r, lift=d, ci95=(d - 0.1, d + 0.1), p_adjusted=0.5)
        for (a, r), d in lifts.items()
    ]
    assert "+0.040" in report_page.decisive_contrast(contrasts, "no evidence", "Dice")


@pytest.mark.parametrize(
    ("figure", "text"),
    [(None, "–"), (float("nan"), "–"), (120, "120"), (-0.0312, "−0.031"), (12.34, "12.3")],  # noqa: RUF001
)
def test_figures_are_written_for_people(figure: float | None, text: str) -> None:
    assert wording.format_number(figure) == text


def test_both_ends_of_an_interval_have_the_same_places() -> None:
    assert wording.format_interval((-2.1, -0.9)) == "−2.10 to −0.90"  # noqa: RUF001


def test_an_interval_that_excludes_zero_is_not_rounded_onto_it() -> None:
    assert wording.format_interval((-0.00546, -0.000027)) == "−0.00546 to −0.00003"  # noqa: RUF001


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


def lift_of(claims: dict[str, str], **more: Any) -> Lift:
    """A lift of two candidates beside two references, by AUROC of 12 patients."""
    means = {"real": 0.8, "real+classical": 0.9, "real+synthetic": 0.85,
             "real+classical+synthetic": 0.93}  # fmt: skip
    arms = {
        arm: {"mean": mean, "lift_over_real": round(mean - 0.8, 3), "n_patients": 12}
        for arm, mean in means.items()
    }
    contrasts = [
        {"arm": arm, "reference": reference, "lift": round(means[arm] - means[reference], 3),
         "ci95": [-0.1, 0.1], "p_adjusted": 0.5}
        for reference in ("real", "real+classical")
        for arm in ("real+synthetic", "real+classical+synthetic")
    ]  # fmt: skip
    return Lift.model_validate(
        {"claim": claims, "tasks": {task: {"auroc": arms} for task in claims},
         "primary": dict.fromkeys(claims, "auroc"),
         "contrasts": dict.fromkeys(claims, contrasts), "n_patients": 12, "n_seeds": 3,
         "method": "by hand", **more}
    )  # fmt: skip


def test_the_headline_says_verdict_and_claims_in_one_sentence_and_names_a_phantom() -> None:
    both = headline.write_headline(
        True, lift_of({"classify": "no evidence", "segment": "no evidence"}), "real patients"
    )
    assert both == (
        "The gate accepts these synthetic slices, and no lift from them is shown in classification"
        " or segmentation, on 12 test patients."
    )
    mixed = headline.write_headline(
        False, lift_of({"classify": "harms", "segment": "helps"}), SIMULATED
    )
    assert mixed == (
        "The gate rejects these synthetic slices, and they improve segmentation, and they make"
        " classification worse, on 12 simulated test patients (a phantom)."
    )


def test_the_first_plot_is_the_lift_over_the_strongest_training_without_synthetic_slices() -> None:
    strongest = headline.against_strongest("classify", lift_of({"classify": "no evidence"}))
    assert strongest is not None and strongest.arm == "real + augmented"
    assert "real + synthetic: \N{MINUS SIGN}0.05" in strongest.chart.alt
    assert "real + augmented + synthetic: +0.03" in strongest.chart.alt
    assert "(0.9" in strongest.chart.caption
    assert (
        headline.against_strongest("classify", lift_of({"classify": "helps"}, contrasts={})) is None
    )


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
