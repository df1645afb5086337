"""The network and the function that the configuration of the MONAI bundle calls."""

from pathlib import Path

import torch
from torch import Tensor, nn

from models.dcgan import LABELS
from tasks.commands.export.standalone_generator import (
    WEIGHTS_FILE,
    GeneratorInfo,
    generate_slices,
    load_packed_generator,
    subject_name,
)
from tasks.release import nifti_writer


class SliceGenerator(nn.Module):
    """The generator with noise and label in one input, as MONAI's checks need it."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.info = GeneratorInfo.load(Path(folder))
        self.generator = load_packed_generator(self.info, Path(folder) / WEIGHTS_FILE)

    def forward(self, code: Tensor) -> Tensor:
        """Map (B,latent+2,1,1), noise and label scores, to slices with masks (B,C+1,size,size)."""
        z, scores = code[:, :-LABELS, 0, 0], code[:, -LABELS:, 0, 0]
        slices: Tensor = self.generator(z.contiguous(), scores.argmax(1))
        return slices


@torch.no_grad()
def write_slices(network: SliceGenerator, out: str, *, count: int, label: str, seed: int) -> None:
    """Write slices and masks as NIfTI: the files of `auglift generate --format nifti`."""
    info, folder = network.info, Path(out)
    request = info.sampling_request(count=count, label=label, seed=seed)
    for index, sample in generate_slices(network.generator, info, request):
        name = subject_name(info, request, index, sample.label)
        (folder / name / "anat").mkdir(parents=True, exist_ok=True)
        nifti_writer.write_nifti(
            folder / name / "anat",
            name,
            sample.image,
            sample.mask,
            modalities=info.modalities,
            pixel_mm=info.pixel_mm,
            mark=info.mark,
        )
