"""Look for words in files the way an attacker would: every container opened, every encoding."""

import base64
import binascii
import gzip
import html
import io
import json
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pyarrow.parquet as pq
import pydicom
from PIL import Image
from pydicom.dataset import Dataset

DATA_URI = re.compile(rb"data:[a-z0-9/+.;=-]*?;base64,([a-z0-9+/=\s]+)", re.IGNORECASE)
MAGIC = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"PAR1": "parquet", b"\x93NUMPY": "npy",
    b"\x89PNG": "picture", b"\xff\xd8\xff": "picture", b"II*\0": "picture", b"MM\0*": "picture",
}  # fmt: skip


def leaks(
    files: Iterable[tuple[str, bytes]], words: Iterable[str], *, damaged: bool = False
) -> list[tuple[str, str]]:
    """Which words stand in which of the (name, bytes), names included; capitals do not matter.

    A word of digits only counts where no digit adjoins it: long numbers hold any short one.
    Containers that cannot be opened raise what they raise, unless `damaged` ones are expected.
    """
    patterns = {word: spellings(word) for word in words}
    return [
        (word, where)
        for name, data in files
        for where, content in [(name, name.encode()), *opened(name, data, damaged)]
        for low in [content.lower()]
        for word, found in patterns.items()
        if any(stands(spelling, low, alone=word.isdigit()) for spelling in found)
    ]


def below(*folders: Path, without: Iterable[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of all files below some folders; an empty folder has a name as well."""
    skipped = tuple(without)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if any(path == other or other in path.parents for other in skipped):
                continue
            name = path.relative_to(folder).as_posix()
            yield name, path.read_bytes() if path.is_file() else b""


def spellings(word: str) -> set[bytes]:
    """A word in the encodings that files hold, in small letters as far as they are ASCII."""
    found = set()
    for form in ("NFC", "NFD"):
        for cased in (word.lower(), word.upper()):
            text = unicodedata.normalize(form, cased)
            found |= {text.encode(), text.encode("latin-1", "ignore")}
            # Between two letters these are the same in both byte orders.
            found |= {text.encode("utf-16-le")[:-1], text.encode("utf-32-le")[:-3]}
    return {spelling.lower() for spelling in found if len(spelling) > 3}


def stands(spelling: bytes, content: bytes, *, alone: bool) -> bool:
    """Whether the spelling is in the content; `alone`: with no digit beside it."""
    if spelling not in content:
        return False
    pattern = re.escape(spelling)
    return not alone or re.search(rb"(?<!\d)" + pattern + rb"(?!\d)", content) is not None


def opened(name: str, data: bytes, damaged: bool) -> Iterator[tuple[str, bytes]]:
    """The bytes themselves and, with their path inside, all that is packed in them."""
    yield name, data
    kind = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "")
    if data[128:132] == b"DICM":
        kind = "dicom"
    elif data[257:262] == b"ustar":
        kind = "tar"
    with suppress(Exception) if damaged else nullcontext():
        for label, inside in OPENERS.get(kind, in_text)(data):
            yield from opened(f"{name}!{label}", inside, damaged)


def in_gzip(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What was compressed; the name it had lies open in the header."""
    yield "gzip", gzip.decompress(data)


def in_zip(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every entry, its name, its comment."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archive.infolist():
            yield "name", entry.filename.encode() + b"\n" + entry.comment
            yield entry.filename, archive.read(entry)


def in_tar(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every file, its name, its owner."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for entry in archive:
            yield "name", f"{entry.name}\n{entry.uname}\n{entry.linkname}".encode()
            file = archive.extractfile(entry)
            if file is not None:
                yield entry.name, file.read()


def in_parquet(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Columns, values and metadata as text."""
    table = pq.read_table(io.BytesIO(data))
    yield "values", table.to_pandas().to_csv().encode()
    for key, value in (table.schema.metadata or {}).items():
        yield "metadata", key + b"\n" + value


def in_npy(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The words of an array of words."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind in "US":
        yield "words", "\n".join(map(str, array.ravel())).encode()


def in_picture(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Comments, text chunks (compressed ones too) and tags."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        tags = dict(picture.getexif()) | dict(getattr(picture, "tag_v2", {}))
        for key, value in [*picture.info.items(), *tags.items()]:
            text = value if isinstance(value, bytes) else str(value).encode()
            yield str(key), text


def in_dicom(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Every element at any depth, also of a deflated data set; packed ones opened in turn."""
    file = pydicom.dcmread(io.BytesIO(data), force=True)
    for dataset in (file.file_meta, file):
        for element in Dataset.iterall(dataset):
            if element.VR != "SQ" and element.keyword != "PixelData":
                value = element.value
                yield str(element.tag), value if isinstance(value, bytes) else str(value).encode()


def in_text(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Escaped characters of JSON, HTML and addresses, and what data URIs carry."""
    if b"\0" in data[:4096]:
        return
    if data[:1] in (b"{", b"["):
        with suppress(ValueError):
            yield "json", json.dumps(json.loads(data), ensure_ascii=False).encode()[1:]
    for number, match in enumerate(DATA_URI.finditer(data)):
        with suppress(binascii.Error):
            yield f"uri{number}", base64.b64decode(match[1])
    plain = html.unescape(data.decode("utf-8", "surrogateescape"))
    for label, text in (
        ("entities", plain.encode("utf-8", "surrogateescape")), ("percent", unquote_to_bytes(data))
    ):  # fmt: skip
        if len(text) < len(data):
            yield label, text


OPENERS = {
    "gzip": in_gzip, "zip": in_zip, "tar": in_tar, "parquet": in_parquet, "npy": in_npy,
    "picture": in_picture, "dicom": in_dicom,
}  # fmt: skip
