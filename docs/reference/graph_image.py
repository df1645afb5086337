"""Draw the graph of `dvc.yaml` as an SVG that needs no library to be shown, light or dark."""

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import yaml

ROOT = Path(__file__).parents[2]
# What each stage is for, in three words; a stage without words is drawn by its name alone.
WORDS = {
    "ingest": "read, check, pseudonymise", "slices": "split patients, cut slices",
    "train_gan": "learn image and mask", "generate": "draw synthetic slices",
    "gate": "accept or reject them", "teacher": "judge scans without outlines",
    "implant": "paint tumours into scans",
    "pool": "what each arm adds", "downstream": "train and test each arm",
    "lift": "compare, patient by patient", "report": "one page for people",
    "release": "data set, or a refusal",
}  # fmt: skip
HIDDEN = {"listed", "phantom"}
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 212, 52, 26, 44, 10
STYLE = """
text { font: 15px system-ui, sans-serif; fill: #1c2430; text-anchor: middle }
.small { font-size: 12px; fill: #4a5565 }
rect { fill: #eef3fa; stroke: #4a6a96; stroke-width: 1.2 }
path { fill: none; stroke: #7d8da3; stroke-width: 1.4; marker-end: url(#tip) }
marker path { fill: #7d8da3; stroke: none; marker-end: none }
@media (prefers-color-scheme: dark) {
 text { fill: #e8edf4 } .small { fill: #b4bfcd }
 rect { fill: #22304a; stroke: #8aa7d2 }
}
"""


def render() -> str:
    """Return the drawing."""
    graph = reduced(stage_graph())
    places = layout(graph)
    width = MARGIN * 2 + max(x for x, _ in places.values()) + WIDTH
    height = MARGIN * 2 + max(y for _, y in places.values()) + HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        "<title>The stages of dvc.yaml, from data/raw to data/release</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for stage, needs in graph.items():
        for other in sorted(needs):
            lines.append(f'<path d="{curve(places[other], places[stage])}"/>')
    for stage, (left, top) in places.items():
        x, y = left + MARGIN, top + MARGIN
        middle = x + WIDTH / 2
        words = WORDS.get(stage)
        lines.append(f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>')
        lines.append(
            f'<text x="{middle:g}" y="{y + (22 if words else 31):g}">{escape(stage)}</text>'
        )
        if words:
            lines.append(
                f'<text class="small" x="{middle:g}" y="{y + 41:g}">{escape(words)}</text>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


def stage_graph() -> dict[str, set[str]]:
    """Return each stage with the stages whose outputs it reads, from the paths in `dvc.yaml`."""
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outputs = {
        name: [start_of(out) for out in paths(each, "outs")] for name, each in stages.items()
    }
    graph: dict[str, set[str]] = {}
    for name, each in stages.items():
        if name in HIDDEN:
            continue
        read = [start_of(path) for path in paths(each, "deps")]
        graph[name] = {
            other
            for other, written in outputs.items()
            if other not in HIDDEN | {name} and any(overlap(a, b) for a in read for b in written)
        }
    return graph


def paths(stage: Mapping[str, Any], key: str) -> list[str]:
    """Return the paths of a stage's inputs or outputs."""
    body = stage.get("do", stage)
    found = [each if isinstance(each, str) else next(iter(each)) for each in body.get(key, [])]
    found += [
        each if isinstance(each, str) else next(iter(each))
        for kind in ("metrics", "plots")
        for each in body.get(kind, [])
        if key == "outs"
    ]
    return [each for each in found if each.startswith(("data/", "${synthetic.source}"))]


def start_of(path: str) -> str:
    """Return the part of a path before its item, such as `data/gan` of `data/gan/${item}`."""
    path = path.replace("${synthetic.source}", "data/gan")
    return path.partition("/${")[0].rstrip("/")


def overlap(first: str, second: str) -> bool:
    """Return whether one path is the other or lies in it; names of items do not count."""
    if "data/names" in first or "data/listed" in first:
        return False
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")


def reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the graph without arrows that follow from others, so that it can be read."""
    above: dict[str, set[str]] = {}
    for stage in TopologicalSorter(graph).static_order():
        above[stage] = set(graph[stage]).union(*(above[other] for other in graph[stage]))
    return {
        stage: {
            other for other in needs if not any(other in above[third] for third in needs - {other})
        }
        for stage, needs in graph.items()
    }


def layout(graph: dict[str, set[str]]) -> dict[str, tuple[float, float]]:
    """Return the place of each stage: as deep as its longest way from the first stage."""
    depth: dict[str, int] = {}
    for stage in TopologicalSorter(graph).static_order():
        depth[stage] = 1 + max((depth[other] for other in graph[stage]), default=-1)
    rows: dict[int, list[str]] = {}
    for stage in graph:
        rows.setdefault(depth[stage], []).append(stage)
    widest = max(map(len, rows.values()))
    full = widest * WIDTH + (widest - 1) * GAP_X
    places = {}
    for row, stages in rows.items():
        own = len(stages) * WIDTH + (len(stages) - 1) * GAP_X
        for number, stage in enumerate(stages):
            x = (full - own) / 2 + number * (WIDTH + GAP_X)
            places[stage] = (x, row * (HEIGHT + GAP_Y))
    return places


def curve(above: tuple[float, float], below: tuple[float, float]) -> str:
    """Return the path from the lower edge of a box to the upper edge of another."""
    x0, y0 = above[0] + MARGIN + WIDTH / 2, above[1] + MARGIN + HEIGHT
    x1, y1 = below[0] + MARGIN + WIDTH / 2, below[1] + MARGIN - 2
    beside = abs(x1 - x0) > WIDTH / 2
    if y1 - y0 > GAP_Y * 2 and beside:  # past the boxes between, then into the side
        middle = y1 + 2 + HEIGHT / 2
        edge = x1 + (WIDTH / 2 + 2) * (1 if x0 > x1 else -1)
        bend = 10 if x0 < edge else -10
        return f"M{x0:g} {y0:g}V{middle - 10:g}q0 10 {bend:g} 10H{edge:g}"
    return f"M{x0:g} {y0:g}C{x0:g} {y0 + 24:g} {x1:g} {y1 - 24:g} {x1:g} {y1:g}"
