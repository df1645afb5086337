"""Hold what readers answered against `release.readers`, and describe it for the data card."""

from tasks.common.reader_criterion import ReaderCriterion, unmet_criteria
from tasks.common.release_candidate import ReleaseCandidate
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
        for reason in unmet_criteria(criterion, figures, "release.readers")
    ]


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
