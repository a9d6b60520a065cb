"""How numbers, measures and algorithms are told: in sentences, in tables, and at the axes of figures."""

import math
from collections.abc import Sequence

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.data import ComparisonData
from noise_search.comparison.statistics.intervals import Interval
from noise_search.comparison.statistics.measures import OWN


def named(algorithm: str) -> str:
    """An algorithm in a sentence."""
    return "random search" if algorithm == RANDOM else algorithm


def listed(names: Sequence[object]) -> str:
    """Names in words: a, b and c."""
    *most, last = map(str, names)
    return f"{', '.join(most)} and {last}" if most else last


def own_label(comparison: ComparisonData) -> str:
    """What the own score is."""
    names = comparison.verifiers
    return names[0] if len(names) == 1 else f"mean z-score of {', '.join(names)}"


def short_label(comparison: ComparisonData, measure: str) -> str:
    """A measure by name."""
    return own_label(comparison) if measure == OWN else measure


def measure_label(comparison: ComparisonData, measure: str) -> str:
    """A measure with its part in the comparison."""
    return f"{own_label(comparison)} (searched by)" if measure == OWN else f"{measure} (held-out judge)"


def cell(one: Interval) -> str:
    """For a table: "2.24 [2.08, 2.35]"; bounds with > or <, "-" where nothing is known."""
    if math.isnan(one.value):
        return "-"
    value, low, high = _ends(one)
    return f"{value} [{low}, {high}]" if low else f"{value} [no interval]"


def words(one: Interval) -> str:
    """For a sentence: "2.24 (95 % interval 2.08 to 2.35)"."""
    if math.isnan(one.value):
        return "unknown"
    value, low, high = _ends(one)
    return f"{value} ({100 * one.level:.4g} % interval {low} to {high})" if low else f"{value} (no interval)"


def bounded(value: float, one: Interval) -> str:
    """A number that is a bound where the interval's value is one."""
    return "-" if math.isnan(value) else f"{one.sign('value')}{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def mean_count(value: float) -> str:
    """A mean of whole numbers, to a tenth: 71, 154.8."""
    return f"{value:.1f}".removesuffix(".0")


def _ends(one: Interval) -> tuple[str, str, str]:
    """Value, low and high, to two digits of the interval's width; no low and high without an interval."""
    width = one.high - one.low
    if math.isnan(width):
        return _told(one, "value", None), "", ""
    # An interval that is much narrower than its value is one of rounding errors.
    decimals = max(0, 1 - math.floor(math.log10(width))) if width > 1e-4 * abs(one.value) else None
    value, low, high = (_told(one, end, decimals) for end in ("value", "low", "high"))
    return value, low, high


def _told(one: Interval, end: str, decimals: int | None) -> str:
    """An end with so many decimals, or to three digits."""
    number = getattr(one, end)
    if decimals is None or decimals > 6:
        return f"{one.sign(end)}{number:.3g}"
    return f"{one.sign(end)}{round(number, decimals) + 0.0:.{decimals}f}"  # + 0 makes -0 a 0
