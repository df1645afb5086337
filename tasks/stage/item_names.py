"""Check the names of items (batch, fold, task, arm), and write the outputs that guard them in DVC.

Items come from `params.yaml` and become parts of commands and paths, so each must be a plain word
(`check_item_name`). `dvc.yaml` passes them as `--batch NAME`, which DVC quotes for the shell. Each
item stage also has the output `data/names/STAGE/item-NAME.word`. `.dvcignore` allows only plain
words there, so DVC rejects any other name before it removes or runs anything.
"""

import os
import re
from pathlib import Path

# Endings of DVC's own files, and of files that .dvcignore excludes.
RESERVED_ENDINGS = (".dvc", ".partial", ".pyc", ".word", "dvc.yaml", "dvc.lock", "dvcfile")


NAME_OUTPUTS = Path("data/names")


def write_name_output(stage: str, items: list[str]) -> None:
    """Write the output `data/names/STAGE/item-NAME.word` of a stage's items."""
    path = NAME_OUTPUTS / stage / f"item-{'-'.join(items)}.word"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(
        f"{path.name}.{os.getpid()}.partial"
    )  # each rank of a training writes it
    partial.write_text("-".join(items) + "\n")
    partial.replace(path)


def check_item_name(word: str, *, besides: str = "") -> str:
    """Check that a name can be part of a command and of a path; return it.

    Args:
        word: The name; letters of any script are allowed.
        besides: Further characters that are allowed.

    Raises:
        ValueError: saying what a name may be.
    """
    if not re.fullmatch(rf"[^\W_][\w.\-{re.escape(besides)}]*", word):
        allowed = ", ".join(f"'{sign}'" for sign in f".-_{besides}")
        raise ValueError(
            f"a name has letters, digits, {allowed}, and begins with a letter or digit"
        )
    if len(word.encode()) > 100 or word.lower().endswith(RESERVED_ENDINGS):
        raise ValueError(
            "a name has at most 100 bytes, and no ending that is DVC's:"
            f" {', '.join(RESERVED_ENDINGS)}"
        )
    return word
