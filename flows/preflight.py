"""Check a clone before a run: folder, disk, `params.yaml`, batches, source of slices."""

import importlib
import os
import shutil
import tempfile
from pathlib import Path

from flows.secret_values import check_params_hold_no_secret
from tasks import params
from tasks.ingest.privacy.private_files import make_private_folder
from tasks.params import Section
from tasks.params.release import Release
from tasks.stage.errors import InputError
from tasks.stage.params_file import read_overrides

NEEDED_BYTES = 300 * 2**20
GENERATORS = Path("data/gan")


def check_clone() -> list[str]:
    """Check the folder, the disk, every section of `params.yaml`, the batches and the source.

    Returns:
        One line for each check.

    Raises:
        InputError: one line that says what was found, what was expected and what to do.
    """
    lines = [check_root(), check_disk()]
    make_private_folder()
    return [*lines, check_params(), check_batches(), check_source()]


def check_root() -> str:
    """Check that the current folder is the root of a clone."""
    for needed in ("dvc.yaml", "params.yaml", ".dvc", ".git"):
        if not Path(needed).exists():
            raise InputError(f"{needed} is not here; run from the root of a clone of auglift")
    if shutil.which("git") is None:
        raise InputError("git was not found; DVC needs it, install it first")
    return f"root      {Path.cwd()}"


def check_disk() -> str:
    """Check that the disk can be written and has room for the first stages."""
    try:
        with tempfile.TemporaryFile(dir=".") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise InputError(
            f"{Path.cwd()} cannot be written ({os.strerror(error.errno or 0)}); make it"
            " writable or free some space (`dvc gc -w` drops unused versions)"
        ) from None
    free = shutil.disk_usage(".").free
    if free < NEEDED_BYTES:
        raise InputError(
            f"the disk is nearly full: {free / 2**20:.0f} MiB free, at least"
            f" {NEEDED_BYTES / 2**20:.0f} MiB expected; free some space"
            " (`dvc gc -w` drops unused versions)"
        )
    return f"disk      {free / 2**30:.1f} GiB free"


def check_params() -> str:
    """Check every section of `params.yaml`, whether its stage has to run or not."""
    for key, value in params.leaf_values(params.load_params()):
        if not isinstance(value, str | int | float | bool | None):
            raise InputError(
                f"params.yaml: {key} is a {type(value).__name__}, which DVC cannot read;"
                f' write it in quotes: "{value}"'
            )
    try:
        for name in params.SECTIONS:
            params.read_section(section_model(name))
    except InputError as error:
        keys = ", ".join(read_overrides())
        raise InputError(f"{error} (this run sets {keys})" if keys else str(error)) from None
    check_params_hold_no_secret()
    params.read_section(Release).choose_fold(params.read_key("slices.folds"))
    return f"params    {len(params.SECTIONS)} sections valid"


def section_model(name: str) -> type[Section]:
    """Return the model of a section: the class in `tasks/params/NAME.py` with `section` NAME."""
    module = importlib.import_module(f"tasks.params.{name}")
    models = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Section) and value is not Section
        and getattr(value, "section", None) == name
    ]  # fmt: skip
    return models[0]


def check_batches() -> str:
    """Check that every listed batch lies in `data/raw` or is made by `data/raw/dvc.yaml`."""
    batches: list[str] = params.read_key("data.batches")
    raw = Path("data/raw")
    for batch in batches:
        if not (raw / batch).is_dir() and batch not in batches_dvc_makes():
            there = sorted(path.name for path in raw.iterdir() if path.is_dir())
            raise InputError(
                f"params.yaml: data.batches lists {batch!r}, but data/raw/{batch} is missing;"
                f" put the batch there (`dvc pull` if it is tracked) or take it off the list;"
                f" found: {', '.join(there) or 'none'}, can be made:"
                f" {', '.join(batches_dvc_makes())}"
            )
    return f"batches   {', '.join(batches)}"


def check_source() -> str:
    """Check that the folder of synthetic slices exists, or that `train_gan` makes it."""
    source = Path(str(params.read_key("synthetic.source")))
    if source != GENERATORS and not source.is_dir():
        raise InputError(
            f"params.yaml: synthetic.source is {str(source)!r}, which is no folder; put images and"
            f" masks there, or set it to {GENERATORS} to train a generator"
        )
    return f"source    {source}"


def batches_dvc_makes() -> list[str]:
    """Return the batches that `data/raw/dvc.yaml` makes: its stages are named like them."""
    import yaml

    return list(yaml.safe_load(Path("data/raw/dvc.yaml").read_text())["stages"])
