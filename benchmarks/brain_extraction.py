"""Measure brain extraction on real heads: is a skull detected, and does the tumour stay?

Run from the repository's root:
`python benchmarks/brain_extraction.py ../shared/data/lgg [--every 6]`, with a
BIDS folder of FLAIR volumes and tumour masks. For each volume one JSON line: the share of its
voxels above the background that lie outside its segmented brain, before and after stripping (the
stage calls a volume stripped below `STRIPPED`), the share of the tumour that stays, and processor
seconds; then the extremes. Needs the networks: `pip install --no-deps deepbet==1.0.2`.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tasks.ingest.core.volume import Volume, to_ras
from tasks.ingest.preprocessing.brain_extraction import MOST_OUTSIDE, check_installed, segment_brain


def main() -> None:
    """Print a line a volume and the extremes of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=6)
    options = parser.parse_args()
    check_installed()
    rows = []
    for number, path in enumerate(sorted(options.folder.glob("sub-*/anat/*_FLAIR.nii.gz"))):
        if number % options.every == 0:
            (mask,) = options.folder.glob(f"derivatives/masks/{path.parts[-3]}/anat/*_mask.nii.gz")
            rows.append(measure_extraction(read_ras(path), read_ras(mask) > 0))
            print(json.dumps({"volume": number} | rows[-1]), flush=True)
    for key in rows[0]:
        values = [row[key] for row in rows]
        print(json.dumps({"of": key, "n": len(values), "min": min(values), "max": max(values)}))
    print(json.dumps({"limit": MOST_OUTSIDE}))


def read_ras(path: Path) -> np.ndarray:
    """Read a volume (I,J,K) in RAS+ orientation."""
    image = nib.load(path)
    return to_ras(Volume(np.asarray(image.dataobj).astype(np.int16), image.affine)).data


def measure_extraction(image: np.ndarray, tumour: np.ndarray) -> dict[str, float]:
    """Extract the brain of a head, and again of the stripped head."""
    start = time.process_time()
    brain = segment_brain(image)
    seconds = time.process_time() - start
    stripped = np.where(brain, image, 0)
    return {
        "outside_before": share_outside_brain(image, brain),
        "outside_after": share_outside_brain(stripped, segment_brain(stripped)),
        "tumour_kept": round(float((tumour & brain).sum() / tumour.sum()), 3),
        "cpu_seconds": round(seconds, 1),
    }


def share_outside_brain(image: np.ndarray, brain: np.ndarray) -> float:
    """Compute the share of voxels above the background that are not brain."""
    support = image > image.min()
    return round(float((support & ~brain).sum() / support.sum()), 3)


if __name__ == "__main__":
    main()
