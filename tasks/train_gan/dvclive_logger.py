"""Write the curves of a running training with DVCLive; `history.csv` is the record."""

from typing import Any

from dvclive import Live

from tasks.train_gan.collapse_detection import HistoryRow


class DvcliveLogger(Live):  # type: ignore[misc] # DVCLive has no types
    """DVCLive's files in `dvclive/train_gan-FOLD`, without its repository features.

    DVCLive also looks for the repository around it: one without commits makes it fail, and it turns
    a Git folder without DVC into a DVC repository. The curves need neither.
    """

    def __init__(self, fold: str, *, resume: bool) -> None:
        folder = f"dvclive/train_gan-{fold}"
        super().__init__(dir=folder, resume=resume, save_dvc_exp=False, dvcyaml=False)

    def _init_dvc(self) -> None:
        self._dvc_repo = None

    def read_latest(self) -> dict[str, Any]:
        """Read the summary that an earlier run left; of one that was killed it may be half a file.

        DVCLive writes it in place and would not resume from a broken one.
        """
        try:
            latest: dict[str, Any] = super().read_latest()
        except ValueError:
            return {}
        return latest

    def log_row(self, row: HistoryRow) -> None:
        """Log one row of the history."""
        self.step = int(row["step"])
        for name, value in row.items():
            if isinstance(value, float):
                self.log_metric(name, value, timestamp=False)
        self.make_summary()
