"""Run the pipeline from a shell. Prefect is imported only where there is something to run."""

from collections.abc import Callable, Sequence
from typing import Any

from flows import approval, preflight, summary
from flows.after_run import check_after_run, is_anything_kept, keep_results, read_head
from flows.clone_lock import exclusive_run, wait_for_other_run
from flows.dvc_graph import Plan, print_to_stderr, read_plan
from flows.entry_point import DONE, OTHER, REJECTED, end_on_sigterm, print_error
from flows.overrides import Overrides, overridden
from flows.run_request import RunRequest
from tasks.stage.errors import WRONG_INPUT, InputError


class ServerLost(Exception):  # noqa: N818 - as Prefect names what it raises
    """The Prefect server stopped to answer during a run."""


def run_pipeline(
    request: RunRequest,
    presets: Sequence[str] = (),
    values: Overrides | None = None,
    *,
    load_flow: Callable[[], Any],
) -> int:
    """Check the clone, run what changed and print the verdict.

    Args:
        request: What to run; its overrides are those of the presets and the values.
        presets: Names of the presets, to show on the run's page.
        values: What the command line sets beside them.
        load_flow: Imports and returns the flow, where there is something to run.

    Returns:
        The exit code: 0 accepted or nothing to do, 2 wrong input, 3 rejected, 1 anything else.
    """
    end_on_sigterm()
    try:
        with overridden(request.overrides):
            preflight.check_clone()
            check_after_run(request.overrides)
            wait_for_other_run(print_to_stderr)
            plan = read_plan(names=request.stages, force=request.force)
            if not plan.changed:
                return report_nothing_to_do(plan, request)
            state = start_flow(load_flow)(
                request.workers,
                stages=list(request.stages),
                force=request.force,
                presets=list(presets),
                params=values or {},
                elsewhere=request.elsewhere,
                return_state=True,
            )
    except InputError as error:
        return print_error(str(error), WRONG_INPUT)
    except ServerLost as error:
        return print_error(str(error), OTHER)
    except KeyboardInterrupt:
        return print_error("ended before it was done; the next run goes on from here", OTHER)
    if state.is_completed():
        print(state.message)
        return DONE
    codes = {"Rejected": REJECTED, "WrongInput": WRONG_INPUT}
    return print_error(state.message or "failed", codes.get(str(state.name), OTHER))


def report_nothing_to_do(plan: Plan, request: RunRequest) -> int:
    """Say that all is up to date, with the verdict; keep the results where that is asked for."""
    done = f"Nothing to do: all {len(plan.stages)} stages are up to date."
    if request.stages and not summary.judges(plan.addresses):
        print(done)
        return DONE
    verdict = summary.read_summary(plan.addresses if request.stages else None)
    print(f"{done} {approval.closing_line(verdict)}")
    if verdict.rejected:
        return REJECTED
    if request.stages or not is_anything_kept():
        return DONE
    try:
        with exclusive_run(print_to_stderr):
            keep_results(request, read_head(), print_to_stderr)
    except InputError as error:
        return print_error(str(error), OTHER)
    return DONE


def print_plan(request: RunRequest) -> None:
    """Print which stages a run would run, and why."""
    with overridden(request.overrides):
        preflight.check_clone()
        plan = read_plan(names=request.stages, force=request.force)
    print(f"{len(plan.changed)} of {len(plan.stages)} stages would run")
    width = max((len(stage.address) for stage in plan.changed), default=0)
    for stage in plan.changed:
        before = sorted(stage.needs & {one.address for one in plan.changed})
        why = stage.why or ("forced" if stage.forced else f"if {' or '.join(before)} changes it")
        print(f"  {stage.address:<{width}}  {why}")


def start_flow(load_flow: Callable[[], Any]) -> Callable[..., Any]:
    """Make sure that there is a Prefect server; return the flow, to be called.

    Raises:
        InputError: when there is no server, and none can be started.
        ServerLost: when the flow is called, and the server stops to answer.
    """
    import httpx

    from flows.prefect_server import ensure_server

    run_flow = load_flow()
    ensure_server()

    def call(*positional: Any, **named: Any) -> Any:
        try:
            return run_flow(*positional, **named)
        except httpx.TransportError as error:
            raise ServerLost(
                f"the Prefect server does not answer any more ({error}); stages that ended are"
                " kept, start it and run again"
            ) from None

    return call
