from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, PlainValidator

from tasks.params import Section
from tasks.stage.item_names import check_item_name


def check_batches_differ(names: list[str]) -> list[str]:
    """Reject a list that names a batch twice, also where two names differ only by capitals."""
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError("batches must differ from each other, and not by capitals alone")
    return names


def check_batch_name(name: object) -> str:
    """Check a batch's name; a year alone, such as 2024, is a number in YAML."""
    if not isinstance(name, str):
        raise ValueError(f'a name is expected; write it in quotes: "{name}"')
    return check_item_name(name)


Batch = Annotated[str, PlainValidator(check_batch_name)]


class Data(Section):
    """Which folders under `data/raw/` are read: their names become part of commands and paths."""

    section: ClassVar[str] = "data"
    batches: Annotated[list[Batch], AfterValidator(check_batches_differ)] = Field(min_length=1)
