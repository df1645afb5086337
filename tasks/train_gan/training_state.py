"""How far a training has come: its history, its best weights, and whether to go on."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tasks.params.train_gan import TrainGan
from tasks.train_gan.collapse_detection import Row, checkpoint_rank, collapse
from tasks.train_gan.trainer import Trainer

LASTING = 3  # collapsed rows in a row, in the second half of a run
SETTLED = 0.05  # losses within this share of their mean count as the same


@dataclass
class TrainingState:
    """What a training leaves behind besides its networks.

    `restarted` says why an earlier attempt was given up; `seconds` are those spent so far.
    """

    step: int = 0
    seconds: float = 0.0
    restarted: str = ""
    history: list[Row] = field(default_factory=list)
    best_row: Row = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)

    def record(self, row: Row, trainer: Trainer) -> None:
        """Add a row, and keep the EMA weights when none were better."""
        asked, events = trainer.asked, []
        if checkpoint_rank(row, loss=asked.loss) <= checkpoint_rank(self.best_row, loss=asked.loss):
            events.append("best")
            self.best_row = row
            weights = trainer.ema.state_dict()
            self.best = {name: value.to("cpu", copy=True) for name, value in weights.items()}
        if self.restarted and not self.history:
            events.append(f"restarted with seed {asked.seed}: {self.restarted}")
        if reason := collapse(row, loss=asked.loss):
            young = float(row["step"]) < asked.steps / 2
            events.append(f"{'young' if young else 'collapsed'}: {reason}")
        row["event"] = ", ".join(events)
        self.history.append(row)

    def lasting_collapse(self, row: Row, asked: TrainGan) -> str:
        """Why this row and those before it call for another seed; empty when they do not.

        A young generator draws few kinds of slices and no masks, so only the second half counts.
        One that collapses again is trained to its end and marked: the gate is the judge.
        """
        recent = [*self.history, row][-LASTING:]
        if self.restarted or len(recent) < LASTING or float(recent[0]["step"]) < asked.steps / 2:
            return ""
        reasons = [collapse(each, loss=asked.loss) for each in recent]
        return reasons[-1] if all(reasons) else ""

    def stop(self, asked: TrainGan) -> str:
        """Why the training is over; empty while it is not, and between rows: its end has one."""
        if not self.history or float(self.history[-1]["step"]) < self.step:
            return ""
        if self.step >= asked.steps:
            return "steps"
        if self.out_of_time(asked):
            return "max_minutes"
        if asked.patience:
            waited = float(self.history[-1]["step"]) - float(self.best_row["step"])
            if waited >= asked.patience * asked.watch_every:
                return "plateau"
        if asked.settled and self.losses_converged(asked.settled):
            return "losses"
        return ""

    def out_of_time(self, asked: TrainGan) -> bool:
        """Whether the time that was given is spent."""
        return bool(asked.max_minutes) and self.seconds > 60 * asked.max_minutes

    def losses_converged(self, rows: int) -> bool:
        """Whether both losses stayed the same over the last rows."""
        recent = self.history[-rows:]
        if len(recent) < max(rows, 2):
            return False
        for name in ("loss_d", "loss_g"):
            losses = [float(row[name]) for row in recent]
            mean = sum(losses) / len(losses)
            if max(abs(loss - mean) for loss in losses) > SETTLED * abs(mean):
                return False
        return True

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON facts of a checkpoint."""
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "restarted": self.restarted,
            "history": self.history,
            "best_step": self.best_row.get("step"),
        }
        return {f"best.{name}": value for name, value in self.best.items()}, facts

    @classmethod
    def unpack(cls, tensors: dict[str, Tensor], facts: dict[str, Any]) -> "TrainingState":
        """What was packed."""
        history = facts["history"]
        best_rows = [row for row in history if row["step"] == facts["best_step"]]
        prefix = "best."
        return cls(
            step=facts["step"],
            seconds=facts["seconds"],
            restarted=facts["restarted"],
            history=history,
            best_row=best_rows[-1] if best_rows else {},
            best={
                name.removeprefix(prefix): value
                for name, value in tensors.items()
                if name.startswith(prefix)
            },
        )
