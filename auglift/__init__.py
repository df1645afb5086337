"""Judge, load and draw slices from Python: the stable interface for notebooks and trainers.

    import auglift

    verdict = auglift.judge("held_out", "generated", train="training")
    dataset = auglift.load_release("data/release")
    slices = auglift.Generator.load("bundle").sample(100, label="tumor", seed=7)

What this page exports keeps its names and meaning; everything else may change. Nothing here needs a
clone of the repository. Wrong input raises `auglift.InputError`, in one line.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auglift.datasets import load_augmented, load_release
    from auglift.generators import Generator
    from auglift.judging import Verdict, judge
    from auglift.slices import Slices
    from tasks.stage.errors import InputError

__all__ = [
    "Generator",
    "InputError",
    "Slices",
    "Verdict",
    "judge",
    "load_augmented",
    "load_release",
]

MODULES = {
    "Generator": "auglift.generators",
    "InputError": "tasks.stage.errors",
    "Slices": "auglift.slices",
    "Verdict": "auglift.judging",
    "judge": "auglift.judging",
    "load_augmented": "auglift.datasets",
    "load_release": "auglift.datasets",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first used: torch takes seconds to import."""
    if name not in MODULES:
        raise AttributeError(f"module 'auglift' has no attribute {name!r}")
    value = getattr(import_module(MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what this module exports."""
    return list(__all__)
