"""Write the answers of a study as `data/review.json` and outlines as masks; print the figures."""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tasks.commands.review.answer_store import STUDIES, AnswerStore
from tasks.commands.review.answers import Answer, decode_outline
from tasks.commands.review.reader_statistics import review_figures
from tasks.commands.review.study_slices import SlicePool, StudySlice
from tasks.schemas.review import (
    ARTEFACT_KINDS,
    ORIGINS,
    REVIEW,
    FoldReview,
    Origin,
    Rating,
    Review,
    ReviewFigures,
    Share,
    read_review,
)
from tasks.stage.errors import InputError
from tasks.stage.stage_io import atomic_output

OUTLINES = "outlines"


def collect_ratings(store: AnswerStore, pool: SlicePool) -> tuple[list[Rating], list[str]]:
    """Collect the finished answers of all readers, in the order of the study's slices.

    Returns:
        The ratings, and the cluster of each.
    """
    answered = [
        (reading.place, reader, answers[reading.id])
        for reader in store.readers()
        for answers in (store.answers(reader),)
        for reading in store.readings(reader)
        if reading.id in answers and answers[reading.id].done
    ]
    ratings = [
        make_rating(reader, store.slices[place], answer, pool.masks[place])
        for place, reader, answer in sorted(answered, key=lambda each: each[:2])
    ]
    clusters = [
        store.slices[place].cluster for place, _, _ in sorted(answered, key=lambda e: e[:2])
    ]
    return ratings, clusters


def make_rating(reader: str, shown: StudySlice, answer: Answer, mask: NDArray[np.uint8]) -> Rating:
    """Join an answer with the slice that it is about."""
    assert answer.decision is not None
    dice = None
    if answer.outline is not None:
        outline = decode_outline(answer.outline, (mask.shape[0], mask.shape[1]))
        dice = round(dice_of(outline, mask), 4)
    return Rating(
        reader=reader,
        origin=shown.origin,
        row=shown.row,
        label=1 if shown.label == 1 else 0,
        slice_sha256=shown.sha256,
        decision=answer.decision,
        scores=dict(answer.scores),
        artefact_kinds=list(answer.artefact_kinds),
        flagged=answer.flagged,
        comment=" ".join(answer.comment.split()),
        outline_from=answer.outline_from if answer.outline is not None else None,
        outline_dice=dice,
        seconds=round(answer.seconds, 3),
    )


def dice_of(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the Dice overlap of two masks; 0 where only one is empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def export_study(store: AnswerStore, pool: SlicePool) -> FoldReview:
    """Write a fold's study into `data/review.json`, and the readers' outlines into `.review/`.

    Other folds' studies in the file stay as they are.

    Raises:
        InputError: when no reader has answered yet.
    """
    ratings, clusters = collect_ratings(store, pool)
    if not ratings:
        raise InputError(
            f"no slice of fold {store.fold} is answered yet; run `auglift review --fold"
            f" {store.fold}`"
        )
    slices: dict[Origin, int] = {
        origin: sum(each.origin == origin for each in store.slices) for origin in ORIGINS
    }
    study = FoldReview(
        digest=store.digest, figures=review_figures(ratings, clusters, slices), ratings=ratings
    )
    earlier = read_review().folds if REVIEW.exists() else {}
    review = Review(folds={**earlier, store.fold: study})
    with atomic_output(REVIEW) as path:
        path.write_text(
            json.dumps(review.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        )
    write_outlines(store, pool)
    return study


def write_outlines(store: AnswerStore, pool: SlicePool) -> Path | None:
    """Write the readers' outlines as masks (N,H,W) with a table of N rows; None without any."""
    rows, masks = [], []
    for reader in store.readers():
        answers = store.answers(reader)
        for reading in store.readings(reader):
            answer = answers.get(reading.id)
            if answer is None or answer.outline is None or not answer.done:
                continue
            shown = store.slices[reading.place]
            size = (pool.masks.shape[1], pool.masks.shape[2])
            masks.append(decode_outline(answer.outline, size))
            rows.append([reader, shown.origin, shown.row, shown.label, answer.outline_from])
    if not masks:
        return None
    folder = STUDIES / f"{OUTLINES}-{store.fold}"
    with atomic_output(folder) as partial:
        np.save(partial / "masks.npy", np.stack(masks), allow_pickle=False)
        with (partial / "outlines.csv").open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["reader", "origin", "row", "label", "outline_from"])
            table.writerows(rows)
    return folder


def print_figures(fold: str, figures: ReviewFigures, readings: dict[str, tuple[int, int]]) -> None:
    """Print a study's figures as tables for a terminal.

    Args:
        fold: the study's fold.
        figures: its figures.
        readings: of each reader, how many slices are answered, and how many there are.
    """
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=110)
    table = Table(title=f"Fold {fold}: were synthetic slices told from real ones? (0.5 is chance)")
    for name in ("reader", "answered", "accuracy", "sensitivity", "specificity"):
        table.add_column(name)
    for reader, own in figures.readers.items():
        done, total = readings.get(reader, (own.accuracy.n, own.accuracy.n))
        table.add_row(
            reader, f"{done} of {total}",
            *(format_share(share) for share in (own.accuracy, own.sensitivity, own.specificity)),
        )  # fmt: skip
    if len(figures.readers) > 1:
        own = figures.together
        table.add_row(
            "together", str(own.accuracy.n),
            *(format_share(share) for share in (own.accuracy, own.sensitivity, own.specificity)),
        )  # fmt: skip
    console.print(table)
    if figures.fleiss_kappa is not None:
        print(f"Fleiss' kappa {figures.fleiss_kappa:.2f} ({figures.fleiss_slices} slices)")
    for pair in figures.pairs:
        kappa = "-" if pair.kappa is None else f"{pair.kappa:.2f}"
        print(f"Cohen's kappa of {' and '.join(pair.readers)}: {kappa} ({pair.n} slices)")
    for origin, own_figures in figures.origins.items():
        scores = ", ".join(
            f"{name.replace('_', ' ')} {value:.1f}"
            for name, value in own_figures.mean_scores.items()
        )
        print(f"{origin}: {scores or 'not rated'}")
        kinds = ", ".join(
            f"{ARTEFACT_KINDS[kind]} {count}" for kind, count in own_figures.artefact_kinds.items()
        )
        if kinds:
            print(f"  artefacts, in slices of {own_figures.slices}: {kinds}")
        if own_figures.outline_dice is not None:
            print(
                f"  {own_figures.outlines} outlines drawn, median Dice with the mask"
                f" {own_figures.outline_dice:.2f}"
            )
        if own_figures.corrected_dice is not None:
            print(
                f"  {own_figures.corrected} masks corrected, median Dice with the mask"
                f" {own_figures.corrected_dice:.2f}"
            )
    if figures.flagged:
        print(f"{figures.flagged} synthetic slices flagged: a release leaves them out")


def format_share(share: Share) -> str:
    """Format a share with its interval."""
    if share.value is None or share.ci95 is None:
        return "-"
    return f"{share.value:.2f} ({share.ci95[0]:.2f} to {share.ci95[1]:.2f})"
