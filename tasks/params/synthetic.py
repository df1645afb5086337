from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from tasks.params import Section


class Synthetic(Section):
    """Where synthetic slices come from: `data/gan`, or a folder of images and masks."""

    section: ClassVar[str] = "synthetic"
    source: str = "data/gan"

    @field_validator("source")
    @classmethod
    def _is_a_folder_of_its_own(cls, source: str) -> str:
        if not source.strip() or "://" in source:
            raise ValueError("a folder on this machine is expected, by default data/gan")
        if Path("data").resolve().is_relative_to(Path(source).resolve()):
            raise ValueError(
                "the folder of a generator's slices is expected, and this one holds all results;"
                " by default it is data/gan"
            )
        return source
