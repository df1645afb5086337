"""What the name of an arm says: which slices a model is trained on."""

from dataclasses import dataclass

WORDS = (
    "real", "classical", "synthetic", "duplicated", "copy-paste", "shuffled-masks",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """An arm of the comparison, named by its parts, such as `real+classical+synthetic`.

    Attributes:
        name: the parts joined by `+`.
        real: trains on the fold's real training slices.
        classical: every training slice is augmented classically.
        added: trains on the slices of `data/pool/NAME`.
        synthetic: these were made by the generator on trial; all other added slices are controls.
    """

    name: str
    real: bool
    classical: bool
    added: bool
    synthetic: bool

    @classmethod
    def parse(cls, name: str) -> "Arm":
        """Read an arm's name.

        Raises:
            ValueError: naming the part that is not known, or saying that nothing is left to
                train on.
        """
        words = name.split("+")
        for word in words:
            if word not in WORDS:
                raise ValueError(
                    f"arm {name!r} has the unknown part {word!r}; allowed: {', '.join(WORDS)}"
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
        )
