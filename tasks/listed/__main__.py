"""Stage `listed@FOLDER`: keep only what `params.yaml` lists in a folder of stage outputs.

A stage that collects the outputs of sibling stages depends on their common folder. What is no
longer listed (a batch, a fold, an arm, a task) would stay in that folder, and DVC would hash it on
this machine only: the next machine would compute everything again. So it is moved to
`.unlisted/FOLDER/`, and `dvc.lock` holds the folder as it is afterwards. Once a moved output is
listed again, DVC restores it from its cache.

Reads and tidies `data/FOLDER`; writes `data/listed/FOLDER.json`, the names in it.
"""

import json
import shutil
from pathlib import Path

from tasks import params
from tasks.stage.stage_io import atomic_output, discard
from tasks.stage.stage_runtime import run_stage

DATA = Path("data")
UNLISTED = Path(".unlisted")


def main(folder: str) -> None:
    """Move aside what is not listed, and write the listed names."""
    names = listed_names(folder)
    with atomic_output(DATA / "listed" / f"{folder}.json") as out:
        for path in sorted((DATA / folder).iterdir()):
            if path.name not in names and path.suffix != ".partial":
                move_aside(path, UNLISTED / folder / path.name)
        out.write_text(json.dumps(names, indent=1, ensure_ascii=False) + "\n")


def listed_names(folder: str) -> list[str]:
    """Return the sorted names that `params.yaml` allows in a folder."""
    if folder == "volumes":
        names = params.read_key("data.batches")
    elif folder == "downstream":
        tasks, arms = params.read_key("downstream.tasks"), params.read_key("downstream.arms")
        names = [f"{task}-{arm}" for task in tasks for arm in arms]
    else:
        names = params.read_key("slices.folds")
    return sorted({str(name) for name in names})


def move_aside(path: Path, target: Path) -> None:
    """Move a file or folder, and replace an older one of its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    discard(target)
    shutil.move(path, target)
    print(f"listed: {path} is not listed in params.yaml, moved to {target}")


if __name__ == "__main__":
    run_stage(main)
