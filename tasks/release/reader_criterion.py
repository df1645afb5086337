"""Hold what readers answered against `release.readers`, and describe it for the data card."""

from tasks.common.release_candidate import ReleaseCandidate
from tasks.params.release import ReaderCriterion
from tasks.schemas.review import ReviewFigures, read_review

ReaderResults = dict[str, ReviewFigures | None]


def read_reader_results(candidate: ReleaseCandidate) -> ReaderResults:
    """Read the figures of each fold's reader study; None where readers did not see these slices."""
    folds = read_review().folds
    return {
        fold: folds[fold].figures if fold in folds and folds[fold].digest == digest else None
        for fold, digest in candidate.fold_digests.items()
    }


def blocking_reasons(criterion: ReaderCriterion | None, results: ReaderResults) -> list[str]:
    """List why readers' answers do not allow a release, in words; empty without a criterion."""
    if criterion is None:
        return []
    several = len(results) > 1
    return [
        f"readers: {f'fold {fold}: ' if several else ''}{reason}"
        for fold, figures in results.items()
        for reason in fold_reasons(criterion, figures)
    ]


def fold_reasons(criterion: ReaderCriterion, figures: ReviewFigures | None) -> list[str]:
    """List what one fold's study lacks."""
    if figures is None or not figures.readers:
        return [
            "nobody has rated these slices, and release.readers asks for it: run `auglift review`,"
            " then `auglift review export`"
        ]
    reasons = []
    if len(figures.readers) < criterion.min_readers:
        reasons.append(
            f"{len(figures.readers)} took part (release.readers.min_readers:"
            f" {criterion.min_readers})"
        )
    accuracy = figures.together.accuracy
    if criterion.max_accuracy is not None and accuracy.ci95 is not None:
        low, high = accuracy.ci95
        if high > criterion.max_accuracy:
            reasons.append(
                f"they told synthetic from real slices with accuracy {accuracy.value:.2f} (95 %"
                f" interval {low:.2f} to {high:.2f}; release.readers.max_accuracy:"
                f" {criterion.max_accuracy:g})"
            )
    if criterion.min_realism is not None:
        scores = figures.origins["synthetic"].mean_scores if figures.origins else {}
        realism = scores.get("realism")
        if realism is None or realism < criterion.min_realism:
            found = "was not rated" if realism is None else f"is {realism:.1f} on average"
            reasons.append(
                f"realism of synthetic slices {found} (release.readers.min_realism:"
                f" {criterion.min_realism:g})"
            )
    return reasons


def describe_readers(results: ReaderResults) -> str:
    """Describe the readers' results in a line for the data card."""
    words = []
    for fold, figures in results.items():
        if figures is None or figures.together.accuracy.ci95 is None:
            continue
        accuracy = figures.together.accuracy
        assert accuracy.value is not None and accuracy.ci95 is not None
        readers = len(figures.readers)
        words.append(
            f"{'in fold ' + fold + ' ' if len(results) > 1 else ''}{readers}"
            f" reader{'s' if readers > 1 else ''} told synthetic from real slices, blinded, with"
            f" accuracy {accuracy.value:.2f} (95 % interval {accuracy.ci95[0]:.2f} to"
            f" {accuracy.ci95[1]:.2f}; 0.5 is guessing)"
        )
    return "; ".join(words) or "no reader study of these slices"
