from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.params import Section

LabelRule = Literal["whole", "core", "enhancing"]


class Ingest(Section):
    """How raw files become volumes.

    `mask_labels` says which labels of a mask are tumour: a region of the BraTS label sets
    (1 necrotic core, 2 oedema, 3 or 4 enhancing), or a list of values.
    `max_seconds` is what one patient may take.
    `key_fingerprint` is that of the pseudonym key; the default is the public demo key's.
    """

    section: ClassVar[str] = "ingest"
    mask_labels: LabelRule | Annotated[list[int], Field(min_length=1)] = "whole"
    min_slices: int = Field(default=3, ge=2)
    max_voxels: int = Field(default=2**27, ge=1)
    max_seconds: float = Field(default=300, gt=0)
    allow_burned_in: bool = False
    key_fingerprint: str = Field(default="d462ac8e", pattern="^[0-9a-f]{8}$")

    @property
    def worker_memory(self) -> int:
        """Bytes that a worker may take: a few copies of the largest volume, and libraries."""
        return 32 * self.max_voxels + 2**31
