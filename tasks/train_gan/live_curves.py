"""Show the curves of a running training, where DVCLive is installed."""

from contextlib import AbstractContextManager
from typing import Protocol, Self

from tasks.train_gan.collapse_detection import HistoryRow


class CurveLogger(Protocol):
    """What takes the rows of a history while it grows."""

    def log_row(self, row: HistoryRow) -> None:
        """Log one row of the history."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> bool | None: ...


class NoCurves(AbstractContextManager["NoCurves"]):
    """Drop the rows: `history.csv`, written at the end, holds them all."""

    def log_row(self, row: HistoryRow) -> None:
        """Drop one row."""

    def __exit__(self, *error: object) -> None:
        """Leave errors as they are."""


def open_curves(fold: str, *, resume: bool) -> CurveLogger:
    """Open the curves of a fold; without DVCLive, which imports DVC, say that there are none.

    A worker that only trains needs neither of the two.
    """
    try:
        from tasks.train_gan.dvclive_logger import DvcliveLogger
    except ModuleNotFoundError as error:
        if error.name not in {"dvclive", "dvc"}:
            raise
        print(f"train_gan@{fold}: no curves while it trains, {error.name} is not installed")
        return NoCurves()
    logger: CurveLogger = DvcliveLogger(fold, resume=resume)
    return logger
