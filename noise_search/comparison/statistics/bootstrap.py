"""Two-stage bootstrap over prompts and over the seeds within each, for anything that is a function of means.

A statistic is computed from weighted means over searches: once with the weights of the plain mean, once per resample.
As all quantities of a search share the weights, differences and ratios stay paired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, groupby

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


RESAMPLES, LEVEL, _SEED = 2000, 0.95, 0x6E73

_ENOUGH = 0.95  # of the resamples must have a value, else the interval would be that of the rest


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % percentile bootstrap interval.

    Attributes:
        value: the estimate; NaN where there was nothing to estimate from.
        low, high: ends of the interval; NaN where one search alone, or too few resamples, give none.
        prompts: how many prompts it rests on.
        searches: how many searches: prompts times seeds, less what is missing.
        missing: searches left out, as a score was NaN or had no partner.
        at_least: which of "value", "low" and "high" are lower bounds, the truth lying beyond what could be told.
        at_most: which are upper bounds.
    """

    value: float
    low: float
    high: float
    prompts: int
    searches: int
    missing: int = 0
    at_least: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "unknown"
        if np.isnan(self.low):
            return f"{self._told('value')} (no interval)"
        return f"{self._told('value')} (95 % {self._told('low')} to {self._told('high')})"

    def _told(self, end: str) -> str:
        sign = ">= " if end in self.at_least else "<= " if end in self.at_most else ""
        return f"{sign}{getattr(self, end):.3g}"


def resampled(prompts: Sequence[str]) -> Values:
    """Weights `[1 + RESAMPLES, search]`: of the plain mean first, then of each resample; every row sums to 1.

    The plain mean is over prompts of the mean over their seeds. A resample draws as many prompts as there are, with
    replacement, and for each of them as many of its seeds as there are, with replacement. Both stages with replacement
    count the spread over seeds slightly twice where seeds are few, so intervals err on the wide side (Davison & Hinkley
    1997, Bootstrap Methods and their Application, section 3.8). With few prompts any percentile interval is too narrow:
    simulated intervals of a multiplier held the truth in 82 % of cases with 6 prompts of one seed, 90 % with 12, 94 %
    with 60, 98 % with 20 of two seeds. The random numbers are the same in every call.

    Args:
        prompts: of each search, equal ones next to each other.

    Raises:
        ValueError: no search, or a prompt's searches are scattered.
    """
    runs = [(prompt, len(list(same))) for prompt, same in groupby(prompts)]
    if not runs:
        raise ValueError("no searches to resample; expected at least one")
    if len({prompt for prompt, _ in runs}) < len(runs):
        raise ValueError("searches of a prompt are scattered; sort them by prompt")
    return _weights(tuple(count for _, count in runs))


@lru_cache(maxsize=8)
def _weights(counts: tuple[int, ...]) -> Values:
    seeds = np.array(counts)
    starts = np.concatenate([[0], np.cumsum(seeds)[:-1]])
    rng = np.random.default_rng(_SEED)
    drawn = rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=RESAMPLES)
    weights = np.empty((1 + RESAMPLES, seeds.sum()))
    weights[0] = np.repeat(1 / (len(seeds) * seeds), seeds)
    for count in sorted(set(counts)):
        rows = np.flatnonzero(seeds == count)
        # k draws of a prompt, each with `count` draws of its seeds, are one multinomial of k * count.
        times = rng.multinomial(drawn[:, rows] * count, np.full(count, 1 / count))
        columns = starts[rows][:, None] + np.arange(count)
        weights[1:, columns] = times / (count * len(seeds))
    weights.setflags(write=False)
    return weights


def interval(estimates: Values, prompts: Sequence[str], missing: int = 0) -> Interval:
    """The interval of estimates `[1 + resample]`, the first of which is the plain one."""
    low, high = ends(estimates[1:]) if len(prompts) > 1 else (np.nan, np.nan)
    return Interval(float(estimates[0]), low, high, len(set(prompts)), len(prompts), missing)


def ends(resamples: Values) -> tuple[float, float]:
    """Percentiles between which `LEVEL` of the resamples lie; NaN where too many have no value."""
    finite = resamples[np.isfinite(resamples)]
    if len(finite) < _ENOUGH * len(resamples):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval_of(statistic: Callable[..., Values], values: Values, prompts: Sequence[str]) -> Interval:
    """The interval of a function of means, one of each column of values `[search, quantity]`.

    A mean is over prompts of the mean over their seeds. Searches of which one quantity isn't finite are left out and
    counted.
    """
    there = np.asarray(np.isfinite(values).all(axis=1))
    kept, missing = list(compress(prompts, there)), int((~there).sum())
    if not kept:
        return nothing(missing)
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval(statistic(*(resampled(kept) @ values[there]).T), kept, missing)


def mean_interval(values: Values, prompts: Sequence[str]) -> Interval:
    """The mean over prompts of the mean over seeds, of values `[search]`; NaN ones are left out and counted."""
    return interval_of(lambda mean: mean, values[:, None], prompts)


def turned(one: Interval) -> Interval:
    """A difference with the other sign, for "lower by"; of differences, which have no bounds."""
    return Interval(-one.value, -one.high, -one.low, one.prompts, one.searches, one.missing)


def nothing(missing: int = 0) -> Interval:
    """The interval where no search is left to estimate from."""
    return Interval(float("nan"), float("nan"), float("nan"), 0, 0, missing)
