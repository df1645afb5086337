"""Track a training: its history, its best weights, and whether it is over."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tasks.params.train_gan import TrainGan
from tasks.train_gan.collapse_detection import HistoryRow, checkpoint_rank, collapse_reason
from tasks.train_gan.trainer import Trainer

COLLAPSED_ROWS = 3  # collapsed rows in a row, in the second half of a run
CONVERGED_SHARE = 0.05  # losses within this share of their mean count as the same


@dataclass
class TrainingState:
    """The state of a training besides its networks.

    `restarted` is why an earlier attempt was given up; `seconds` is the time spent so far.
    """

    step: int = 0
    seconds: float = 0.0
    restarted: str = ""
    history: list[HistoryRow] = field(default_factory=list)
    best_row: HistoryRow = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def add_row(self, row: HistoryRow, trainer: Trainer) -> None:
        """Add a row, and keep the EMA weights when no earlier ones were better."""
        config, events = trainer.config, []
        if checkpoint_rank(row, loss=config.loss) <= checkpoint_rank(
            self.best_row, loss=config.loss
        ):
            events.append("best")
            self.best_row = row
            weights = trainer.ema.state_dict()
            self.best_weights = {
                name: value.to("cpu", copy=True) for name, value in weights.items()
            }
        if self.restarted and not self.history:
            events.append(f"restarted with seed {config.seed}: {self.restarted}")
        if reason := collapse_reason(row, loss=config.loss):
            early = float(row["step"]) < config.steps / 2
            events.append(f"{'young' if early else 'collapsed'}: {reason}")
        row["event"] = ", ".join(events)
        self.history.append(row)

    def lasting_collapse(self, row: HistoryRow, config: TrainGan) -> str:
        """Return why this row and those before it need another seed; empty when they do not.

        Early in a run a generator shows few kinds of slices and no masks, so only the second half
        counts. A second attempt that collapses is trained to its end and marked: the gate judges
        it.
        """
        recent = [*self.history, row][-COLLAPSED_ROWS:]
        if (
            self.restarted
            or len(recent) < COLLAPSED_ROWS
            or float(recent[0]["step"]) < config.steps / 2
        ):
            return ""
        reasons = [collapse_reason(each, loss=config.loss) for each in recent]
        return reasons[-1] if all(reasons) else ""

    def stop_reason(self, config: TrainGan) -> str:
        """Return why the training is over; empty while it is not, and between validation rows."""
        if not self.history or float(self.history[-1]["step"]) < self.step:
            return ""
        if self.step >= config.steps:
            return "steps"
        if self.out_of_time(config):
            return "max_minutes"
        if config.patience:
            waited = float(self.history[-1]["step"]) - float(self.best_row["step"])
            if waited >= config.patience * config.watch_every:
                return "plateau"
        if config.settled and self.losses_converged(config.settled):
            return "losses"
        return ""

    def out_of_time(self, config: TrainGan) -> bool:
        """Return whether `max_minutes` are spent."""
        return bool(config.max_minutes) and self.seconds > 60 * config.max_minutes

    def losses_converged(self, rows: int) -> bool:
        """Return whether both losses stayed the same over the last rows."""
        recent = self.history[-rows:]
        if len(recent) < max(rows, 2):
            return False
        for name in ("loss_d", "loss_g"):
            losses = [float(row[name]) for row in recent]
            mean = sum(losses) / len(losses)
            if max(abs(loss - mean) for loss in losses) > CONVERGED_SHARE * abs(mean):
                return False
        return True

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON metadata for a checkpoint."""
        metadata = {
            "step": self.step,
            "seconds": self.seconds,
            "restarted": self.restarted,
            "history": self.history,
            "best_step": self.best_row.get("step"),
        }
        return {f"best.{name}": value for name, value in self.best_weights.items()}, metadata

    @classmethod
    def unpack(cls, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> "TrainingState":
        """Restore the state from `pack`."""
        history = metadata["history"]
        best_rows = [row for row in history if row["step"] == metadata["best_step"]]
        prefix = "best."
        return cls(
            step=metadata["step"],
            seconds=metadata["seconds"],
            restarted=metadata["restarted"],
            history=history,
            best_row=best_rows[-1] if best_rows else {},
            best_weights={
                name.removeprefix(prefix): value
                for name, value in tensors.items()
                if name.startswith(prefix)
            },
        )
