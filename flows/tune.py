"""`auglift tune`: the options of a search. The search itself is `flows.tuning_flow`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.entry_point import run_command
from tasks.commands.command_line import help_end

EPILOG = help_end(
    "auglift tune --trials 20",
    "auglift tune --name lr --set train_gan.learning_rate=1e-4..1e-2:log --apply",
)


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
    objective: Annotated[
        Literal["ratio", "readers"],
        typer.Option(
            help="readers: train nothing, choose among trials that readers compared"
            " (`auglift review --search NAME`)."
        ),
    ] = "ratio",
    apply: Annotated[bool, typer.Option(help="Write the best values to params.yaml.")] = False,
) -> None:
    """Search train_gan's keys for the least Fréchet ratio to validation patients."""
    from flows import search_space as spaces
    from flows.tuning_flow import run_search
    from flows.tuning_study import Search

    if objective == "readers":
        from flows.tuning_readers import choose_by_readers

        choose_by_readers(spaces.check_search_name(name), apply=apply)
        return
    search = Search.parse(
        name=name,
        space=set_ or (),
        space_file=space,
        fixed=fix or (),
        fold=fold,
        sampler=sampler,
        trials=trials,
        minutes=minutes,
        workers=workers,
        prunes=prune,
        seed=seed,
    )
    raise typer.Exit(run_search(search, apply=apply))


if __name__ == "__main__":
    run_command(tune)
