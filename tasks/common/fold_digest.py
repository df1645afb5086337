"""Identify what readers rate of one fold: its synthetic slices and what the gate says of them.

Readers rate what the gate accepted. With `gate.readers` the gate adds to `metrics.json` what
follows from their answers. The digest leaves that out: it would make another candidate of the
slices that they have just rated.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

READERS: Final = "readers"  # key of metrics.json: the reasons that come from readers


def hash_candidate(synthetic: Path, gate: Path) -> tuple[bytes, str]:
    """Return the hashes of a fold's files, and its digest as a reader study names it.

    Args:
        synthetic: `data/synthetic/FOLD`.
        gate: `data/gate/FOLD`, or the folder in which it is being written.
    """
    paths = synthetic / "images.npy", synthetic / "masks.npy", gate / "samples.parquet"
    hashes = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)
    metrics = (gate / "metrics.json").read_bytes()
    all_hashes, rated = (
        hashes + hashlib.sha256(text).digest() for text in (metrics, without_readers(metrics))
    )
    return all_hashes, hashlib.sha256(rated).hexdigest()


def with_readers(metrics: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    """Add the reasons that come from readers to the content of `metrics.json`."""
    texts = [f"readers: {reason}" for reason in reasons]
    return metrics | {
        "verdict": "rejected" if texts else metrics["verdict"],
        "reasons": [*metrics["reasons"], *texts],
        READERS: texts,
    }


def without_readers(metrics: bytes) -> bytes:
    """Return `metrics.json` as it was before the reasons of readers were added."""
    tree = json.loads(metrics)
    if READERS not in tree:
        return metrics
    texts = tree.pop(READERS)
    tree["reasons"] = tree["reasons"][: len(tree["reasons"]) - len(texts)]
    tree["verdict"] = "rejected" if tree["reasons"] else "accepted"
    return metrics_text(tree).encode()


def metrics_text(metrics: dict[str, Any]) -> str:
    """Return the text of `metrics.json`."""
    return json.dumps(metrics, indent=1) + "\n"
