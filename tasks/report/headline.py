"""Say the verdict and the claim in one sentence, and compare with the strongest training."""

from dataclasses import dataclass

from tasks.common.release_candidate import SIMULATED
from tasks.report import charts, wording
from tasks.report.image_panels import PageImage
from tasks.schemas.lift import CONVERGED, Claim, Lift

CLAIM_WORDS: dict[Claim, str] = {
    "helps": "they improve {tasks}",
    "harms": "they make {tasks} worse",
    "no evidence": "no lift from them is shown in {tasks}",
    "not measured": "what they do for {tasks} could not be measured",
}


@dataclass(frozen=True)
class StrongestReference:
    """The arm without synthetic slices that tested best, and the candidates beside it."""

    arm: str
    metric: str
    chart: PageImage


def write_headline(accepted: bool, lift: Lift, whose: str) -> str:
    """Write the verdict of the gate and the claims of all tasks as one sentence.

    Args:
        accepted: the verdict.
        lift: the claims, and how many patients were tested.
        whose: of whom the real slices are (`describe_patients`).
    """
    verdict = f"The gate {'accepts' if accepted else 'rejects'} these synthetic slices"
    claims = []
    for claim, words in CLAIM_WORDS.items():
        tasks = [name for name, own in lift.claim.items() if own == claim]
        named = [wording.TASKS[task].name.lower() if task in wording.TASKS else task
                 for task in tasks]  # fmt: skip
        joined = " and ".join(named) if claim in {"helps", "harms"} else " or ".join(named)
        claims += [words.format(tasks=joined)] if tasks else []
    simulated = whose == SIMULATED
    patients = f"{lift.n_patients} {'simulated ' * simulated}test patients"
    tested = f", on {patients}" if lift.n_patients and claims else ""
    phantom = " (a phantom)" if simulated and tested else ""
    return f"{verdict}{', and ' if claims else ''}{', and '.join(claims)}{tested}{phantom}."


def against_strongest(task: str, lift: Lift) -> StrongestReference | None:
    """Compare the arms with synthetic slices with the strongest one without; None: there is none.

    The strongest is the reference with the best mean of the task's primary metric.
    """
    contrasts = lift.contrasts.get(task, [])
    name = lift.primary.get(task, "")
    arms, entry = lift.tasks.get(task, {}).get(name, {}), wording.metric_entry(name)
    means = {
        contrast.reference: mean
        for contrast in contrasts
        if contrast.reference in arms
        and arms[contrast.reference].status in CONVERGED
        and (mean := arms[contrast.reference].mean) is not None
    }
    if not means:
        return None
    best = min if entry.larger_is_better is False else max
    reference = best(means, key=lambda arm: means[arm])
    label = wording.arm_name(reference)
    lines = [
        charts.Difference(wording.arm_name(each.arm), each.lift, each.ci95)
        for each in contrasts
        if each.reference == reference
    ]
    uri = charts.forest_plot(
        f"{task}-strongest", lines, larger_is_better=entry.larger_is_better, to="the strongest"
    )
    figures = [
        f"{each.label}: {wording.format_signed(each.value)}"
        f" ({wording.format_interval(each.bounds)})"
        for each in lines
    ]
    alt = f"{entry.name}, difference to {label}, 95 % interval: {'; '.join(figures)}"
    figure = wording.format_number(means[reference])
    caption = (
        f"{entry.name} of each training with synthetic slices, less that of “{label}” ({figure}),"
        " the strongest training without them. This is the lift that a claim is about."
    )
    return StrongestReference(label, entry.name, PageImage(uri, alt, caption, 0, 0))
