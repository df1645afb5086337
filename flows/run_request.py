"""What a run is asked to do."""

from dataclasses import dataclass, field

from flows.overrides import Overrides


@dataclass(frozen=True)
class RunRequest:
    """Which stages run, and how.

    Attributes:
        workers: How many stages run at once; 0 for as many as there are processors.
        stages: Names such as `gate` or `gate@0`; empty for all.
        force: Whether the named stages run even where nothing changed.
        overrides: What the run sets instead of the values in `params.yaml`.
        elsewhere: The deployment whose workers run the stages; empty for this machine alone.
    """

    workers: int = 0
    stages: tuple[str, ...] = ()
    force: bool = False
    overrides: Overrides = field(default_factory=dict)
    elsewhere: str = ""
