"""Names of items (batch, fold, task, arm): what they may be, and how DVC comes to know them.

Items come from `params.yaml` and become parts of commands and paths, so each must be a word
(`check_item_name`). `dvc.yaml` hands them on as `--batch NAME`, which DVC quotes for the shell, and
declares of each the output `data/names/STAGE/item-NAME.word`: `.dvcignore` lets DVC write there
only what is a word, so DVC refuses any other name before it removes or runs anything.
"""

import os
import re
from pathlib import Path

# Files that DVC takes for its own or, by .dvcignore, for rubbish.
RESERVED_ENDINGS = (".dvc", ".partial", ".pyc", ".word", "dvc.yaml", "dvc.lock", "dvcfile")


NAME_OUTPUTS = Path("data/names")


def write_name_output(name: str, items: list[str]) -> None:
    """Write the output that DVC knows an item's name by."""
    note = NAME_OUTPUTS / name / f"item-{'-'.join(items)}.word"
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_name(f"{note.name}.{os.getpid()}.partial")  # ranks of a training write too
    partial.write_text("-".join(items) + "\n")
    partial.replace(note)


def check_item_name(word: str, *, besides: str = "") -> str:
    """Let a name pass that can be part of a command and of a path: letters of any script are fine.

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
