"""The fast parser of a header finds what pydicom finds, or leaves the file to pydicom."""

import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from tasks.ingest.core.rejection import RejectionError
from tasks.ingest.core.source_file import Source
from tasks.ingest.dicom.attributes import DicomAttributes, read_by_pydicom
from tasks.ingest.dicom.fast_parser import read_elements
from tasks.ingest.dicom.header import TAGS, header_from_attributes, read_header
from tests.tasks.dicom_cases import anatomy, write_series
from tests.tasks.ingest_fixtures import IngestWorkspace, canonical
from tests.tasks.test_ingest_hostile import corrupt
from tests.tasks.test_ingest_syntaxes import rewrite

CONFORMANCE = Path(__file__).parents[2] / "../shared/data/dicom-conformance"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IngestWorkspace:
    monkeypatch.chdir(tmp_path)
    return IngestWorkspace(tmp_path)


def fill_with_odd_elements(index: int, dataset: FileDataset) -> None:
    """Add private elements, nested sequences of both kinds of length, umlauts, empty values."""
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SeriesDescription = "Schädel FLAIR"
    dataset.ContrastBolusAgent = ""
    dataset.DiffusionBValue = 1000.0
    block = dataset.private_block(0x0009, "VENDOR", create=True)
    block.add_new(1, "OB", bytes(range(200)) * 60)  # pushes the rest out of the first read
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "121320"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    outer.ReferencedSOPInstanceUID = "1.2.3"
    dataset.SourceImageSequence = Sequence([outer, outer])
    dataset.ReferencedImageSequence = Sequence([outer])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    dataset.ReferencedImageSequence[0].is_undefined_length_sequence_item = True
    dataset.OtherPatientIDsSequence = Sequence([])


def sources(folder: Path) -> list[Source]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [Source(str(path), path.name) for path in files]


def test_a_header_with_odd_elements_is_parsed_as_by_pydicom(tmp_path: Path) -> None:
    write_series(tmp_path / "explicit", anatomy((2, 8, 8)), change=fill_with_odd_elements)
    write_series(tmp_path / "implicit", anatomy((2, 8, 8)), change=fill_with_odd_elements)
    rewrite(tmp_path / "implicit", ImplicitVRLittleEndian)
    for source in sources(tmp_path):
        parsed_fast = read_elements(source, TAGS)
        assert parsed_fast is not None
        by_pydicom = header_from_attributes(
            source, DicomAttributes(read_by_pydicom(source, TAGS), parsed_fast=False)
        )
        assert (
            header_from_attributes(source, DicomAttributes(parsed_fast, parsed_fast=True))
            == by_pydicom
        )
        assert by_pydicom.description.startswith("Schädel FLAIR")


@pytest.mark.skipif(not CONFORMANCE.is_dir(), reason="../shared/data/dicom-conformance is absent")
def test_headers_of_scanners_are_parsed_as_by_pydicom() -> None:
    files = sorted(CONFORMANCE.rglob("*.dcm"))
    for source in (Source(str(path), path.name) for path in files):
        parsed_fast = read_elements(source, TAGS)
        if parsed_fast is not None:
            by_pydicom = header_from_attributes(
                source, DicomAttributes(read_by_pydicom(source, TAGS), parsed_fast=False)
            )
            assert (
                header_from_attributes(source, DicomAttributes(parsed_fast, parsed_fast=True))
                == by_pydicom
            )
    assert len(files) > 40


@pytest.mark.filterwarnings("ignore")
def test_a_broken_header_is_parsed_as_by_pydicom_or_left_to_it(tmp_path: Path) -> None:
    write_series(tmp_path / "x", anatomy((1, 8, 8)), change=fill_with_odd_elements)
    content = (tmp_path / "x/slice000.dcm").read_bytes()
    broken = Source(str(tmp_path / "broken"), "broken")
    rng, agreed = random.Random(1), 0
    for _ in range(300):
        broken.path.write_bytes(corrupt(content, rng))
        parsed_fast = read_elements(broken, TAGS)
        if parsed_fast is None:
            continue
        try:
            by_pydicom = header_from_attributes(
                broken, DicomAttributes(read_by_pydicom(broken, TAGS), parsed_fast=False)
            )
            header = header_from_attributes(broken, DicomAttributes(parsed_fast, parsed_fast=True))
        except (
            RejectionError,
            ValueError,
            AttributeError,
            OverflowError,
            pydicom.errors.BytesLengthException,
        ):
            continue
        agreed += header == by_pydicom
        assert header.offset == by_pydicom.offset
        assert (header.rows, header.columns, header.bits) == (
            by_pydicom.rows, by_pydicom.columns, by_pydicom.bits,
        )  # fmt: skip
    assert agreed > 60


def rejection_codes(workspace: IngestWorkspace, **attributes: object) -> list[str]:
    """Return the codes of a series with these attributes, beside a good patient."""
    write_series(workspace.raw / "x", anatomy((4, 8, 8)), **attributes)
    write_series(workspace.raw / "good", anatomy((4, 8, 8)), patient="good")
    assert len(workspace.ingest()) == 1
    assert workspace.accounts_for_every_file()
    return workspace.codes()


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "inverted-greyscale"),
        ({"ModalityLUTSequence": Sequence([Dataset()])}, "unsupported-pixels"),
        ({"BitsStored": 12, "HighBit": 15}, "unsupported-pixels"),
        ({"BitsStored": 17, "HighBit": 16}, "unsupported-pixels"),
        ({"RescaleSlope": 0}, "unsupported-pixels"),
    ],
)
def test_pixels_that_mean_something_else_are_rejected(
    workspace: IngestWorkspace, attributes: dict[str, object], code: str
) -> None:
    assert set(rejection_codes(workspace, **attributes)) == {code}


def test_regions_of_ultrasound_count_as_burned_in_text(workspace: IngestWorkspace) -> None:
    region = Dataset()
    region.RegionSpatialFormat = 1
    assert (
        rejection_codes(workspace, SequenceOfUltrasoundRegions=Sequence([region]))
        == ["burned-in-text"] * 4
    )


def test_signed_twelve_bits_keep_their_sign_whatever_lies_above(workspace: IngestWorkspace) -> None:
    values = np.random.default_rng(0).integers(-2048, 2048, (4, 8, 8)).astype(np.int16)

    def pack(_: int, dataset: FileDataset) -> None:
        dataset.BitsStored, dataset.HighBit = 12, 11
        stored = np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF | 0x5000
        dataset.PixelData = stored.astype("<u2").tobytes()

    affine = write_series(workspace.raw, values, change=pack)
    data, _ = workspace.load(workspace.ingest().image[0])
    truth = canonical(np.transpose(values, (2, 1, 0)), affine)
    assert np.array_equal(data, truth.get_fdata())


def test_a_header_longer_than_the_first_read_is_read(tmp_path: Path) -> None:
    write_series(tmp_path, anatomy((1, 8, 8)), change=fill_with_odd_elements)
    (source,) = sources(tmp_path)
    assert read_header(source).rows == 8
    assert read_header(source).offset > 8192
