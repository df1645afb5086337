"""Name `params.yaml`, and read what a run sets instead of its values.

`tasks.params` reads the file for the stages, `flows.dvc_params` for DVC. The latter runs for every
stage before it begins, and does without pydantic, whose import takes 0.2 s.
"""

import json
import os
from pathlib import Path
from typing import Any

PARAMS = Path("params.yaml")
OVERRIDES_VARIABLE = "AUGLIFT_OVERRIDES"  # set by the flow for what it starts, by nobody else


def read_overrides() -> dict[str, Any]:
    """Return the values that this run sets instead of those in `params.yaml`, by dotted key."""
    values: dict[str, Any] = json.loads(os.environ.get(OVERRIDES_VARIABLE) or "{}")
    return values


def set_keys(tree: dict[str, Any], values: dict[str, Any]) -> None:
    """Set values in a tree of sections, by dotted key; missing groups are added."""
    for key, value in values.items():
        *way, last = key.split(".")
        group = tree
        for word in way:
            if not isinstance(group.get(word), dict):
                group[word] = {}
            group = group[word]
        group[last] = value
