"""A made-up run whose release holds real training slices as well, some without an outline."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests.tasks.fake_run import Run, write
from tests.tasks.test_release import release


def augmented_run(root: Path, *, unoutlined: bool = True, **options: Any) -> Path:
    """Write a run of `release.contents: augmented`; patient sub-0002 has no outlines."""
    write(root, Run(**({"synthetic": 6, "accept_share": 1.0, "size": 16} | options)))
    set_release(root, contents="augmented")
    path = root / "data/slices/slices.parquet"
    table = pd.read_parquet(path)
    table["session"] = "ses-01"
    table["mask_known"] = (table["subject"] != "sub-0002") | (not unoutlined)
    table.to_parquet(path)
    return root


def set_release(root: Path, **keys: Any) -> None:
    """Change the section `release` of a run's params."""
    path = root / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["release"] |= keys
    path.write_text(yaml.safe_dump(tree))


def write_releases(folder: Path) -> dict[str, Path]:
    """A synthetic and an augmented release, each in a run's folder."""
    roots = {
        "augmented": augmented_run(folder / "augmented", channels=2),
        "synthetic": write(
            folder / "synthetic", Run(synthetic=6, accept_share=1.0, size=16, channels=1)
        ),
    }
    for root in roots.values():
        release(root)
    return roots
