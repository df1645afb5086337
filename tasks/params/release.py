"""The section `release` of `params.yaml`."""

import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.common.reader_criterion import ReaderCriterion
from tasks.params import Section, read_section
from tasks.stage.errors import InputError


class Release(Section):
    """What the released data set states about itself."""

    section: ClassVar[str] = "release"
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="of the data set")
    contents: Literal["synthetic", "augmented"] = Field(
        "synthetic",
        description="augmented: the real training slices as well, for use inside your institution",
    )
    fold: int | str | None = Field(
        None,
        description="the fold whose training patients an augmented release holds; null: the first",
    )
    require_approval: bool = Field(
        False, description="release only what data/approval.json approves by its digest"
    )
    readers: ReaderCriterion | None = Field(
        None, description="what the reader study (`auglift review`) must have shown; null: nothing"
    )
    license: str = Field("not stated by the owner of the source data", min_length=1)
    date: datetime.date = Field(
        datetime.date(2000, 1, 1),
        description="stands in every date of the DICOM files; a clock would change every hash",
    )
    burn_in_mark: bool = Field(
        False, description="write SYNTHETIC into a corner of every synthetic image's pixels"
    )
    legal_basis: str = Field(
        "not stated",
        min_length=1,
        description="of processing the patients' data, for the data card: such as GDPR 9(2)(j)",
    )
    impact_assessment: str = Field(
        "not stated",
        min_length=1,
        description="where the data-protection impact assessment lies, for the data card",
    )
    smallest_cell: int = Field(
        5, ge=1, description="counts of fewer patients are not shown in data card and report"
    )
    min_patients_of_generator: int = Field(
        10,
        ge=0,
        description="`auglift export` packs no generator that learnt from fewer patients",
    )

    def choose_fold(self, folds: list[Any]) -> str:
        """Choose the fold of an augmented release among `slices.folds`.

        Raises:
            InputError: there is no such fold.
        """
        names = [str(fold) for fold in folds]
        if self.fold is None:
            return names[0]
        if str(self.fold) not in names:
            raise InputError(
                f"params.yaml: release.fold is {self.fold!r}: there are only the folds"
                f" {', '.join(names)} (slices.folds)"
            )
        return str(self.fold)


def read_smallest_cell() -> int:
    """Read `release.smallest_cell`, or its default."""
    return read_section(Release).smallest_cell
