"""What the name of an arm says: which slices a model is trained on."""

from dataclasses import dataclass

from tasks import params
from tasks.stage.errors import InputError

SOURCES = ("synthetic", "duplicated", "copy-paste", "shuffled-masks")
RANDOM_LABELS, SLICE_SPLIT = "random-labels", "slice-split"
WORDS = ("real", "classical", *SOURCES, RANDOM_LABELS, SLICE_SPLIT)


@dataclass(frozen=True)
class Arm:
    """An arm of the comparison, named by its parts, such as `real+classical+synthetic`.

    Attributes:
        name: the parts joined by `+`.
        real: trains on the fold's real training slices.
        classical: every training slice is augmented classically.
        added: trains on the slices of `data/pool/NAME`.
        synthetic: these were made by the generator on trial; all other added slices are controls.
        source: the word for the added slices, or "".
        random_labels: looks for leaks: real slices whose labels are drawn anew for each patient,
            on all sides of the split; `random-labels` must score at chance.
        slice_split: splits the fold's slices anew, at random and not by patient, as much of the
            literature does: what that flatters the figures by, and the proof that
            `random-labels+slice-split` would show a leak.
    """

    name: str
    real: bool
    classical: bool
    added: bool
    synthetic: bool
    source: str = ""
    random_labels: bool = False
    slice_split: bool = False

    @property
    def is_diagnostic(self) -> bool:
        """Whether it stands for itself: its test slices or labels are not those of the others."""
        return self.random_labels or self.slice_split

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """Read an arm's name.

        Raises:
            ValueError: naming the part that is not known or out of place, or saying that nothing
                is left to train on.
        """
        words = name.split("+")
        for word in words:
            if word not in WORDS:
                raise ValueError(
                    f"arm {name!r} has the unknown part {word!r}; allowed: {', '.join(WORDS)}"
                )
        sources = [word for word in words if word in SOURCES]
        random_labels = RANDOM_LABELS in words
        real = "real" in words or random_labels
        if len(words) != len(set(words)) or len(sources) > 1 or not (real or sources):
            raise ValueError(
                f"arm {name!r} must name its parts once, with 'real' or one added source"
            )
        if words != (usual := sorted(words, key=WORDS.index)):
            raise ValueError(f"arm {name!r} is written {'+'.join(usual)!r}")
        if random_labels and set(words) - {RANDOM_LABELS, SLICE_SPLIT}:
            raise ValueError(f"arm {name!r}: {RANDOM_LABELS!r} goes with {SLICE_SPLIT!r} alone")
        return cls(
            name,
            real=real,
            classical="classical" in words,
            added=bool(sources),
            synthetic="synthetic" in words,
            source=sources[0] if sources else "",
            random_labels=random_labels,
            slice_split=SLICE_SPLIT in words,
        )


def read() -> list[Arm]:
    """`downstream.arms` of `params.yaml`.

    Raises:
        StageError: when an arm is not known or named twice.
    """
    names: list[str] = params.read_key("downstream.arms")
    try:
        if not isinstance(names, list) or len(set(names)) < len(names):
            raise ValueError("a list in which each arm stands once is expected")
        return [Arm.parse(str(name)) for name in names]
    except (ValueError, TypeError) as error:
        raise InputError(f"params.yaml: downstream.arms is {names!r}: {error}") from None
