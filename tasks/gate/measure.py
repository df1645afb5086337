"""A figure of the gate with its interval and its limit: within it, uncertain, or outside."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.gate.unmeasured_causes import NotMeasured

Limit = tuple[float | None, float | None]  # lowest, highest
LimitedEnd = Literal["low", "high", "both"]
LimitStatus = Literal["within", "uncertain", "outside"]

Z95 = 1.959964  # standard errors from the middle to the end of a 95 % interval
MOST_LOG_ERROR = math.log(1.5)  # a limit that is missed by more rejects, however wide the interval


@dataclass(frozen=True)
class LimitRule:
    """Which end of a ratio is limited, and at what value; without a value, by the null range.

    With `beyond_chance` the measure counts only where real patients keep the limit themselves.
    """

    end: LimitedEnd
    value: float | tuple[float, float] | None
    beyond_chance: bool = False

    def limit(self, null95: Limit | None) -> Limit | None:
        """Return (lowest, highest); an end without a limit is None."""
        if self.value is None:
            return null95
        if isinstance(self.value, tuple):
            return self.value
        return (self.value, None) if self.end == "low" else (None, self.value)

    def missed_by_chance(self, null95: Limit | None) -> str:
        """Say where real patients lie who miss the limit; empty where they keep it."""
        limit = self.limit(null95)
        if not self.beyond_chance or null95 is None or limit is None:
            return ""
        (low, high), (null_low, null_high) = limit, null95
        if low is not None and null_low is not None and null_low < low:
            return f"as low as {null_low:.2g} times that of others (limit {low:g})"
        if high is not None and null_high is not None and null_high > high:
            return f"as high as {null_high:.2g} times that of others (limit {high:g})"
        return ""


@dataclass(frozen=True)
class Measure:
    """A figure of the synthetic set (`value`) and the same figure of real patients (`baseline`).

    `ratio` = value / baseline with its interval `ci95`; `limit` = (lowest, highest) of
    the ratio, None for a measure that is only reported. 95 % of the ratios of real to real patients
    lie in `null95`. Of `draws` subsamples, `nan_draws` gave no figure and do not count.
    `not_measured` is the reason why the figure, or the limit it needs, could not be computed.
    """

    value: float | None
    value_ci95: tuple[float, float] | None
    baseline: float | None
    ratio: float | None
    ci95: tuple[float, float] | None
    null95: Limit | None
    limit: Limit | None
    n: int
    patients: int
    method: str
    draws: int = 0
    nan_draws: int = 0
    not_measured: NotMeasured | None = None

    @property
    def log_error(self) -> float:
        """The standard error of the ratio's logarithm, by its interval; 0 where there is none."""
        if not self.ratio or self.ci95 is None:
            return 0.0
        low, high = self.ci95
        if low > 0:
            error = math.log(high / low) / (2 * Z95)
        else:
            error = math.log(max(high, self.ratio) / self.ratio) / Z95
        return min(error, MOST_LOG_ERROR)

    @property
    def status(self) -> LimitStatus | None:
        """Where the ratio lies beside its limit; None without a ratio or without a limit.

        `uncertain` within a standard error of the limit, on either side: other validation patients
        of the same kind could have put it on the other one.
        """
        if self.limit is None or self.ratio is None:
            return None
        low, high = self.limit
        tolerance = math.exp(self.log_error)
        margin = min(  # factor to the nearest end of the limit; below 1 outside
            math.inf if low is None else math.inf if low <= 0 else self.ratio / low,
            math.inf if high is None else high / self.ratio if self.ratio > 0 else math.inf,
        )
        if margin < 1 / tolerance:
            return "outside"
        return "within" if margin >= tolerance else "uncertain"

    @property
    def meets_limit(self) -> bool | None:
        """Whether the ratio is not outside its limit; None without a ratio or a limit."""
        return None if self.status is None else self.status != "outside"

    def as_json(self) -> dict[str, Any]:
        """Return the entry of `metrics.json`."""
        return {
            "value": rounded(self.value),
            "value_ci95": rounded_ends(self.value_ci95),
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.ratio),
            "ci95": rounded_ends(self.ci95),
            "null95": rounded_ends(self.null95),
            "limit": rounded_ends(self.limit),
            "status": self.status,
            "n": self.n,
            "patients": self.patients,
            "method": self.method,
            "draws": self.draws,
            "nan_draws": self.nan_draws,
            "not_measured": self.not_measured.why if self.not_measured else None,
        }


def rounded(value: float | None) -> float | None:
    """Round to six significant digits: the rest depends on the machine; None for no number."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


def rounded_ends(ends: Limit | tuple[float, float] | None) -> list[float | None] | None:
    """Return both ends of an interval, rounded."""
    return None if ends is None else [rounded(end) for end in ends]
