"""`auglift`: the commands of a clone. What is heavy is imported by the command that needs it."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tasks.stage.errors import WRONG_INPUT, InputError

app = typer.Typer(
    name="auglift",
    help="Would synthetic slices help your tumour models? Run it from the root of a clone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Workers = Annotated[
    int,
    typer.Option(
        min=0, envvar="AUGLIFT_WORKERS", help="Stages at once; 0 for as many as processors."
    ),
]


@app.command()
def run(workers: Workers = 0) -> None:
    """Run what changed in the pipeline, as a Prefect flow."""
    from flows.pipeline import run as run_pipeline

    raise typer.Exit(run_pipeline(workers))


@app.command()
def check() -> None:
    """Say what would be wrong with a run, and what it would do, without starting it."""
    from flows import preflight
    from flows.dvc_graph import read_plan

    for line in preflight.check():
        print(line)
    plan = read_plan()
    names = ", ".join(stage.address for stage in plan.changed)
    print(f"stages    {len(plan.stages)}, to run: {names or 'none'}")


@app.command()
def summary() -> None:
    """Print the verdict, the lift, and where report and release lie."""
    from flows import summary as results

    print(results.text(results.read()))


@app.command()
def tune(
    *,
    name: Annotated[
        str, typer.Option(help="Of the search; the same name goes on with it.")
    ] = "gan",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=1e-4..1e-2:log, KEY=8..32:step=8 or KEY=8,16; repeat it."),
    ] = None,
    space: Annotated[Path | None, typer.Option(help="A YAML file of the same.")] = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for all trials, such as train_gan.steps=800; repeat it."),
    ] = None,
    sampler: Annotated[
        Literal["tpe", "random", "grid"], typer.Option(help="How values are proposed.")
    ] = "tpe",
    trials: Annotated[
        int, typer.Option(min=0, help="In all, earlier runs included; 0: 20, or the whole grid.")
    ] = 0,
    minutes: Annotated[float, typer.Option(min=0, help="Start no trial later; 0: no limit.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Trials at once; 0 for what processors or GPUs allow.")
    ] = 0,
    prune: Annotated[bool, typer.Option(help="Stop trials that lag behind the median.")] = True,
    fold: Annotated[str, typer.Option(help="Whose training and validation patients.")] = "0",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    apply: Annotated[bool, typer.Option(help="Write the best values to params.yaml.")] = False,
) -> None:
    """Search train_gan's keys for the least Fréchet ratio to validation patients."""
    from flows import search_space as spaces
    from flows.tune import Search
    from flows.tune import run as run_search

    search = Search(
        name=spaces.plain(name),
        space=spaces.read(set_ or (), space),
        fixed=spaces.fixed(fix or ()),
        fold=fold,
        sampler=sampler,
        trials=trials,
        minutes=minutes,
        workers=workers,
        prunes=prune,
        seed=seed,
    )
    raise typer.Exit(run_search(search, apply=apply))


@app.command()
def scan(
    batch: Annotated[str, typer.Argument(help="A folder of data/raw, or any other folder.")],
    *,
    force: Annotated[bool, typer.Option(help="Write over the files.csv that is there.")] = False,
) -> None:
    """Say who is who in a batch before it is ingested, and propose it as files.csv."""
    run_module("tasks.commands.scan", [*(["--force"] if force else []), "--", batch])


passes_on = app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)


@passes_on
def judge(context: typer.Context) -> None:
    """Judge a folder of synthetic images: --real DIR --synthetic DIR [--train DIR] [--out DIR]."""
    run_module("tasks.commands.judge", context.args)


@passes_on
def generate(context: typer.Context) -> None:
    """Draw slices: --count N --out DIR [--label tumor] [--seed S] [--format nifti] [--from DIR]."""
    run_module("tasks.commands.export.generate_cli", context.args)


@passes_on
def export(context: typer.Context) -> None:
    """Pack the generator for other tools: --format monai-bundle|medigan --out DIR [--from DIR]."""
    run_module("tasks.commands.export.export_cli", context.args)


def run_module(module: str, words: list[str]) -> None:
    """Run a command in a process of its own: it needs libraries that no front door imports."""
    command = [sys.executable, "-m", module, *words]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def main(door: typer.Typer = app) -> None:
    """Run `auglift`; wrong input is one line and exit code 2."""
    try:
        door()
    except InputError as error:
        typer.echo(f"auglift: {error}", err=True)
        raise SystemExit(WRONG_INPUT) from None


if __name__ == "__main__":
    main()
