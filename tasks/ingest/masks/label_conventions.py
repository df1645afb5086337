"""What the values of a tumour mask mean, data set by data set, with a source for each.

Years and data sets disagree: 4 is enhancing tumour in BraTS until 2021, a surgeon's cavity since
2024, oedema in children. A convention whose sources contradict each other, or that changed under
one name, has several readings; a mask is merged only where all readings that hold its values agree.
Add a data set here, and its name to `LabelConvention` in `tasks/params/ingest.py`; then
`python -m tasks.ingest.masks.label_conventions docs/ingest.md` writes the document's table anew.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Tissue = Literal["core", "enhancing", "oedema", "cavity", "tumour"]
Region = Literal["whole", "core", "enhancing"]

REGIONS: Mapping[Region, frozenset[Tissue]] = {
    "whole": frozenset({"core", "enhancing", "oedema", "tumour"}),  # never the cavity
    "core": frozenset({"core", "enhancing"}),
    "enhancing": frozenset({"enhancing"}),
}


@dataclass(frozen=True)
class Reading:
    """Value to tissue: `core` is necrosis, cyst or non-enhancing tumour, `tumour` any of it."""

    tissues: Mapping[int, Tissue]
    source: str

    def values_of(self, region: Region) -> set[int] | None:
        """The values that make up a region; None where the reading does not tell it apart."""
        if region != "whole" and "tumour" in self.tissues.values():
            return None
        return {value for value, tissue in self.tissues.items() if tissue in REGIONS[region]}


def reading(source: str, **values: Tissue) -> Reading:
    """`_1="core"` and so on, so that the table below stays a table."""
    return Reading({int(key[1:]): tissue for key, tissue in values.items()}, source)


# fmt: off
CONVENTIONS: Mapping[str, tuple[Reading, ...]] = {
    "brats-2012-2020": (
        # 3 is non-enhancing tumour until 2016 and does not occur from 2017 on
        reading("Menze et al. 2015 doi 10.1109/TMI.2014.2377694; Bakas et al. arXiv 1811.02629",
                _1="core", _2="oedema", _3="core", _4="enhancing"),
    ),
    "brats-2021-2023": (
        reading("BraTS 2021 as published, synapse.org syn27046444/wiki/616992",
                _1="core", _2="oedema", _4="enhancing"),
        reading("BraTS 2023 GLI, synapse.org syn51156910",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-2024": (
        reading("post-treatment glioma, de Verdier et al. 2024 arXiv 2405.18368",
                _1="core", _2="oedema", _3="enhancing", _4="cavity"),
    ),
    "brats-ped": (
        reading("BraTS-PEDs 2024, Kazerooni et al. arXiv 2404.15009: ET, NET, CC, ED",
                _1="enhancing", _2="core", _3="core", _4="oedema"),
        reading("BraTS-PEDs 2023, Kazerooni et al. arXiv 2305.17033: NC, ED, ET",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-ped-2024": (
        reading("BraTS-PEDs 2024, Kazerooni et al. arXiv 2404.15009: ET, NET, CC, ED",
                _1="enhancing", _2="core", _3="core", _4="oedema"),
    ),
    "brats-ped-2023": (
        reading("BraTS-PEDs 2023, Kazerooni et al. arXiv 2305.17033: NC, ED, ET",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-men": (
        reading("BraTS meningioma 2023, LaBella et al. arXiv 2305.07642",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-men-rt": (
        reading("BraTS meningioma radiotherapy 2024, LaBella et al. arXiv 2405.18383: GTV",
                _1="tumour"),
    ),
    "brats-met": (
        # the cavity came in 2025
        reading("BraTS metastases, Moawad et al. arXiv 2306.00838; 2025: arXiv 2504.12527",
                _1="core", _2="oedema", _3="enhancing", _4="cavity"),
    ),
    "msd-brain-tumour": (
        reading("dataset.json of Task01_BrainTumour; Antonelli 2022 doi 10.1038/s41467-022-30695-9",
                _1="oedema", _2="core", _3="enhancing"),
    ),
    "ucsf-pdgm": (
        reading("Calabrese et al. 2022 doi 10.1148/ryai.220058",
                _1="core", _2="oedema", _4="enhancing"),
    ),
    "upenn-gbm": (
        reading("Bakas et al. 2022 doi 10.1038/s41597-022-01560-7",
                _1="core", _2="oedema", _4="enhancing"),
    ),
    "lumiere": (
        # public readers of the data set disagree on DeepBraTumIA's 1 and 2
        reading("Suter et al. 2022 doi 10.1038/s41597-022-01881-7, DeepBraTumIA",
                _1="core", _2="enhancing", _3="oedema"),
        reading("the same, as others read DeepBraTumIA's masks",
                _1="enhancing", _2="core", _3="oedema"),
        reading("the same, HD-GLIO-AUTO: FLAIR abnormality, enhancing",
                _1="oedema", _2="enhancing"),
    ),
    "mu-glioma-post": (
        # public readers of the data set disagree on 1 to 3; all have 4 as the cavity
        reading("TCIA doi 10.7937/7k9k-3c83, read as ET, NETC, SNFH, RC",
                _1="enhancing", _2="core", _3="oedema", _4="cavity"),
        reading("the same, read as NETC, SNFH, ET, RC",
                _1="core", _2="oedema", _3="enhancing", _4="cavity"),
    ),
    "glistrboost": (
        reading("TCGA-GBM and TCGA-LGG, Bakas et al. 2017 doi 10.1038/sdata.2017.117",
                _1="core", _2="oedema", _4="enhancing"),
    ),
}
# fmt: on
BINARY = "binary"  # one value, whichever, is tumour
TABLE_START, TABLE_END = "<!-- label conventions: generated -->\n", "<!-- conventions: end -->\n"


def table_of_conventions() -> str:
    """All readings as a Markdown table, a row each."""
    rows = ["| convention | 1 | 2 | 3 | 4 | source |", "|---|---|---|---|---|---|"]
    for name, readings in CONVENTIONS.items():
        for one in readings:
            tissues = " | ".join(one.tissues.get(value, "") for value in (1, 2, 3, 4))
            rows.append(f"| `{name}` | {tissues} | {one.source} |")
    rows.append(f"| `{BINARY}` | tumour | | | | one value in a mask, whichever it is |")
    return "\n".join(rows) + "\n"


def with_table(document: str) -> str:
    """A document with the table between its two marks replaced by today's."""
    pattern = re.escape(TABLE_START) + ".*?" + re.escape(TABLE_END)
    table = TABLE_START + table_of_conventions() + TABLE_END
    return re.sub(pattern, lambda _: table, document, flags=re.DOTALL)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
