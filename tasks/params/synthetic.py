from typing import ClassVar

from tasks.params import Section


class Synthetic(Section):
    """Where synthetic slices come from: `data/gan`, or a folder of images and masks."""

    section: ClassVar[str] = "synthetic"
    source: str = "data/gan"
