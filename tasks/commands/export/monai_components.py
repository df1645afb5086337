"""What the configuration of the MONAI bundle calls."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.dcgan import LABELS
from tasks.commands.export.standalone_generator import (
    WEIGHTS_FILE,
    GeneratorInfo,
    build_generator,
    generate_slices,
    subject_name,
)
from tasks.release import nifti_writer


class SliceGenerator(nn.Module):
    """The generator with all that it draws from in one input, as MONAI's checks want it."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.facts = GeneratorInfo.load(Path(folder))
        self.generator = build_generator(self.facts, Path(folder) / WEIGHTS_FILE)

    def forward(self, code: Tensor) -> Tensor:
        """(B,latent+2,1,1), noise and label scores, to slices with masks (B,C+1,size,size)."""
        z, scores = code[:, :-LABELS, 0, 0], code[:, -LABELS:, 0, 0]
        drawn: Tensor = self.generator(z.contiguous(), scores.argmax(1))
        return drawn


@torch.no_grad()
def write_slices(network: SliceGenerator, out: str, *, count: int, label: str, seed: int) -> None:
    """Write slices and masks as NIfTI: the files of `auglift generate --format nifti`."""
    facts, folder = network.facts, Path(out)
    wish = facts.sampling_request(count=count, label=label, seed=seed)
    for index, drawn in generate_slices(network.generator, facts, wish):
        name = subject_name(facts, wish, index, drawn.label)
        (folder / name / "anat").mkdir(parents=True, exist_ok=True)
        nifti_writer.write(
            folder / name / "anat",
            name,
            drawn.image,
            drawn.mask,
            modalities=facts.modalities,
            pixel_mm=facts.pixel_mm,
            mark=facts.mark,
        )
