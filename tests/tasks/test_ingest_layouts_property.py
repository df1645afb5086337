"""Generated layouts: one person is one patient, or the files are refused; strangers never meet."""

from collections import defaultdict
from collections.abc import Callable
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest.core.scan_record import ScanRecord
from tasks.ingest.core.source_file import Source
from tasks.ingest.filenames.parse_filenames import ParsedFilename, Sidecars, parse_filenames
from tasks.ingest.masks.pairing import masks_for_image

IDS: dict[str, Callable[[int], str]] = {
    "P1": lambda n: f"P{n}",
    "patient_003": lambda n: f"patient_{n:03d}",
    "Patient-12": lambda n: f"Patient-{n + 11}",
    "sub07": lambda n: f"sub{n:02d}",
    "001": lambda n: f"{n:03d}",
    "12345678": lambda n: str(12345670 + n * 7),
    "Doe": lambda n: ["Doe", "Roe", "Poe", "Moe"][n - 1],
    "Doe_Jane": lambda n: ["Doe_Jane", "Roe_Jim", "Poe_Jane", "Moe_Jim"][n - 1],
    "AB0123": lambda n: f"AB0{n}23",
    "XY-0007": lambda n: f"{['XY', 'ZW'][n % 2]}-{n:04d}",
    "glioma_001": lambda n: f"glioma_{n:03d}",
    "A": lambda n: "ABCD"[n - 1],
    "h4x0r9": lambda n: ["h4x0r9", "k7q2mz", "9bb41c", "zz81ya"][n - 1],
    "TCGA-CS-4941": lambda n: f"TCGA-CS-494{n}",
    "BraTS2021_00012": lambda n: f"BraTS2021_0001{n}",
    "1": str,
    "ID-3": lambda n: f"ID-{n}",
}
VISITS: dict[str, Callable[[int], str]] = {
    "v1": lambda k: f"v{k}",
    "visit2": lambda k: f"visit{k}",
    "visit_2": lambda k: f"visit_{k}",
    "week-044": lambda k: f"week-{k * 11:03d}",
    "2019-01-03": lambda k: f"2019-01-0{k}",
    "20190103": lambda k: f"2019010{k}",
    "baseline": lambda k: ["baseline", "followup", "recurrence"][k - 1],
    "ses-01": lambda k: f"ses-{k:02d}",
    "tp3": lambda k: f"tp{k}",
    "1": str,
    "02": lambda k: f"{k:02d}",
    "101": lambda k: str(99 + k),
    "a": lambda k: "abc"[k - 1],
    "MR1001": lambda k: f"MR100{k}",
    "X1001": lambda k: f"X100{k}",
    "FU007d": lambda k: f"FU00{k}d",
}
SHAPES = (
    "{id}{s}{visit}{s}{word}",
    "{id}/{visit}/{word}",
    "{id}/{visit}/{id}{s}{word}",
    "{id}/{visit}/{id}{s}{visit}{s}{word}",
    "{id}/{id}{s}{visit}{s}{word}",
    "{id}{s}{visit}/{word}",
    "{id}{s}{visit}/{id}{s}{visit}{s}{word}",
    "{id}{s}{visit}/anat/{word}",
    "{visit}/{id}/{word}",
    "{visit}/{id}{s}{word}",
    "{id}/{visit}/anat/{word}{s}x",
)
ABOVE = (
    "",
    "train/",
    "study/data/",
    "HGG/",
    "archive.zip!/",
    "site-3/raw/",
    "MICCAI_2019_Training/",
)
CONTRASTS = ("flair", "T1", "t1ce", "T2w")


@st.composite
def batches(draw: st.DrawFn) -> dict[str, tuple[int, int]]:
    """Paths to the person and the visit that they show."""
    id_of = IDS[draw(st.sampled_from(sorted(IDS)))]
    visit_of = VISITS[draw(st.sampled_from(sorted(VISITS)))]
    shape = draw(st.sampled_from(SHAPES))
    separator = draw(st.sampled_from("_-."))
    above = draw(st.sampled_from(ABOVE))
    words = draw(st.lists(st.sampled_from(CONTRASTS), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        words.append("seg")
    people = draw(st.integers(1, 4))
    visits = [draw(st.integers(1, 3)) for _ in range(people)]
    found: dict[str, tuple[int, int]] = {}
    for person, visit_count in enumerate(visits, start=1):
        for visit, word in product(range(1, visit_count + 1), words):
            path = shape.format(id=id_of(person), visit=visit_of(visit), s=separator, word=word)
            found[f"{above}{path}.nii.gz"] = (person, visit)
    return found


def check(batch: dict[str, tuple[int, int]]) -> dict[str, ParsedFilename]:
    """No person is two patients, no patient two people; what is refused does not count."""
    names = parse_filenames(sorted(batch), Sidecars({}))
    known = {path: name for path, name in names.items() if name.rejection is None}
    patients: dict[int, set[str]] = defaultdict(set)
    people: dict[str, set[int]] = defaultdict(set)
    for path, name in known.items():
        patients[batch[path][0]].add(name.patient)
        people[name.patient].add(batch[path][0])
    assert all(len(some) == 1 for some in patients.values()), (dict(patients), sorted(known))
    assert all(len(some) == 1 for some in people.values()), (dict(people), sorted(known))
    return known


@settings(max_examples=300, deadline=None)
@given(batches())
def test_one_patient_stays_one_patient_or_is_rejected(batch: dict[str, tuple[int, int]]) -> None:
    check(batch)


@settings(max_examples=300, deadline=None)
@given(batches())
def test_a_mask_is_laid_on_images_of_its_visit_only(batch: dict[str, tuple[int, int]]) -> None:
    by_patient: dict[str, list[tuple[str, ScanRecord]]] = defaultdict(list)
    for path, name in check(batch).items():
        role = "mask" if name.role == "mask" else "image"
        record = ScanRecord(
            role, "nifti", (Source(path),), name.patient, session=name.session, stem=name.stem,
            modality=name.modality,
        )  # fmt: skip
        by_patient[name.patient].append((path, record))
    for scans in by_patient.values():
        images = [record for _, record in scans if record.role == "image"]
        masks = [record for _, record in scans if record.role == "mask"]
        for image in images:
            for index in masks_for_image(image, masks, images):
                assert batch[image.name] == batch[masks[index].name], (
                    image.name,
                    masks[index].name,
                )
