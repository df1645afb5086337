"""`auglift`: the commands of a clone. Each command imports what is heavy when it runs."""

import subprocess
import sys
from typing import Annotated, Any

import typer

from flows.approval_commands import APPROVE_EPILOG, REFUSE_EPILOG, approve, refuse
from flows.compare_command import COMPARE_EPILOG, compare
from flows.entry_point import PresetNames, SetWords, run_app
from flows.intake_command import INTAKE_EPILOG, intake
from flows.notify import NOTIFY_EPILOG, notify
from flows.pacs_commands import app as pacs_app
from flows.release_commands import app as release_app
from flows.run_command import RUN_EPILOG, run
from flows.tune import EPILOG as TUNE_EPILOG
from flows.tune import tune
from tasks.commands.command_line import ForwardedCommand, forwarded_command_of, help_end
from tasks.commands.export.options import ExportOptions, GenerateOptions
from tasks.commands.export_dataset.options import ExportDatasetOptions
from tasks.commands.judge.options import JudgeOptions
from tasks.commands.scan.options import ScanOptions

app = typer.Typer(
    name="auglift",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="`auglift COMMAND --help` shows examples and exit codes.",
)


@app.callback()
def auglift(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
) -> None:
    """Would synthetic slices help your tumour models? Run it from the root of a clone."""


app.command(epilog=RUN_EPILOG)(run)
app.command(epilog=INTAKE_EPILOG)(intake)


@app.command(epilog=help_end("auglift check", "auglift check --preset patients"))
def check(*, set_: SetWords = None, preset: PresetNames = None) -> None:
    """Say what would be wrong with a run, and what it would do, without starting it."""
    from flows import preflight
    from flows.dvc_graph import read_plan
    from flows.overrides import collect_overrides, overridden

    with overridden(collect_overrides(preset or (), set_ or ())):
        for line in preflight.check_clone():
            print(line)
        plan = read_plan()
    print(f"stages    {len(plan.stages)}, to run: {plan.list_changed()}")


@app.command(epilog=help_end("auglift summary"))
def summary() -> None:
    """Print the verdict, the lift, and where report and release lie."""
    from flows import summary as results

    print(results.format_summary(results.read_summary()))


app.command(epilog=COMPARE_EPILOG)(compare)
app.command(epilog=TUNE_EPILOG)(tune)
app.command(epilog=NOTIFY_EPILOG)(notify)
app.command(epilog=APPROVE_EPILOG)(approve)
app.command(epilog=REFUSE_EPILOG)(refuse)
app.add_typer(release_app, name="release")
app.add_typer(pacs_app, name="pacs")


def add_process_command(name: str, options: type[Any], module: str) -> None:
    """Add a command that is a process of its own, because it needs torch or much memory.

    Its words are checked here, before the process starts, and handed on as they were given.
    """

    command = forwarded_command_of(options, lambda words: run_module(module, words))
    app.command(name, cls=ForwardedCommand, epilog=options.epilog)(command)


add_process_command("scan", ScanOptions, "tasks.commands.scan")
add_process_command("judge", JudgeOptions, "tasks.commands.judge")
add_process_command("generate", GenerateOptions, "tasks.commands.export.generate_cli")
add_process_command("export", ExportOptions, "tasks.commands.export.export_cli")
add_process_command("export-dataset", ExportDatasetOptions, "tasks.commands.export_dataset")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def review(context: typer.Context) -> None:
    """Rate real and synthetic slices, blinded, on a local page; export the answers."""
    run_module("tasks.commands.review", context.args)


def run_module(module: str, arguments: list[str]) -> None:
    """Run a command in a process of its own; leave with its exit code."""
    command = [sys.executable, "-m", module, *arguments]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def main() -> None:
    """Run `auglift`."""
    run_app(app)


if __name__ == "__main__":
    main()
