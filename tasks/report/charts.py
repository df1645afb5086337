"""Draw the page's charts as SVG without clock, version or random ids: the same bytes every time."""

import base64
import textwrap
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.report import wording
from tasks.schemas.lift import ArmFigure
from tasks.schemas.metrics import GateMeasure

# Okabe and Ito's palette: told apart by colour-blind readers; shapes say the same once more.
BLUE, VERMILLION, GREY, INK = "#0072B2", "#D55E00", "#6b7280", "#1f2933"
LINE_COLOURS: Final = [BLUE, VERMILLION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "path",
}
LABEL_CHARACTERS = 30  # of a line beside a plot; longer labels take several
WIDTH = 4.6  # inches: drawn for a phone's width, so that the letters stay readable there


def svg_data_uri(figure: Figure, name: str) -> str:
    """Encode the figure as a data URI; `name` seeds the ids inside."""
    buffer = BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Difference:
    """A line of a forest plot: an arm's difference to another, or why there is none."""

    label: str
    value: float | None
    bounds: tuple[float, float] | None
    instead: str = "not measured"


def differences_to_real(arms: dict[str, ArmFigure]) -> list[Difference]:
    """Return the lines of each arm's lift over `real`."""
    return [
        Difference(
            wording.arm_name(arm),
            figures.lift_over_real,
            figures.lift_ci95,
            "not measured" if figures.status == "ok" else figures.status,
        )
        for arm, figures in arms.items()
        if arm != "real"
    ]


def forest_plot(
    name: str, shown: list[Difference], *, larger_is_better: bool | None, to: str = "real"
) -> str:
    """Plot differences with their 95 % intervals; a filled mark excludes zero.

    Args:
        name: of the plot; it seeds the ids inside.
        shown: the lines, from the top.
        larger_is_better: which side of zero is better; None: neither.
        to: what the differences are to, for the axis.
    """
    with mpl.rc_context(STYLE):
        labels = [textwrap.wrap(each.label, LABEL_CHARACTERS) for each in shown]
        row_in = 0.36 + 0.14 * (max(map(len, labels), default=1) - 1)
        height_in = row_in * len(shown) + 0.75
        figure = Figure(figsize=(WIDTH, height_in))
        # Fixed margins: a layout engine would draw everything twice, and no two plots line up.
        names_in = 0.15 + 0.07 * max([4, *(len(line) for lines in labels for line in lines)])
        left = names_in / WIDTH
        axes = figure.add_axes((left, 0.55 / height_in, 0.97 - left, 1 - 0.65 / height_in))
        axes.axvline(0, color=INK, linewidth=1)
        for height, each in enumerate(reversed(shown)):
            if each.value is None:
                continue
            low, high = each.bounds or (each.value, each.value)
            colour, filled = lift_colour(low, high, larger_is_better)
            axes.plot([low, high], [height, height], color=colour, linewidth=2)
            axes.plot(
                each.value, height, "o", markersize=7, markeredgecolor=colour, markeredgewidth=1.5,
                markerfacecolor=colour if filled else "white",
            )  # fmt: skip
        low, high = axes.get_xlim()
        side = "right" if -low > 2 * high else "left"  # of zero, where the words have room
        for height, each in enumerate(reversed(shown)):
            if each.value is None:
                words = f"  {each.instead}  "
                axes.text(0, height, words, va="center", ha=side, color=GREY, style="italic")
        axes.set_yticks(range(len(shown)), ["\n".join(lines) for lines in reversed(labels)])
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        label = f"difference to {to}"
        if larger_is_better is not None:
            ends = ("worse", "better") if larger_is_better else ("better", "worse")
            label = f"{ends[0]}  ←   {label}   →  {ends[1]}"
        axes.set_xlabel(label, loc="right")  # it is wider than the axes beside long names
        return svg_data_uri(figure, f"forest-{name}")


def lift_colour(low: float, high: float, larger_is_better: bool | None) -> tuple[str, bool]:
    """Choose blue for a gain, vermillion for a loss, hollow grey where the interval holds zero."""
    if low <= 0 <= high:
        return GREY, False
    if larger_is_better is None:
        return INK, True
    return (BLUE if (low > 0) == larger_is_better else VERMILLION), True


def ratio_chart(name: str, measures: dict[str, GateMeasure]) -> str:
    """Plot each measure's ratio to real against real, its interval, and the range that is allowed.

    A filled blue dot is within its limit, a vermillion cross outside, a blue diamond within a
    standard error of it; a hollow dot has no limit.
    """
    shown = {
        measure_name: measure
        for measure_name, measure in measures.items()
        if measure.ratio is not None
    }
    low, high = ratio_axis_limits(list(shown.values()))
    with mpl.rc_context(STYLE):
        height_in = 0.3 * len(shown) + 0.75
        figure = Figure(figsize=(WIDTH * 1.25, height_in))
        axes = figure.add_axes((0.36, 0.5 / height_in, 0.61, 1 - 0.6 / height_in))
        for height, measure in enumerate(reversed(shown.values())):
            if measure.limit is not None:
                left, right = measure.limit[0] or low, measure.limit[1] or high
                axes.barh(height, right - left, left=left, height=0.62, color="#dbe9f4")
            plot_ratio(axes, height, measure, low=low, high=high)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(
            range(len(shown)),
            [wording.measure_entry(measure_name).name for measure_name in reversed(shown)],
        )
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.tick_params(axis="y", length=0, pad=9)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ratio to real against real (1: like real)")
        return svg_data_uri(figure, name)


def plot_ratio(axes: Axes, height: float, measure: GateMeasure, *, low: float, high: float) -> None:
    """Plot one measure's interval and mark, clipped to the axis."""
    colour = {"within": BLUE, "uncertain": BLUE, "outside": VERMILLION, None: GREY}[measure.status]
    ratio = min(max(measure.ratio or low, low), high)
    if measure.ci95 is not None and None not in measure.ci95:
        ends = [min(max(end or low, low), high) for end in measure.ci95]
        axes.plot(ends, [height, height], color=colour, linewidth=2)
    marker = {"within": "o", "uncertain": "D", "outside": "X", None: "o"}[measure.status]
    axes.plot(
        ratio, height, marker, markersize=7, markeredgecolor=colour, markeredgewidth=1.5,
        markerfacecolor="white" if measure.status is None else colour, clip_on=False,
    )  # fmt: skip


def ratio_axis_limits(measures: list[GateMeasure]) -> tuple[float, float]:
    """Compute the axis for ratios and limits: from at least 0.2 to 5, at most 0.02 to 100."""
    figures = [measure.ratio for measure in measures] + [
        end for measure in measures for end in measure.limit or ()
    ]
    positive = [figure for figure in figures if figure is not None and figure > 0]
    low, high = min([0.2, *positive]) / 1.3, max([5.0, *positive]) * 1.3
    return max(low, 0.02), min(high, 100.0)


def training_curves(name: str, history: pd.DataFrame, columns: list[str], title: str) -> str:
    """Plot columns of a training history over its steps."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6))
        axes = figure.add_axes((0.11, 0.18, 0.86, 0.72))
        for number, column in enumerate(columns):
            defined = history[["step", column]].dropna()
            dash = ["-", "--", "-.", ":"][number % 4]
            axes.plot(
                defined["step"], defined[column], dash, color=LINE_COLOURS[number % 6],
                linewidth=1.6, label=wording.series_name(column),
            )  # fmt: skip
        axes.set_xlabel("training step")
        axes.set_title(title, loc="left", fontsize=9)
        if np.nanmin(history[columns].to_numpy(dtype=float)) >= 0:
            axes.set_ylim(bottom=0)
        axes.grid(color="#e4e7eb", linewidth=0.8)
        axes.legend(frameon=False, fontsize=8)
        return svg_data_uri(figure, f"curves-{name}")
