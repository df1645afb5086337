"""The search for planted identities opens what an attacker would open."""

import base64
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests.phi_search import below, leaks

WORD = "Mustermann"


def zipped(name: str, content: bytes, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.comment = comment
    return buffer.getvalue()


def tarred(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def png(word: str) -> bytes:
    buffer, text = io.BytesIO(), PngInfo()
    text.add_text("Author", word, zip=True)
    Image.new("L", (8, 8)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def npy(word: str) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([word]))
    return buffer.getvalue()


def deflated(word: str) -> bytes:
    buffer = io.BytesIO()
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientComments = "quiet " * 40
    dataset.RequestAttributesSequence = [pydicom.Dataset()]
    dataset.RequestAttributesSequence[0].ScheduledProcedureStepDescription = word
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def nifti(word: str) -> bytes:
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", word.encode()))
    return gzip.compress(image.to_bytes())


HIDDEN = {
    "plain text": b"a MUSTERMANN b",
    "utf-16 little": WORD.encode("utf-16-le"),
    "utf-16 big": WORD.encode("utf-16-be"),
    "latin-1": "Jürgen".encode("latin-1"),
    "decomposed": "Ju\u0308rgen".encode(),
    "gzip": gzip.compress(WORD.encode()),
    "gzip in gzip": gzip.compress(gzip.compress(WORD.encode())),
    "zip entry": zipped("a", WORD.encode() * 9),
    "zip entry's name": zipped(f"{WORD}/a", b""),
    "zip comment": zipped("a", b"", WORD.encode()),
    "tar.gz": tarred(WORD.encode()),
    "parquet value": parquet(pd.DataFrame({"a": [WORD] * 50})),
    "parquet column": parquet(pd.DataFrame({WORD: [1]})),
    "parquet list": parquet(pd.DataFrame({"a": [[WORD, "b"]]})),
    "npy": npy(WORD),
    "png text, compressed": png(WORD),
    "deflated DICOM, nested": deflated(WORD),
    "NIfTI extension": nifti(WORD),
    "escaped JSON": b'{"a": "J\\u00fcrgen"}',
    "HTML entities": b"<p>J&uuml;rgen</p>",
    "percent": b"file:///J%C3%BCrgen",
    "data URI": b'<img src="data:image/png;base64,' + base64.b64encode(png(WORD)) + b'">',
    "SVG in a data URI": b"url(data:image/svg+xml;base64," + base64.b64encode(b"Mustermann") + b")",
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_the_search_opens(kind: str) -> None:
    assert leaks([("a", HIDDEN[kind])], ["Mustermann", "Jürgen"])


def test_the_search_reads_names_of_files_and_empty_folders(tmp_path: Path) -> None:
    (tmp_path / "x" / WORD).mkdir(parents=True)
    assert leaks(below(tmp_path), [WORD]) == [(WORD, f"x/{WORD}")]


def test_the_search_takes_a_number_within_a_number_for_chance() -> None:
    assert leaks([("a", b"0.3195611035")], ["19561103"]) == []
    assert leaks([("a", b"born 19561103.")], ["19561103"])
