"""Tabulate the measures of the gate, each with its name in plain words and its limit."""

from collections.abc import Mapping
from typing import Any

from tasks.report import wording
from tasks.schemas.metrics import GateMeasure


def measure_rows(measures: Mapping[str, GateMeasure]) -> list[dict[str, Any]]:
    """Return a row a measure, as `measure_table.html.j2` shows it."""
    return [
        {
            "name": name,
            "meaning": wording.measure_entry(name),
            "value": wording.format_number(measure.value),
            "baseline": wording.format_number(measure.baseline),
            "ratio": wording.format_number(measure.ratio),
            "interval": wording.format_interval(measure.ci95),
            "limit": measure.limit_in_words,
            "status": wording.LIMIT_STATUS[measure.status],
            "n": wording.format_number(measure.n),
            "method": measure.method[:1].upper() + measure.method[1:],
        }
        for name, measure in measures.items()
    ]
