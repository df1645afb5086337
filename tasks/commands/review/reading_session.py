"""Hold what the server needs of a study in memory: pixels under random ids, readers, answers."""

from typing import Any

from tasks.commands.review.answer_store import AnswerStore
from tasks.commands.review.answers import Answer, check_reader_name, decode_outline
from tasks.commands.review.study_slices import SlicePool
from tasks.common.stored_values import MAX_STORED_VALUE
from tasks.stage.errors import InputError

MAX_READERS = 100


class ReadingSession:
    """A study as it is served. All pixels are in memory, so that no slice takes longer to read."""

    def __init__(
        self, store: AnswerStore, pool: SlicePool, *, modalities: list[str], oriented: bool,
        reader: str | None,
    ) -> None:  # fmt: skip
        """Read the readings of the readers who have begun.

        Args:
            store: the study's answers.
            pool: the pixels of the study's slices, in the order of `store.slices`.
            modalities: names of the channels.
            oriented: whether the slices' left and right are known.
            reader: the only reader who may answer; None for any.
        """
        self.store, self.reader = store, reader
        self._payloads = slice_payloads(pool)
        self._modalities, self._oriented = modalities, oriented
        self._size = (int(pool.masks.shape[1]), int(pool.masks.shape[2]))
        self._readings = {
            reading.id: reading for name in store.readers() for reading in store.readings(name)
        }

    def check_reader(self, name: str) -> None:
        """Check that a reader may take part.

        Raises:
            InputError: for a name that is no plain word, or not of this study.
        """
        check_reader_name(name)
        if self.reader is not None and name != self.reader:
            raise InputError(f"this study was opened for the reader {self.reader} only")
        known = self.store.readers()
        if name not in known and len(known) >= MAX_READERS:
            raise InputError(f"{MAX_READERS} readers take part already")

    def open(self, name: str) -> dict[str, Any]:
        """Return a reader's order and answers so far; a new reader gets a random order.

        Raises:
            InputError: when the reader may not take part.
        """
        self.check_reader(name)
        readings = self.store.add_reader(name)
        self._readings |= {reading.id: reading for reading in readings}
        answers = self.store.answers(name)
        return {
            "order": [reading.id for reading in readings],
            "answers": {key: answer.model_dump() for key, answer in answers.items()},
            "channels": self._modalities,
            "size": self._size,
            "most": MAX_STORED_VALUE,
            "oriented": self._oriented,
        }

    def slice_payload(self, reading: str) -> bytes | None:
        """Return the bytes of a reading's slice; None for an id that does not exist."""
        known = self._readings.get(reading)
        return None if known is None else self._payloads[known.place]

    def save(self, reading: str, name: str, answer: Answer) -> bool:
        """Save a reader's answer; return False where the reading is not this reader's.

        Raises:
            ValueError: when the outline is no mask of the slice's size.
        """
        known = self._readings.get(reading)
        if known is None or known.reader != name:
            return False
        if answer.outline is not None:
            decode_outline(answer.outline, self._size)
        self.store.save(reading, answer)
        return True


def slice_payloads(pool: SlicePool) -> list[bytes]:
    """Return each slice as bytes of one length: C*H*W little-endian uint16, then H*W uint8."""
    return [
        values.astype("<u2").tobytes() + mask.tobytes()
        for values, mask in zip(pool.values, pool.masks, strict=True)
    ]
