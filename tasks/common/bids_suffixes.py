"""BIDS suffixes of file names by modality, for the release and for image folders."""

from typing import Final

BIDS_SUFFIX: Final = {
    "T1": "T1w",
    "T1c": "ce-gadolinium_T1w",
    "T2": "T2w",
    "FLAIR": "FLAIR",
    "other": "other",  # BIDS has none: such files are listed in .bidsignore
}
