from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from tasks.params import Section
from tasks.stage.item_names import check_item_name


def check_fold_name(name: object) -> int | str:
    """Check a fold's name; `"01"` is not 1, because DVC names folders by what is written."""
    if isinstance(name, str):
        return check_item_name(name)
    if isinstance(name, bool) or not isinstance(name, int) or name < 0:
        raise ValueError("a number from 0, or a word, is expected")
    return name


def read_off_as_text(value: object) -> object:
    """Return "off" for false, which is how YAML reads a bare `off`."""
    return "off" if value is False else value


Fold = Annotated[int | str, PlainValidator(check_fold_name)]


class Slices(Section):
    """How volumes become slices of one grid, and which partition each patient is in."""

    section: ClassVar[str] = "slices"
    size: int = Field(ge=16, le=512, multiple_of=16)  # pixels a side
    spacing_mm: float = Field(gt=0, le=20)  # of a pixel of that grid
    modalities: list[Literal["T1", "T1c", "T2", "FLAIR", "other"]] = Field(min_length=1)
    folds: list[Fold] = Field(min_length=1)  # one name: a hold-out split; several: cross-fitting
    val_fraction: float = Field(gt=0, lt=1)  # of all patients
    test_fraction: float = Field(gt=0, lt=1)  # of all patients; several folds ignore it
    # Batches, such as another hospital's, whose patients test; test_fraction is ignored then.
    test_batches: list[str] = Field(default_factory=list)
    # Patients that a fold trains and validates on; 0: all that are not test patients.
    train_patients: int = Field(default=0, ge=0)
    draw: int = Field(default=0, ge=0)  # the seed of that choice of patients
    # Further patients whose scans train without labels and outlines, as if nobody had drawn them.
    unlabelled_patients: int = Field(default=0, ge=0)
    # body: each body fills the window, for images of unknown scale; mm are nominal then.
    scale: Literal["mm", "body"] = "mm"
    intensity: Literal["z-score", "nyul"] = "z-score"
    clip_percentiles: tuple[float, float] = (0.5, 99.5)  # of the voxels inside the brain
    z_range: tuple[float, float] = (-2.5, 3.5)  # z-scores that become -1 and 1; not for nyul
    min_tumor_mm2: float = Field(default=0.0, ge=0)  # slices with less, but some, are left out
    # matched as test slices are; in-range: all tumour slices, and others from their range; auto:
    # the strictest of these, in-range with ever wider calipers included, that suffices the gate.
    training_slices: Literal["matched", "in-range", "auto"] = "matched"
    negatives_per_positive: float = Field(default=1.0, gt=0, le=10)
    caliper: float = Field(default=0.5, gt=0)  # largest matching distance, standard deviations
    unmatched_tumors: Literal["drop", "keep"] = "drop"  # keep: position may tell the label
    # What happens when the volumes of two patients show the same head.
    same_head: Annotated[Literal["stop", "warn", "off"], BeforeValidator(read_off_as_text)] = "stop"
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> "Slices":
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError("modalities must differ from each other")
        if len({str(fold) for fold in self.folds}) < len(self.folds):
            raise ValueError("folds must differ from each other")
        if len(self.folds) > 1 and 1 / len(self.folds) + self.val_fraction >= 1:
            raise ValueError(
                f"each of {len(self.folds)} folds tests 1/{len(self.folds)} of the patients;"
                " val_fraction must be smaller than the rest, to leave patients to train on"
            )
        if len(self.folds) == 1 and self.test_fraction + self.val_fraction >= 1:
            raise ValueError("val_fraction + test_fraction must leave patients to train on")
        if self.test_batches and len(self.folds) > 1:
            raise ValueError(
                "test_batches fixes who tests: keep one fold, or set test_batches to []"
            )
        if self.unlabelled_patients and not self.train_patients:
            raise ValueError(
                "unlabelled_patients are chosen of those that train_patients leaves over; it is 0,"
                " which leaves none"
            )
        if self.unlabelled_patients and len(self.folds) > 1:
            raise ValueError(
                "unlabelled_patients hides labels, and all folds share one column of labels: keep"
                " one fold, or set unlabelled_patients to 0"
            )
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("clip_percentiles must rise within 0..100")
        if not self.z_range[0] < self.z_range[1]:
            raise ValueError("z_range must rise")
        if self.intensity == "nyul" and len(self.folds) > 1:
            raise ValueError(
                "nyul fits its landmarks on one fold's training patients, and all folds share one"
                " array: keep one fold, or use z-score"
            )
        if self.intensity == "nyul" and not (low < 10 and high > 90):
            raise ValueError("clip_percentiles must lie beyond nyul's deciles, below 10, above 90")
        return self
