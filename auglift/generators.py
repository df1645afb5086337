"""`auglift.Generator`: draw slices from a trained or exported generator."""

from pathlib import Path
from typing import Literal

import numpy as np

from auglift.slices import Slices
from models import dcgan
from tasks.commands.export.generator_source import build_checked_generator, read_generator_info
from tasks.commands.export.standalone_generator import (
    TUMOR_SHARES,
    GeneratorInfo,
    generate_slices,
    subject_name,
)
from tasks.stage.errors import InputError


class Generator:
    """A generator that draws slices with their masks; it runs on the processor.

    Attributes:
        info: what is known of it: modalities, `pixel_mm`, the gate's verdict, how many patients it
            learnt from, licence.
    """

    def __init__(self, info: GeneratorInfo, network: dcgan.Generator) -> None:
        self.info = info
        self._network = network

    @classmethod
    def load(cls, folder: str | Path) -> "Generator":
        """Load `data/gan/FOLD` of a clone, or a folder that `auglift export` wrote.

        Raises:
            InputError: when it holds no generator of auglift.
        """
        info, weights = read_generator_info(Path(folder))
        return cls(info, build_checked_generator(info, weights))

    def sample(
        self,
        n: int,
        *,
        label: Literal["tumor", "none", "both"] = "both",
        seed: int = 0,
        tumor_area_mm2: float | None = None,
        position_mm: float | None = None,
        site: str | None = None,
    ) -> Slices:
        """Draw n slices. Those of a smaller n with the same seed are the first of them.

        Args:
            n: how many, at least 1.
            label: with a tumour, without, or by turns.
            seed: which ones.
            tumor_area_mm2: area of the tumour, where the generator was taught it.
            position_mm: up from the middle of the brain, where the generator was taught it.
            site: whose scans they resemble, where the generator was taught it.

        Returns:
            `images` (n,C,H,W) float32 in [-1, 1]; `masks` (n,H,W) uint8 of 0 and 1; `labels`;
            `subjects`, the names that `auglift generate` gives the same slices.

        Raises:
            InputError: when an argument is wrong, or the generator draws no such slice.
        """
        if label not in TUMOR_SHARES:
            raise InputError(f"label is {label!r}, expected one of {', '.join(TUMOR_SHARES)}")
        if n < 1 or seed < 0:
            raise InputError(f"n is {n} and seed {seed}; expected n of 1 or more, seed 0 or more")
        try:
            request = self.info.sampling_request(
                count=n, label=label, seed=seed, tumor_area_mm2=tumor_area_mm2,
                position_mm=position_mm, site=site,
            )  # fmt: skip
            drawn = list(generate_slices(self._network, self.info, request))
        except ValueError as error:
            raise InputError(str(error)) from None
        return Slices(
            images=np.stack([each.image for _, each in drawn]).astype(np.float32),
            masks=np.stack([each.mask for _, each in drawn]).astype(np.uint8),
            labels=np.array([each.label for _, each in drawn]),
            subjects=[subject_name(self.info, request, at, each.label) for at, each in drawn],
            pixel_mm=self.info.pixel_mm,
            modalities=list(self.info.modalities),
        )
