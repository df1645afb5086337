"""A verdict may not hang on a figure that other validation patients would put past its limit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.gate.measure import MOST_LOG_ERROR, Z95, Measure
from tasks.gate.verdict import measure_reasons

LOW, HIGH, BOTH = (0.65, None), (None, 5.0), (0.75, 1.2)


def measure(
    ratio: float | None, limit: tuple[float | None, float | None] | None, error: float = 0.0
) -> Measure:
    """A measure whose ratio's logarithm has a standard error."""
    interval = None
    if ratio and error:
        interval = (ratio * math.exp(-Z95 * error), ratio * math.exp(Z95 * error))
    return Measure(ratio, None, 1.0, ratio, interval, None, limit, 100, 10, "")


@pytest.mark.parametrize(
    ("ratio", "limit", "error", "status"),
    [
        (0.66, LOW, 0.0, "within"), (0.64, LOW, 0.0, "outside"), (0.0, LOW, 0.0, "outside"),
        (0.58, LOW, 0.2, "uncertain"), (0.70, LOW, 0.2, "uncertain"), (0.5, LOW, 0.2, "outside"),
        (0.9, LOW, 0.2, "within"), (5.5, HIGH, 0.2, "uncertain"), (6.5, HIGH, 0.2, "outside"),
        (0.72, BOTH, 0.1, "uncertain"), (1.3, BOTH, 0.1, "uncertain"), (1.0, BOTH, 0.1, "within"),
        (0.6, BOTH, 0.1, "outside"), (1.4, BOTH, 0.1, "outside"),
        (None, LOW, 0.0, None), (0.3, None, 0.1, None),
    ],
)  # fmt: skip
def test_a_ratio_is_uncertain_within_a_standard_error_of_its_limit(ratio, limit, error, status):
    measured = measure(ratio, limit, error)
    assert measured.status == status
    assert measured.meets_limit == (None if status is None else status != "outside")
    assert bool(measure_reasons({"x": measured})) == (status == "outside")


@given(st.floats(0.01, 3.0))
def test_no_interval_is_so_wide_that_a_ratio_far_beyond_its_limit_is_let_through(error):
    factor = math.exp(MOST_LOG_ERROR) * 1.01
    assert measure(0.65 / factor, LOW, error).status == "outside"
    assert measure(5.0 * factor, HIGH, error).status == "outside"


@given(st.floats(0.05, 20.0), st.floats(0.0, 1.0), st.floats(1.0, 3.0))
def test_a_better_ratio_never_has_a_worse_status(ratio, error, better):
    order = ["outside", "uncertain", "within"]
    worse = order.index(measure(ratio, LOW, error).status)
    assert order.index(measure(ratio * better, LOW, error).status) >= worse
    worse = order.index(measure(ratio, HIGH, error).status)
    assert order.index(measure(ratio / better, HIGH, error).status) >= worse


def test_an_interval_that_reaches_nothing_is_measured_by_its_upper_end():
    measured = Measure(0.12, None, 1.0, 0.12, (0.0, 1.62), None, LOW, 100, 10, "")
    assert measured.log_error == MOST_LOG_ERROR
    assert measured.status == "outside"
