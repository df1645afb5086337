"""The deployment `auglift-tune/tune`: a search with the options of `auglift tune`, by a worker."""

import csv
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from flows import tuning_results
from flows.killed_runs import noted_run
from flows.run_failure import StageFailed
from flows.run_names import name_search_run
from flows.tuning_flow import apply_best, open_search, run_trials
from flows.tuning_study import Search
from tasks.stage.errors import InputError


@flow(name="auglift-tune", flow_run_name=name_search_run, persist_result=False)
def tune(
    name: str = "gan",
    *,
    space: list[str] | None = None,
    fix: list[str] | None = None,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    trials: Annotated[int, Field(ge=0)] = 0,
    minutes: Annotated[float, Field(ge=0)] = 0,
    workers: Annotated[int, Field(ge=0)] = 0,
    prune: bool = True,
    fold: str = "0",
    seed: Annotated[int, Field(ge=0)] = 0,
    apply: bool = False,
) -> State[Any]:
    """Search keys of `train_gan` for a better generator; see `auglift tune --help`.

    Args:
        name: Of the search; a run with the same name goes on with it.
        space: What is searched, such as `train_gan.batch=8,16`; none for the default space.
        fix: Values for all trials, such as `train_gan.steps=800`.
        sampler: How values are proposed.
        trials: In all, earlier runs included; 0 for 20, or the whole grid.
        minutes: Start no trial later; 0 for no limit.
        workers: Trials at once; 0 for what processors or GPUs allow.
        prune: Stop trials that lag behind the median.
        fold: Whose training and validation patients.
        seed: Of the proposals.
        apply: Write the best values to `params.yaml`.

    Returns:
        A failed state named `WrongInput` where a retry cannot help.
    """
    logger = get_run_logger()
    try:
        search = Search.parse(
            name=name,
            space=space or (),
            fixed=fix or (),
            fold=fold,
            sampler=sampler,
            trials=trials,
            minutes=minutes,
            workers=workers,
            prunes=prune,
            seed=seed,
        )
        with open_search(search) as (opened, study), noted_run():
            run_trials(opened, study)
            tuning_results.write_results(study, opened.folder)
            if apply:
                apply_best(study, logger.info)
    except InputError as error:
        return Failed(name="WrongInput", message=str(error))
    except StageFailed as error:
        return Failed(message=str(error))
    table = Path(opened.folder, "trials.csv")
    create_markdown_artifact(table_markdown(table), key="trials", description=f"Search {name}")
    return Completed(message=f"{len(tuning_results.ended_trials(study))} trials ended: {table}")


def table_markdown(table: Path) -> str:
    """Return a CSV file as a table of Markdown."""
    with table.open(newline="") as file:
        rows = [[cell.replace("|", "\\|") for cell in row] for row in csv.reader(file)]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
