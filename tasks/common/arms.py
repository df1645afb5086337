"""Parse the name of an arm, which says which slices a model is trained on."""

from dataclasses import dataclass

PSEUDO_LABEL, PASTE, IMPLANT = "pseudo-label", "paste-unlabelled", "implant"
UNLABELLED_SOURCES = (PSEUDO_LABEL, PASTE, IMPLANT)  # use scans without outlines
GENERATED_SOURCES = (IMPLANT, "synthetic")
ADDED_SOURCES = (
    *UNLABELLED_SOURCES, "synthetic", "duplicated", "copy-paste", "shuffled-masks",
)  # fmt: skip
RANDOM_LABELS, SLICE_SPLIT = "random-labels", "slice-split"
AUGMENTATIONS = ("classical", "paper-augmented")
PARTS = ("real", *AUGMENTATIONS, *ADDED_SOURCES, RANDOM_LABELS, SLICE_SPLIT)


@dataclass(frozen=True)
class Arm:
    """An arm of the comparison, named by its parts, such as `real+classical+synthetic`.

    Attributes:
        name: the parts joined by `+`.
        real: trains on the fold's real training slices.
        augmentation: how every training slice is augmented: `classical`, as a good baseline is;
            `paper-augmented`, with the flips, rotations and jitter of the paper; or "".
        added: trains on the slices of `data/pool/NAME`.
        synthetic: the added slices come from a generator under test, `synthetic` ones whole and
            `implant` ones in part; all other added slices are controls.
        sources: the parts that name the added slices, as many of each; `pseudo-label` may stand
            beside one other.
        random_labels: tests for leaks with real slices whose labels are sampled once a patient,
            in all partitions; `random-labels` must score at chance.
        slice_split: splits the fold's slices again, at random and not by patient, as much of the
            literature does. It measures how much that inflates the figures, and
            `random-labels+slice-split` proves that a leak would show.
    """

    name: str
    real: bool
    augmentation: str
    added: bool
    synthetic: bool
    sources: tuple[str, ...] = ()
    random_labels: bool = False
    slice_split: bool = False

    @property
    def is_diagnostic(self) -> bool:
        """Whether the arm stands alone: its test slices or labels differ from the others'."""
        return self.random_labels or self.slice_split

    @property
    def needs_teacher(self) -> bool:
        """Whether its slices come from scans without outlines, which a teacher looks at."""
        return not set(self.sources).isdisjoint(UNLABELLED_SOURCES)

    def twins(self) -> list[tuple[str, str]]:
        """Return the arms without a generator that its gain is measured against, and why."""
        parts, twins = self.name.split("+"), []
        if self.synthetic and len(self.sources) > 1:
            without = [part for part in parts if part not in GENERATED_SOURCES]
            twins.append(("+".join(without), "the other slices it adds"))
        if IMPLANT in parts:
            pasted = [PASTE if part == IMPLANT else part for part in parts]
            twins.append(("+".join(pasted), "the heads it paints into"))
        return twins

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """Parse an arm's name.

        Raises:
            ValueError: naming the part that is unknown or out of place, or saying that no slices
                are left to train on.
        """
        parts = name.split("+")
        for part in parts:
            if part not in PARTS:
                raise ValueError(
                    f"arm {name!r} has the unknown part {part!r}; allowed: {', '.join(PARTS)}"
                )
        augmentations = [part for part in parts if part in AUGMENTATIONS]
        sources = [part for part in parts if part in ADDED_SOURCES]
        random_labels = RANDOM_LABELS in parts
        real = "real" in parts or random_labels
        if len(parts) != len(set(parts)) or not (real or sources):
            raise ValueError(
                f"arm {name!r} must name its parts once, with 'real' or an added source"
            )
        if len(sources) > 1 + (PSEUDO_LABEL in sources):
            raise ValueError(
                f"arm {name!r} adds slices of {' and '.join(sources)}; keep one, beside"
                f" {PSEUDO_LABEL!r} if it shall stay"
            )
        if len(augmentations) > 1:
            raise ValueError(f"arm {name!r} names two augmentations; keep one of them")
        if parts != (ordered := sorted(parts, key=PARTS.index)):
            raise ValueError(f"arm {name!r} is written {'+'.join(ordered)!r}")
        if random_labels and set(parts) - {RANDOM_LABELS, SLICE_SPLIT}:
            raise ValueError(f"arm {name!r}: {RANDOM_LABELS!r} goes with {SLICE_SPLIT!r} alone")
        return cls(
            name,
            real=real,
            augmentation=augmentations[0] if augmentations else "",
            added=bool(sources),
            synthetic=not set(sources).isdisjoint(GENERATED_SOURCES),
            sources=tuple(sources),
            random_labels=random_labels,
            slice_split=SLICE_SPLIT in parts,
        )
