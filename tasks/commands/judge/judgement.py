"""Judge slices that are in memory, and write the verdict with its page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tasks import params
from tasks.commands.judge import image_folders, verdict_page
from tasks.commands.judge.image_folders import FolderSlices
from tasks.common import torch_setup
from tasks.common.slice_set import SliceSet
from tasks.gate.evaluate import evaluate
from tasks.gate.reference import check_size, prepare_reference
from tasks.gate.verdict import GateResult
from tasks.generate.slice_table import FILE_COLUMN
from tasks.params.gate import Gate
from tasks.stage.params_file import PARAMS


@dataclass(frozen=True)
class Judgement:
    """A verdict on slices, with what was assumed about them.

    `synthetic` are the judged slices, `seen` those among which copies were sought.
    """

    result: GateResult
    synthetic: SliceSet
    seen: SliceSet
    notes: list[str]
    assumed: dict[str, dict[str, str]]

    def as_json(self) -> dict[str, Any]:
        """Return the content of `verdict.json`."""
        return self.result.as_json() | {"notes": self.notes, "assumed": self.assumed}

    def render_page(self) -> str:
        """Render `report.html`."""
        return verdict_page.render_page(
            self.result, self.synthetic, self.seen, self.notes, self.assumed
        )

    def write(self, out: Path) -> None:
        """Write `verdict.json`, `samples.parquet` and `report.html` into a folder."""
        out.mkdir(parents=True, exist_ok=True)
        (out / "verdict.json").write_text(json.dumps(self.as_json(), indent=1) + "\n")
        samples = self.result.samples
        if FILE_COLUMN in self.synthetic.table:
            samples = samples.assign(**{FILE_COLUMN: self.synthetic.table[FILE_COLUMN].to_numpy()})
        samples.to_parquet(out / "samples.parquet", index=False)
        (out / "report.html").write_text(self.render_page())

    def lines(self) -> list[str]:
        """Return the verdict, its reasons, the notes and the assumptions, a line each."""
        images = self.result.images
        missing = [
            f"{name}: not measured: {why}"
            for name, why in self.result.not_measured_without_rejection().items()
        ]
        return [
            f"{self.result.verdict}: {images['accepted']} of {images['n']} images pass",
            *(f"- {line}" for line in [*self.result.reasons, *self.notes, *missing]),
            f"assumed: {image_folders.format_assumptions(self.assumed)}",
        ]


def judge_slices(
    real: FolderSlices, synthetic: FolderSlices, train: FolderSlices | None
) -> Judgement:
    """Compare synthetic slices with real ones; limits are those of `params.yaml`, if there is one.

    Args:
        real: slices of patients that the generator never saw.
        synthetic: the slices to be judged.
        train: what the generator learnt from; None: half of the real patients stand for it.

    Raises:
        InputError: when nothing can be judged, or a patient is in both real sets.
    """
    config = params.read_section(Gate) if PARAMS.exists() else Gate(seed=0, threads=1)
    device = str(torch_setup.setup_torch(config.threads))
    generated, unseen = synthetic.slices, real.slices
    check_size("synthetic", generated, unseen)
    notes = []
    if train is None:
        seen, unseen = image_folders.split_patients(unseen, seed=config.seed)
        notes.append(
            "No training slices were given (--train): copies were sought among one half of the"
            " real patients only, so copies of others go unseen."
        )
    else:
        seen = train.slices
        check_size("training", seen, unseen)
        notes += filter(None, [image_folders.check_separate(train, real)])
        both, note = image_folders.drop_lonely_sites({"--train": seen, "--real": unseen})
        seen, unseen = both["--train"], both["--real"]
        notes += filter(None, [note])
    if not real.named:
        notes.append(
            "No patients are named (slices.csv, column subject): every slice counts as a patient,"
            " which makes the intervals too narrow."
        )
    for name, slices in (("synthetic", generated), ("real", unseen)):
        if not slices.table["masked"].any():
            notes.append(
                f"The {name} slices have no masks: nothing is said about tumours' outlines."
            )
    with tqdm(total=2, desc="measure real slices", leave=False, disable=None) as bar:
        reference = prepare_reference(seen, unseen, config, device=device)
        bar.update()
        bar.set_description("measure synthetic slices")
        result = evaluate(generated, reference, config, device=device)
    if train is None:  # nobody knows who trained
        result.membership.clear()
    given = {"synthetic": synthetic, "real": real} | ({} if train is None else {"train": train})
    assumed = {name: folder.assumed for name, folder in given.items()}
    return Judgement(result, generated, seen, notes, assumed)
