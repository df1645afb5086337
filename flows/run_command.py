"""`auglift run`: the options of a run. The run itself is `flows.pipeline`."""

from typing import Annotated, Any

import typer

from flows.entry_point import DONE, PresetNames, SetWords, Workers
from tasks.commands.command_line import help_end

RUN_EPILOG = help_end(
    "auglift run  # what changed",
    "auglift run gate@0  # that stage, and what it needs",
    "auglift run gate --force  # the gate of all folds, even if nothing changed",
    "auglift run --dry-run  # what would run, and why",
    "auglift run --set train_gan.steps=4000  # with another value, this time only",
    "auglift run --preset gpu  # with the values of presets/gpu.yaml",
    "auglift run --elsewhere auglift-stage/stage  # by the workers of that deployment",
    codes="0 done, 2 wrong input (one line says what), 3 rejected, 1 anything else",
)


def run(
    *,
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE]...",
            help="Such as gate, or gate@0; with what they need. None: all.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Run these stages even where nothing changed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and why; run nothing.")
    ] = False,
    set_: SetWords = None,
    preset: PresetNames = None,
    elsewhere: Annotated[
        str,
        typer.Option(
            metavar="DEPLOYMENT",
            help="Workers in clones of their own run the stages.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Run what changed in the pipeline, as a Prefect flow."""
    from flows.overrides import collect_overrides
    from flows.run_request import RunRequest
    from flows.shell_run import print_plan, run_pipeline

    presets = preset or []
    values = collect_overrides(words=set_ or ())
    overrides = collect_overrides(presets, values=values)
    request = RunRequest(workers, tuple(stages or ()), force, overrides, elsewhere)
    if dry_run:
        print_plan(request)
        raise typer.Exit(DONE)
    raise typer.Exit(run_pipeline(request, presets, values, load_flow=load_flow))


def load_flow() -> Any:
    """Import the flow, and Prefect with it."""
    from flows.pipeline import pipeline

    return pipeline
