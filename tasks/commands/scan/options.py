"""The options of `auglift scan`."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from tasks.commands.command_line import help_end


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """Say who is who in a batch before it is ingested, and propose it as files.csv.

    Prints patients, visits, contrasts, masks and what is not understood. Correct files.csv where it
    is wrong; ingest then follows it.
    """

    batch: Annotated[str, typer.Argument(help="A folder of data/raw, or any other folder.")]
    force: Annotated[
        bool, typer.Option("--force", help="Write over the files.csv that is there.")
    ] = False

    epilog: ClassVar[str] = help_end("auglift scan ward7", "auglift scan /mnt/export --force")
