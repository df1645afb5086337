"""Curves for whoever watches a training now; `history.csv` is the record."""

from dvclive import Live

from tasks.train_gan.collapse_detection import Row


class Curves(Live):  # type: ignore[misc] # DVCLive has no types
    """DVCLive's files in `dvclive/train_gan-FOLD`, and nothing else of it.

    DVCLive also looks for the repository around it: one without commits makes it fail, and a Git
    folder without DVC it turns into a DVC repository. The curves need neither.
    """

    def __init__(self, fold: str, *, resume: bool) -> None:
        folder = f"dvclive/train_gan-{fold}"
        super().__init__(dir=folder, resume=resume, save_dvc_exp=False, dvcyaml=False)

    def _init_dvc(self) -> None:
        self._dvc_repo = None

    def add(self, row: Row) -> None:
        """Draw one row of the history."""
        self.step = int(row["step"])
        for name, value in row.items():
            if isinstance(value, float):
                self.log_metric(name, value, timestamp=False)
        self.make_summary()
