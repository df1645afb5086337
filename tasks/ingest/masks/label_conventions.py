"""What the values of a tumour mask mean, for each data set, with a source for each.

Years and data sets disagree: 4 is enhancing tumour in BraTS until 2021, a surgeon's cavity since
2024, oedema in children. A convention whose sources contradict each other, or that changed under
one name, has several interpretations; a mask is binarised only if all interpretations that hold
its values agree. Add a data set here, and its name to `LabelConvention` in
`tasks/params/ingest.py`; then `python -m tasks.ingest.masks.label_conventions docs/ingest.md`
updates the document's table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tasks.ingest.core.generated_table import update_documents

Tissue = Literal["core", "enhancing", "oedema", "cavity", "tumour"]
Region = Literal["whole", "core", "enhancing"]

TISSUES_OF_REGION: Mapping[Region, frozenset[Tissue]] = {
    "whole": frozenset({"core", "enhancing", "oedema", "tumour"}),  # never the cavity
    "core": frozenset({"core", "enhancing"}),
    "enhancing": frozenset({"enhancing"}),
}


@dataclass(frozen=True)
class Interpretation:
    """The tissue of each value: `core` is necrosis, cyst, non-enhancing tumour; `tumour` any."""

    tissues: Mapping[int, Tissue]
    source: str

    def labels_of(self, region: Region) -> set[int] | None:
        """Return the values that make up a region; None if the values do not tell the region."""
        if region != "whole" and "tumour" in self.tissues.values():
            return None
        return {
            value for value, tissue in self.tissues.items() if tissue in TISSUES_OF_REGION[region]
        }


def meaning(source: str, **values: Tissue) -> Interpretation:
    """Build an interpretation from `_1="core"` and so on, which keeps the table below a table."""
    return Interpretation({int(key[1:]): tissue for key, tissue in values.items()}, source)


# fmt: off
CONVENTIONS: Mapping[str, tuple[Interpretation, ...]] = {
    "brats-2012-2020": (
        # 3 is non-enhancing tumour until 2016 and does not occur from 2017 on
        meaning("Menze et al. 2015 doi 10.1109/TMI.2014.2377694; Bakas et al. arXiv 1811.02629",
                _1="core", _2="oedema", _3="core", _4="enhancing"),
    ),
    "brats-2021-2023": (
        meaning("BraTS 2021 as published, synapse.org syn27046444/wiki/616992",
                _1="core", _2="oedema", _4="enhancing"),
        meaning("BraTS 2023 GLI, synapse.org syn51156910",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-2024": (
        meaning("post-treatment glioma, de Verdier et al. 2024 arXiv 2405.18368",
                _1="core", _2="oedema", _3="enhancing", _4="cavity"),
    ),
    "brats-ped": (
        meaning("BraTS-PEDs 2024, Kazerooni et al. arXiv 2404.15009: ET, NET, CC, ED",
                _1="enhancing", _2="core", _3="core", _4="oedema"),
        meaning("BraTS-PEDs 2023, Kazerooni et al. arXiv 2305.17033: NC, ED, ET",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-ped-2024": (
        meaning("BraTS-PEDs 2024, Kazerooni et al. arXiv 2404.15009: ET, NET, CC, ED",
                _1="enhancing", _2="core", _3="core", _4="oedema"),
    ),
    "brats-ped-2023": (
        meaning("BraTS-PEDs 2023, Kazerooni et al. arXiv 2305.17033: NC, ED, ET",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-men": (
        meaning("BraTS meningioma 2023, LaBella et al. arXiv 2305.07642",
                _1="core", _2="oedema", _3="enhancing"),
    ),
    "brats-men-rt": (
        meaning("BraTS meningioma radiotherapy 2024, LaBella et al. arXiv 2405.18383: GTV",
                _1="tumour"),
    ),
    "brats-met": (
        # the cavity came in 2025
        meaning("BraTS metastases, Moawad et al. arXiv 2306.00838; 2025: arXiv 2504.12527",
                _1="core", _2="oedema", _3="enhancing", _4="cavity"),
    ),
    "msd-brain-tumour": (
        meaning("dataset.json of Task01_BrainTumour; Antonelli 2022 doi 10.1038/s41467-022-30695-9",
                _1="oedema", _2="core", _3="enhancing"),
    ),
    "ucsf-pdgm": (
        meaning("Calabrese et al. 2022 doi 10.1148/ryai.220058",
                _1="core", _2="oedema", _4="enhancing"),
    ),
    "upenn-gbm": (
        meaning("Bakas et al. 2022 doi 10.1038/s41597-022-01560-7",
                _1="core", _2="oedema", _4="enhancing"),
    ),
    "lumiere": (
        # public readers of the data set disagree on DeepBraTumIA's 1 and 2
        meaning("Suter et al. 2022 doi 10.1038/s41597-022-01881-7, DeepBraTumIA",
                _1="core", _2="enhancing", _3="oedema"),
        meaning("the same, as others read DeepBraTumIA's masks",
                _1="enhancing", _2="core", _3="oedema"),
        meaning("the same, HD-GLIO-AUTO: FLAIR abnormality, enhancing",
                _1="oedema", _2="enhancing"),
    ),
    "mu-glioma-post": (
        # public readers of the data set disagree on 1 to 3; all have 4 as the cavity
        meaning("TCIA doi 10.7937/7k9k-3c83, read as ET, NETC, SNFH, RC",
                _1="enhancing", _2="core", _3="oedema", _4="cavity"),
        meaning("the same, read as NETC, SNFH, ET, RC",
                _1="core", _2="oedema", _3="enhancing", _4="cavity"),
    ),
    "glistrboost": (
        meaning("TCGA-GBM and TCGA-LGG, Bakas et al. 2017 doi 10.1038/sdata.2017.117",
                _1="core", _2="oedema", _4="enhancing"),
    ),
}
# fmt: on
BINARY = "binary"  # one value, whichever, is tumour
TABLE_START, TABLE_END = "<!-- label conventions: generated -->\n", "<!-- conventions: end -->\n"


def conventions_table() -> str:
    """Return all interpretations as a Markdown table, a row each."""
    rows = ["| convention | 1 | 2 | 3 | 4 | source |", "|---|---|---|---|---|---|"]
    for name, interpretations in CONVENTIONS.items():
        for interpretation in interpretations:
            tissues = " | ".join(interpretation.tissues.get(value, "") for value in (1, 2, 3, 4))
            rows.append(f"| `{name}` | {tissues} | {interpretation.source} |")
    rows.append(f"| `{BINARY}` | tumour | | | | one value in a mask, whichever it is |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    update_documents(TABLE_START, TABLE_END, conventions_table())
