"""`auglift`: the commands of a clone. Each command imports what is heavy when it runs."""

import subprocess
import sys
from typing import Annotated

import typer

from flows.approval_commands import EXIT_CODES, approve, refuse
from flows.entry_point import run_app
from flows.release_commands import app as release_app
from flows.run_command import RUN_EXAMPLES, run
from flows.tune import tune

app = typer.Typer(
    name="auglift",
    help="Would synthetic slices help your tumour models? Run it from the root of a clone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command(epilog=RUN_EXAMPLES)(run)
app.command()(tune)
app.command(epilog=EXIT_CODES)(approve)
app.command(epilog=EXIT_CODES)(refuse)
app.add_typer(release_app, name="release")


@app.command()
def check() -> None:
    """Say what would be wrong with a run, and what it would do, without starting it."""
    from flows import preflight
    from flows.dvc_graph import read_plan

    for line in preflight.check_clone():
        print(line)
    plan = read_plan()
    names = ", ".join(stage.address for stage in plan.changed)
    print(f"stages    {len(plan.stages)}, to run: {names or 'none'}")


@app.command()
def summary() -> None:
    """Print the verdict, the lift, and where report and release lie."""
    from flows import summary as results

    print(results.format_summary(results.read_summary()))


@app.command()
def scan(
    batch: Annotated[str, typer.Argument(help="A folder of data/raw, or any other folder.")],
    *,
    force: Annotated[bool, typer.Option(help="Write over the files.csv that is there.")] = False,
) -> None:
    """Say who is who in a batch before it is ingested, and propose it as files.csv."""
    run_module("tasks.commands.scan", [*(["--force"] if force else []), "--", batch])


command_of_module = app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)


@command_of_module
def judge(context: typer.Context) -> None:
    """Judge a folder of synthetic images: --real DIR --synthetic DIR [--train DIR] [--out DIR]."""
    run_module("tasks.commands.judge", context.args)


@command_of_module
def generate(context: typer.Context) -> None:
    """Draw slices: --count N --out DIR [--label tumor] [--seed S] [--format nifti] [--from DIR]."""
    run_module("tasks.commands.export.generate_cli", context.args)


@command_of_module
def export(context: typer.Context) -> None:
    """Pack the generator for other tools: --format monai-bundle|medigan --out DIR [--from DIR]."""
    run_module("tasks.commands.export.export_cli", context.args)


@command_of_module
def export_dataset(context: typer.Context) -> None:
    """Write a release for training: --format nnunet|monai-datalist|bids|folder --out DIR."""
    run_module("tasks.commands.export_dataset", context.args)


@command_of_module
def review(context: typer.Context) -> None:
    """Rate real and synthetic slices, blinded, on a local page: [-n N] [--reader AB]; or export."""
    run_module("tasks.commands.review", context.args)


def run_module(module: str, arguments: list[str]) -> None:
    """Run a command in a process of its own, because it needs torch; leave with its exit code."""
    command = [sys.executable, "-m", module, *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def main() -> None:
    """Run `auglift`."""
    run_app(app)


if __name__ == "__main__":
    main()
