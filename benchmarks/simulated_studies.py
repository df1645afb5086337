"""The studies that `benchmarks.lift_simulation` simulates, one a row of its tables."""

from dataclasses import dataclass, field

TWO = ("real", "real+synthetic")
THREE = ("real", "real+classical", "real+synthetic")
FIVE = (*THREE, "real+classical+synthetic", "synthetic")


@dataclass(frozen=True)
class Study:
    """What a row simulates.

    Attributes:
        name: in the table.
        patients: number of test patients.
        seeds: number of requested seeds.
        arms: their names.
        spread: standard deviation between networks of an arm; "" for arms not named.
        dead: arms whose networks all learn nothing.
        fails: probability that a network learns nothing.
        reruns: spare seeds.
        tumors: test patients with a tumour; the task is then `classify`.
        lift: of the arms with real and synthetic slices.
    """

    name: str
    patients: int = 9
    seeds: int = 3
    arms: tuple[str, ...] = FIVE
    spread: dict[str, float] = field(default_factory=lambda: {"": 0.02})
    dead: tuple[str, ...] = ()
    fails: float = 0.0
    reruns: int = 0
    tumors: int | None = None
    lift: float = 0.0

    @property
    def task(self) -> str:
        """Dice of volumes, or AUROC where `tumors` is given."""
        return "segment" if self.tumors is None else "classify"


UNEQUAL = {"": 0.008, "real+synthetic": 0.05}
DEAD = ("real+classical+synthetic", "synthetic")
STUDIES = [
    Study("one seed", seeds=1, arms=TWO),
    Study("one seed, three arms", seeds=1, arms=THREE),
    Study("two seeds, of which a network fails", seeds=2, arms=TWO, fails=0.3),
    Study("two seeds", seeds=2, arms=TWO),
    Study("three seeds", arms=TWO),
    Study("three seeds, three arms", arms=THREE),
    Study("two seeds, five arms", seeds=2),
    Study("three seeds, five arms, 6 patients", patients=6),
    Study("three seeds, five arms"),
    Study("three seeds, five arms, 20 patients", patients=20),
    Study("five seeds, five arms, 20 patients", patients=20, seeds=5),
    Study("networks fail now and then, a spare seed", fails=0.05, reruns=1),
    Study("two of five arms dead", dead=DEAD),
    Study("two of five arms dead, 20 patients", patients=20, dead=DEAD),
    Study("three of six arms dead, one of them a control", patients=20,
          arms=(*FIVE, "real+copy-paste"), dead=(*DEAD, "real+copy-paste")),
    Study("real learnt nothing", arms=TWO, dead=("real",)),
    Study("the candidate never converged", arms=TWO, dead=("real+synthetic",)),
    Study("a candidate spreads sixfold, two seeds", patients=20, seeds=2, spread=UNEQUAL),
    Study("a candidate spreads sixfold, 9 patients", spread=UNEQUAL),
    Study("a candidate spreads sixfold, 20 patients", patients=20, spread=UNEQUAL),
    Study("real spreads sixfold, 20 patients", patients=20, spread={"": 0.008, "real": 0.05}),
    Study("AUROC, 1 of 12 patients with tumour", patients=12, arms=TWO, tumors=1),
    Study("AUROC, 2 of 12 patients with tumour", patients=12, arms=TWO, tumors=2),
    Study("AUROC, 3 of 12 patients with tumour", patients=12, arms=TWO, tumors=3),
    Study("AUROC, 6 of 12 patients with tumour", patients=12, arms=TWO, tumors=6),
    Study("AUROC, 9 patients, all with tumour", patients=9, arms=TWO, tumors=9),
    Study("AUROC, 20 patients, all with tumour", patients=20, arms=FIVE, tumors=20),
]  # fmt: skip
THROUGH_FILES = ("three seeds, five arms", "AUROC, 6 of 12 patients with tumour")
POWER = [
    Study(f"{seeds} seeds, {len(arms)} arms, lift {lift:.2f}", patients=20, seeds=seeds, arms=arms,
          lift=lift)
    for lift in (0.05, 0.1)
    for arms in (TWO, FIVE)
    for seeds in (2, 3, 5)
]  # fmt: skip
