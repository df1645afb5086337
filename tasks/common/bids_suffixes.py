"""The endings of file names by modality, as BIDS has them; release and image folders share them."""

from typing import Final

BIDS_SUFFIX: Final = {
    "T1": "T1w",
    "T1c": "ce-gadolinium_T1w",
    "T2": "T2w",
    "FLAIR": "FLAIR",
    "other": "other",  # BIDS has none: such files are listed in .bidsignore
}
