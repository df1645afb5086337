"""The codes of segments, and the part of a tumour that each code stands for.

Sources: DICOM PS3.16 CID 7159 (lesion segmentation types, with the codes of NCIt), CID 7194
(morphologically altered structures), CID 9534 (radiotherapy targets), CID 638 (tumours); older
files write SNOMED CT's concepts as SNOMED RT (`SRT`, PS3.16 Annex I). Of SNOMED RT's morphology
axis the numbers from M-8 to M-9 are ICD-O's neoplasms. Of RT structure sets: RT ROI Interpreted
Type (PS3.3 C.8.8.8).
"""

from typing import Literal

TumourPart = Literal["tumour", "core", "enhancing", "non-enhancing", "edema", "cyst"]

PARTS_OF_REGION: dict[str, set[TumourPart]] = {  # BraTS's tumour core and enhancing tumour
    "core": {"core", "enhancing", "non-enhancing", "cyst"},
    "enhancing": {"enhancing"},
}
PART_OF_CODE: dict[tuple[str, str], TumourPart] = {
    ("SCT", "108369006"): "tumour",  # neoplasm, tumour
    ("SCT", "372087000"): "tumour",  # neoplasm, primary
    ("SCT", "86049000"): "tumour",  # malignant neoplasm, primary
    ("SCT", "14799000"): "tumour",  # neoplasm, secondary
    ("SCT", "128462008"): "tumour",  # metastasis
    ("SCT", "4147007"): "tumour",  # mass
    ("SCT", "27925004"): "tumour",  # nodule
    ("SCT", "52988006"): "tumour",  # lesion
    ("SCT", "301766008"): "tumour",  # lesion of brain
    ("SCT", "1163375002"): "tumour",  # glioblastoma
    ("SCT", "63634009"): "tumour",  # glioblastoma, no subtype
    ("SCT", "254938000"): "tumour",  # astrocytoma of brain
    ("SCT", "38713004"): "tumour",  # astrocytoma, no subtype
    ("SCT", "1163043007"): "tumour",  # lymphoma
    ("SCT", "228791009"): "core",  # gross tumour volume
    ("DCM", "130052"): "core",  # GTV primary
    ("DCM", "130051"): "core",  # GTV nodal
    ("SCT", "6574001"): "core",  # necrosis
    ("NCIT", "C113842"): "enhancing",  # enhancing lesion
    ("NCIT", "C81175"): "non-enhancing",  # non-enhancing lesion
    ("SCT", "79654002"): "edema",
    ("SCT", "367643001"): "cyst",
}
MARGINS = {  # target volumes that hold more than the tumour
    ("SCT", "228792002"), ("DCM", "130050"), ("DCM", "130049"),  # CTV, primary, nodal
    ("SCT", "228793007"), ("DCM", "130054"), ("DCM", "130053"),  # PTV, primary, nodal
    ("DCM", "130056"), ("RT", "CTV"), ("RT", "PTV"), ("RT", "TREATED_VOLUME"),
    ("RT", "IRRAD_VOLUME"),
}  # fmt: skip
PART_OF_CODE["RT", "GTV"] = "core"
SNOMED_RT = {  # to SNOMED CT
    "M-8FFFF": "108369006", "M-80006": "14799000", "DF-00436": "128462008", "M-03000": "4147007",
    "M-03010": "27925004", "M-01100": "52988006", "F-A004A": "301766008", "DA-0001F": "254938000",
    "R-429E0": "228791009", "R-429EB": "228792002", "R-429EC": "228793007", "M-54000": "6574001",
    "M-36300": "79654002", "M-3340A": "367643001",
}  # fmt: skip
SCHEMES = {"SRT": "SRT", "SNM3": "SRT", "99SDM": "SRT", "SCT": "SCT", "SCT2": "SCT", "NCI": "NCIT"}


def normalise_code(scheme: str, value: str) -> tuple[str, str]:
    """Convert a code to the scheme that the tables above use."""
    scheme, value = scheme.strip().upper(), value.strip().upper()
    scheme = SCHEMES.get(scheme, scheme)
    if scheme == "SRT":
        if value in SNOMED_RT:
            return "SCT", SNOMED_RT[value]
        if value.startswith(("M-8", "M-9")):
            return "SCT", "108369006"
    return scheme, value


def part_by_code(code: tuple[str, str]) -> TumourPart | None:
    """Return the part of a tumour that a code stands for; None for other codes."""
    return PART_OF_CODE.get(code)
