"""`auglift.judge`: the verdict of the gate on any synthetic slices, in Python."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd
import torch
from numpy.typing import ArrayLike

from auglift.slices import Slices, to_folder_slices
from tasks.commands.judge.judgement import Judgement, judge_slices

Source = str | Path | Slices | ArrayLike


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a set of synthetic slices; shows itself as its page in a notebook."""

    judgement: Judgement

    @property
    def accepted(self) -> bool:
        """Whether the set is accepted."""
        return self.judgement.result.verdict == "accepted"

    @property
    def reasons(self) -> list[str]:
        """Why the set is rejected, in words; empty when it is accepted."""
        return self.judgement.result.reasons

    @property
    def notes(self) -> list[str]:
        """What limits the verdict, such as patients that are not named."""
        return self.judgement.notes

    @property
    def measures(self) -> pd.DataFrame:
        """A row a measure: value, baseline (real against real), ratio, ci95, limit, status."""
        rows = {
            name: each.as_json() | {"status": each.status}
            for name, each in self.judgement.result.measures.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def samples(self) -> pd.DataFrame:
        """A row a slice, in the order given: its scores, `accepted`, and `reason`."""
        return self.judgement.result.samples.copy()

    def save(self, folder: str | Path) -> None:
        """Write `verdict.json`, `samples.parquet` and `report.html`, as `auglift judge` does."""
        self.judgement.write(Path(folder))

    def __str__(self) -> str:
        return "\n".join(self.judgement.lines())

    def _repr_html_(self) -> str:
        page = escape(self.judgement.render_page(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40em;border:0"></iframe>'


def judge(real: Source, synthetic: Source, *, train: Source | None = None) -> Verdict:
    """Judge synthetic slices against real ones, as `auglift judge` does.

    Limits come from `params.yaml` of the current folder where there is one, else they are the
    defaults. Takes a minute for some hundred slices; a GPU is used where there is one.

    Args:
        real: slices of patients that the generator never saw: a folder, an array, or `Slices`.
        synthetic: the slices to be judged.
        train: what the generator learnt from. Without it, copies are sought among half of the real
            patients only.

    Raises:
        InputError: when something cannot be read, or nothing can be judged.
    """
    unseen = to_folder_slices(real, name="real")
    generated = to_folder_slices(synthetic, name="synthetic")
    seen = None if train is None else to_folder_slices(train, name="train")
    with torch_settings_kept():
        return Verdict(judge_slices(unseen, generated, seen))


@contextmanager
def torch_settings_kept() -> Iterator[None]:
    """Give the caller's torch settings back: the gate asks for few threads and determinism."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    benchmark, tf32, tf32_products = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = benchmark, tf32, tf32_products
