"""What the name of an arm says: which slices a model is trained on."""

from dataclasses import dataclass

SOURCES = ("synthetic", "duplicated", "copy-paste", "shuffled-masks")
RANDOM_LABELS = "random-labels"
WORDS = ("real", "classical", *SOURCES)


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
        random_labels: the arm `random-labels`, which looks for leaks: real slices whose labels
            are drawn anew for each patient, on all sides of the split; it must score at chance.
    """

    name: str
    real: bool
    classical: bool
    added: bool
    synthetic: bool
    source: str = ""
    random_labels: bool = False

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """Read an arm's name.

        Raises:
            ValueError: naming the part that is not known, or saying that nothing is left to
                train on.
        """
        if name == RANDOM_LABELS:
            return cls(name, True, False, False, False, random_labels=True)
        words = name.split("+")
        for word in words:
            if word not in WORDS:
                raise ValueError(
                    f"arm {name!r} has the unknown part {word!r}; allowed: {', '.join(WORDS)};"
                    f" or the arm {RANDOM_LABELS!r}"
                )
        sources = [word for word in words if word not in ("real", "classical")]
        if len(words) != len(set(words)) or len(sources) > 1 or set(words) == {"classical"}:
            raise ValueError(
                f"arm {name!r} must name its parts once, with 'real' or one added source"
            )
        return cls(
            name,
            real="real" in words,
            classical="classical" in words,
            added=bool(sources),
            synthetic="synthetic" in words,
            source=sources[0] if sources else "",
        )
