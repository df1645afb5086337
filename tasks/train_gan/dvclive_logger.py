"""Write the curves of a running training with DVCLive; `history.csv` is the record."""

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

    def log_row(self, row: HistoryRow) -> None:
        """Log one row of the history."""
        self.step = int(row["step"])
        for name, value in row.items():
            if isinstance(value, float):
                self.log_metric(name, value, timestamp=False)
        self.make_summary()
