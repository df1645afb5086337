"""Sample slices from `generator.json` and `generator.safetensors` alone.

Packages for other tools carry copies of this file and of what it imports, so it needs numpy, scipy,
safetensors and torch and nothing of auglift. It runs on the processor, so slice i of a seed is the
same slice on every machine of one type.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count as count_from
from pathlib import Path
from typing import Any

import torch

from models.dcgan import SITE, Generator
from tasks.generate.sample_generator import (
    BATCH,
    GeneratedSlice,
    SamplingRequest,
    build_generator,
    known_sites,
    sample_batch,
)

INFO_FILE, WEIGHTS_FILE = "generator.json", "generator.safetensors"
TUMOR_SHARES = {"tumor": 1.0, "none": 0.0, "both": 0.5}
LABEL_LETTERS = {1: "t", 0: "n"}
MAX_EMPTY_BATCHES = 16  # batches without one slice that agrees with its label
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class GeneratorInfo:
    """The description of a generator besides its weights; `generator.json` holds it.

    Attributes:
        architecture: the fields of `Architecture`.
        modalities: what the image channels imitate, such as FLAIR.
        pixel_mm: side of a pixel.
        threads: sums over another number of threads round differently.
        min_island_px, min_tumor_px, attempts: when a drawn mask is good enough.
        version, date, license_words: of the data sets that it draws, as in `release`.
        verdict: what the gate said of its slices: accepted, rejected, or not judged.
        skull_stripped: whether the slices that it learnt from show no skull; None: not known.
        training_patients: how many patients it learnt from; None: not known. In a package, only
            that it was at least so many.
        membership: how well attacks tell its training patients from others, in words.
        weights_sha256: of `generator.safetensors`; the verdict is on these weights.
    """

    architecture: dict[str, Any]
    modalities: list[str]
    pixel_mm: float
    threads: int
    min_island_px: int
    min_tumor_px: int
    attempts: int
    version: str
    date: str
    license_words: str
    verdict: str
    weights_sha256: str
    skull_stripped: bool | None = None
    training_patients: int | None = None
    membership: str = "not measured"

    @property
    def mark(self) -> str:
        """The text that marks every header as synthetic."""
        return f"SYNTHETIC by auglift {self.version}, not of any person"

    def sampling_request(
        self,
        *,
        count: int,
        label: str,
        seed: int,
        tumor_area_mm2: float | None = None,
        position_mm: float | None = None,
        site: str | None = None,
    ) -> SamplingRequest:
        """Return a request for slices of this generator.

        Raises:
            ValueError: when it was not taught what is asked for.
        """
        requested = {"area": tumor_area_mm2, "position": position_mm}
        for name, value in requested.items():
            if value is not None and name not in self.architecture.get("conditions", ()):
                raise ValueError(
                    f"this generator was not taught the {name} of what it draws; train one with"
                    f" train_gan.conditions: [{name}], or leave it out"
                )
        conditions = self.architecture.get("conditions", ())
        if site is not None and SITE + site not in conditions:
            sites = known_sites(conditions)
            raise ValueError(
                f"this generator knows the sites {', '.join(sites)}, not {site}; ask for one of"
                " them, or leave it out"
                if sites
                else "this generator was not taught the site of what it draws; train one with"
                " train_gan.conditions: [site], or leave it out"
            )
        return SamplingRequest(
            count=count,
            seed=seed,
            tumor_share=TUMOR_SHARES[label],
            min_island_px=self.min_island_px,
            min_tumor_px=self.min_tumor_px,
            attempts=self.attempts,
            tumor_area_mm2=tumor_area_mm2,
            position_mm=position_mm,
            site=site,
        )

    def save(self, folder: Path) -> None:
        """Write `generator.json`."""
        text = json.dumps({"kind": "auglift-generator", **asdict(self)}, indent=2)
        (folder / INFO_FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> "GeneratorInfo":
        """Read `generator.json`."""
        tree = json.loads((folder / INFO_FILE).read_text())
        del tree["kind"]
        return cls(**tree)


def load_packed_generator(info: GeneratorInfo, weights: Path) -> Generator:
    """Build the generator with its weights on the processor, in evaluation mode."""
    return build_generator(info.architecture, weights, CPU)


def generate_slices(
    generator: Generator, info: GeneratorInfo, request: SamplingRequest
) -> Iterator[tuple[int, GeneratedSlice]]:
    """Yield `request.count` slices that match their label, each with its index.

    The first slices of a longer list are those of a shorter one: a slice follows from the seed
    and its index alone, and an index whose slice never agrees is left out of every list.

    Args:
        generator: from `load_packed_generator`.
        info: of that generator.
        request: from `info.sampling_request`.

    Raises:
        ValueError: when the generator draws none that agrees.
    """
    yielded, empty_batches = 0, 0
    if not request.count:
        return
    for start in count_from(0, BATCH):
        with fixed_threads(info.threads):
            batch = sample_batch(generator, request, start, CPU)
        empty_batches = 0 if batch else empty_batches + 1
        if empty_batches == MAX_EMPTY_BATCHES:
            raise ValueError(
                f"none of {MAX_EMPTY_BATCHES * BATCH} slices agreed with its label in"
                f" {request.attempts} draws each; train the generator longer"
            )
        for index in sorted(batch):
            yield index, batch[index]
            yielded += 1
            if yielded == request.count:
                return


def subject_name(info: GeneratorInfo, request: SamplingRequest, index: int, label: int) -> str:
    """Return the name of the synthetic subject of a slice.

    The same slice always has the same name, and slices of other weights or other requested
    conditions have different names.
    """
    fields = asdict(request)
    for name in ("count", "tumor_share", "seed"):  # they decide which slices, not how they look
        del fields[name]
    if (
        fields["site"] is None
    ):  # such slices keep the names they had before sites could be asked for
        del fields["site"]
    appearance = json.dumps([info.weights_sha256, info.threads, fields], sort_keys=True)
    key = hashlib.sha256(appearance.encode()).hexdigest()[:8]
    return f"sub-syn{key}s{request.seed}{LABEL_LETTERS[label]}{index:06d}"


@contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """Set torch's thread count within a context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
