"""Prepare the readers' answers for the page: tables, charts and comments, fold by fold."""

from dataclasses import dataclass
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from tasks.common.release_candidate import ReleaseCandidate
from tasks.report import wording
from tasks.report.charts import BLUE, GREY, INK, STYLE, VERMILLION, WIDTH, svg_data_uri
from tasks.report.image_panels import PageImage
from tasks.schemas.review import (
    ARTEFACT_KINDS,
    CRITERIA,
    ORIGINS,
    Accuracy,
    FoldReview,
    Origin,
    Rating,
    Review,
    ReviewFigures,
    Share,
)

MAX_COMMENTS: Final = 30
COLOURS: Final[dict[Origin, str]] = {"real": BLUE, "synthetic": VERMILLION}
MARKERS: Final[dict[Origin, str]] = {"real": "s", "synthetic": "o"}


@dataclass(frozen=True)
class ReaderSection:
    """One fold's reader study; `current` where readers saw the slices that the page is about.

    Rows: of readers (name, answers, accuracy, sensitivity, specificity), of criteria (name, real,
    synthetic, kappa), of artefacts (kind, real, synthetic), of outlines (what, n, Dice).
    """

    fold: str
    current: bool
    slices: dict[Origin, int]
    readers: list[list[str]]
    agreement: list[str]
    criteria: list[list[str]]
    artefacts: list[list[str]]
    outlines: list[list[str]]
    comments: list[tuple[str, str]]
    flagged: int
    charts: list[PageImage]


def reader_sections(review: Review, candidate: ReleaseCandidate) -> list[ReaderSection]:
    """Prepare the studies of the candidate's folds that somebody has answered."""
    return [
        reader_section(fold, review.folds[fold], digest)
        for fold, digest in candidate.fold_digests.items()
        if fold in review.folds and review.folds[fold].figures.readers
    ]


def reader_section(fold: str, study: FoldReview, digest: str) -> ReaderSection:
    """Prepare one fold's study."""
    figures = study.figures
    charts = [accuracy_image(fold, figures)]
    if any(own.mean_scores for own in figures.origins.values()):
        charts.append(scores_image(fold, figures))
    return ReaderSection(
        fold=fold,
        current=study.digest == digest,
        slices={origin: own.slices for origin, own in figures.origins.items()},
        readers=reader_rows(figures),
        agreement=agreement_sentences(figures),
        criteria=[
            [wording.CRITERIA[name], *(
                wording.format_number(figures.origins[origin].mean_scores.get(name))
                for origin in ORIGINS
            ), wording.format_number(figures.score_kappa.get(name))]
            for name in CRITERIA
        ],
        artefacts=artefact_rows(figures),
        outlines=outline_rows(figures),
        comments=[comment_row(rating) for rating in study.ratings if rating.comment][:MAX_COMMENTS],
        flagged=figures.flagged,
        charts=charts,
    )  # fmt: skip


def reader_rows(figures: ReviewFigures) -> list[list[str]]:
    """Make a row a reader, and one of all together where there are several."""
    rows = dict(figures.readers)
    if len(rows) > 1:
        rows["together"] = figures.together
    return [
        [name, str(own.accuracy.n), *(format_share(share) for share in shares_of(own))]
        for name, own in rows.items()
    ]


def shares_of(own: Accuracy) -> tuple[Share, Share, Share]:
    """Return a reader's three shares in the order of the table."""
    return own.accuracy, own.sensitivity, own.specificity


def format_share(share: Share) -> str:
    """Format a share with its interval."""
    if share.value is None:
        return wording.UNKNOWN
    return f"{wording.format_number(share.value)} ({wording.format_interval(share.ci95)})"


def agreement_sentences(figures: ReviewFigures) -> list[str]:
    """Say how far readers agree on what is synthetic; nothing where one reader took part."""
    sentences = []
    if figures.fleiss_kappa is not None:
        sentences.append(
            f"Fleiss' κ of all readers: {wording.format_number(figures.fleiss_kappa)}, on"
            f" {figures.fleiss_slices} slices."
        )
    sentences += [
        f"Cohen's κ of {' and '.join(pair.readers)}: {wording.format_number(pair.kappa)}, on"
        f" {pair.n} slices."
        for pair in figures.pairs
    ]
    return sentences


def artefact_rows(figures: ReviewFigures) -> list[list[str]]:
    """Make a row an artefact: how many slices of each origin readers saw it in, most first."""
    kinds = {kind for own in figures.origins.values() for kind in own.artefact_kinds}
    counts = {
        kind: [figures.origins[origin].artefact_kinds.get(kind, 0) for origin in ORIGINS]
        for kind in kinds
    }
    ordered = sorted(counts.items(), key=lambda each: (-each[1][1], -each[1][0], each[0]))
    return [[ARTEFACT_KINDS[kind], *map(str, count)] for kind, count in ordered]


def outline_rows(figures: ReviewFigures) -> list[list[str]]:
    """Make a row for each kind of outline that readers drew."""
    masks = {"real": "annotated masks", "synthetic": "generated masks"}
    rows = []
    for origin, own in figures.origins.items():
        if own.outlines:
            dice = wording.format_number(own.outline_dice)
            rows.append([f"drawn, against {masks[origin]}", str(own.outlines), dice])
        if own.corrected:
            dice = wording.format_number(own.corrected_dice)
            rows.append([f"corrected, against {masks[origin]}", str(own.corrected), dice])
    return rows


def comment_row(rating: Rating) -> tuple[str, str]:
    """Return where a comment belongs, and the comment."""
    flagged = ", flagged" if rating.flagged else ""
    return f"{rating.origin} slice {rating.row}, {rating.reader}{flagged}", rating.comment


def accuracy_image(fold: str, figures: ReviewFigures) -> PageImage:
    """Plot each reader's accuracy with its interval; a filled mark excludes guessing."""
    rows = {reader: own.accuracy for reader, own in figures.readers.items()}
    if len(rows) > 1:
        rows["together"] = figures.together.accuracy
    with mpl.rc_context(STYLE):
        height_in = 0.36 * len(rows) + 0.75
        figure = Figure(figsize=(WIDTH, height_in))
        left = min(0.5, (0.2 + 0.075 * max(map(len, rows))) / WIDTH)
        axes = figure.add_axes((left, 0.55 / height_in, 0.96 - left, 1 - 0.65 / height_in))
        axes.axvline(0.5, color=INK, linewidth=1)
        for height, share in enumerate(reversed(rows.values())):
            if share.value is None or share.ci95 is None:
                continue
            low, high = share.ci95
            colour = GREY if low <= 0.5 <= high else VERMILLION if low > 0.5 else BLUE
            axes.plot([low, high], [height, height], color=colour, linewidth=2)
            axes.plot(
                share.value, height, "o", markersize=7, markeredgecolor=colour,
                markeredgewidth=1.5, markerfacecolor="white" if colour == GREY else colour,
            )  # fmt: skip
        axes.set_xlim(0, 1.02)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_yticks(range(len(rows)), list(reversed(rows)))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("accuracy (0.5: guessing, 1: always right)")
        uri = svg_data_uri(figure, f"readers-{fold}")
    alt = "; ".join(f"{name}: {format_share(share)}" for name, share in rows.items())
    caption = (
        "Share of slices of which readers said rightly whether they are real or synthetic, with its"
        " 95 % interval. Hollow grey: guessing would explain it. Orange-red: readers see a"
        " difference."
    )
    return PageImage(uri, f"Accuracy of readers: {alt}", caption, 0, 0)


def scores_image(fold: str, figures: ReviewFigures) -> PageImage:
    """Plot the mean score of each criterion for real and for synthetic slices."""
    rated = [name for name in CRITERIA
             if any(name in own.mean_scores for own in figures.origins.values())]  # fmt: skip
    alt = []
    with mpl.rc_context(STYLE):
        height_in = 0.36 * len(rated) + 1.0
        figure = Figure(figsize=(WIDTH, height_in))
        axes = figure.add_axes((0.32, 0.55 / height_in, 0.64, 1 - 0.9 / height_in))
        for origin in ORIGINS:
            means = figures.origins[origin].mean_scores
            points = [
                (means[name], len(rated) - 1 - place)
                for place, name in enumerate(rated)
                if name in means
            ]
            axes.plot(
                [score for score, _ in points], [height for _, height in points], MARKERS[origin],
                color=COLOURS[origin], markersize=11 if origin == "real" else 6,
                label=f"{origin} slices",
                markerfacecolor="white" if origin == "real" else COLOURS[origin],
                markeredgewidth=1.5,
            )  # fmt: skip
            alt += [f"{wording.CRITERIA[name]}, {origin}: {wording.format_number(means[name])}"
                    for name in rated if name in means]  # fmt: skip
        axes.set_xlim(0.9, 5.1)
        axes.set_ylim(-0.6, len(rated) - 0.4)
        axes.set_yticks(range(len(rated)), [wording.CRITERIA[name] for name in reversed(rated)])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("mean score (1: worst, 5: best)")
        axes.legend(
            frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0)
        )
        uri = svg_data_uri(figure, f"scores-{fold}")
    caption = "Mean scores that readers gave, not knowing which slices are real."
    return PageImage(uri, f"Mean scores: {'; '.join(alt)}", caption, 0, 0)
