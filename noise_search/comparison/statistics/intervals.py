"""Intervals of anything that is a function of means over prompts: Student's t on the delete-one jackknife.

A statistic is computed from means over searches: once from all of them, and once without each prompt. Its standard
error is the jackknife's, which for a mean is the classical one of the prompts' means, and its interval that of
Student's t with one degree of freedom less than there are prompts (Efron & Tibshirani 1993, An Introduction to the
Bootstrap, chapter 11). Nothing is drawn at random, and few prompts give wide intervals instead of false ones. All
quantities of a search are left out together, so that differences and ratios stay paired.

Where prompts share noises, as in comparisons that were made before each prompt had noises of its own, the errors of
prompts are correlated. There each noise is left out over all prompts, too, and the two variances are added, as a
resampling crossed over prompts and noises does; but with the degrees of freedom of few noises, without which two or
three give intervals that are far too narrow. A single noise tells nothing of others: then there is no interval.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Values = NDArray[np.float64]

LEVEL = 0.95

METHOD = "Student's t over prompts (delete-one jackknife)"
"""How intervals are made, wherever they are shown."""

LEAST_PROMPTS = 8
"""With fewer there is neither a verdict nor an alarm."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        value: the estimate; NaN where there was nothing to estimate from.
        low, high: ends of the interval; NaN where one search alone, or one noise for all prompts, give none.
        prompts: how many prompts it rests on.
        searches: how many searches: prompts times seeds, less what is missing.
        missing: searches left out, as a score was NaN or had no partner.
        at_least: which of "value", "low" and "high" are lower bounds, the truth lying beyond what could be told.
        at_most: which are upper bounds.
        level: how often such an interval holds the truth.
    """

    value: float
    low: float
    high: float
    prompts: int
    searches: int
    missing: int = 0
    at_least: tuple[str, ...] = ()
    at_most: tuple[str, ...] = ()
    level: float = LEVEL

    @property
    def side(self) -> int:
        """1 where it lies above 0, -1 below, 0 where it holds 0 or there is none."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def undecided(self) -> str:
        """Why no verdict can rest on it; "" where one can."""
        if self.prompts < LEAST_PROMPTS:
            return f"{self.prompts} prompt{'' if self.prompts == 1 else 's'}, where {LEAST_PROMPTS} are needed"
        if np.isnan(self.low):
            return "all prompts share one noise, which tells nothing of others: add seeds"
        return ""

    def sign(self, end: str) -> str:
        """What stands before "value", "low" or "high" where it is a bound: ">" or "<"."""
        return ">" if end in self.at_least else "<" if end in self.at_most else ""

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "unknown"
        value, low, high = (f"{self.sign(end)}{getattr(self, end):.3g}" for end in ("value", "low", "high"))
        return (
            f"{value} ({100 * self.level:.3g} % {low} to {high})" if np.isfinite(self.low) else f"{value} (no interval)"
        )


class Searches:
    """The searches that values `[search, ...]` are of, and what of them is left out together.

    Args:
        prompts: of each search.
        noises: the first noise of each, -1 for one that is no other prompt's; None where all are such.

    Raises:
        ValueError: no search.
    """

    def __init__(self, prompts: Sequence[Hashable], noises: Sequence[int] | None = None) -> None:
        if not len(prompts):
            raise ValueError("no searches to take a mean of; expected at least one")
        self._prompts, self._codes = _coded(prompts)
        self._seeds = np.bincount(self._codes)
        of_noise: dict[int, set[int]] = {}
        for noise, prompt in zip(() if noises is None else noises, self._codes, strict=noises is not None):
            of_noise.setdefault(int(noise), set()).add(int(prompt))
        shared = [noise for noise, some in of_noise.items() if noise >= 0 and len(some) > 1]
        self._shared = [np.flatnonzero(np.asarray(noises) == noise) for noise in shared]
        own = len(self._codes) - sum(map(len, self._shared))
        self._noises = len(self._shared) + own

    def __len__(self) -> int:
        return len(self._codes)

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """What each search is left out with: its prompt, or where there is one prompt alone the search itself."""
        return self._codes if self._prompts > 1 else np.arange(len(self))

    def means(self, values: Values) -> Values:
        """`[1 + left out, ...]`: the mean over prompts of the mean over their seeds, then that without each unit.

        After the units come the shared noises, if there are any.
        """
        values = np.asarray(values, dtype=np.float64)
        sums = np.zeros((self._prompts, *values.shape[1:]))
        np.add.at(sums, self._codes, values)
        each = sums / _as_column(self._seeds, sums) if self._prompts > 1 else values
        total, count = each.mean(axis=0, keepdims=True), len(each)
        without = (total * count - each) / (count - 1) if count > 1 else np.full_like(each, np.nan)
        noises = [self._without(rows, sums, values) for rows in self._shared]
        return np.concatenate([total, without, *(one[None] for one in noises)])

    def _without(self, rows: NDArray[np.int64], sums: Values, values: Values) -> Values:
        """The mean without these searches; NaN where none is left."""
        gone = np.zeros_like(sums)
        np.add.at(gone, self._codes[rows], values[rows])
        left = self._seeds - np.bincount(self._codes[rows], minlength=self._prompts)
        some = left > 0
        if not some.any():
            return np.full(values.shape[1:], np.nan)
        return np.asarray(((sums - gone)[some] / _as_column(left[some], sums)).mean(axis=0))

    def error(self, estimates: Values) -> tuple[Values, Values]:
        """Standard error and degrees of freedom of a statistic `[1 + left out, ...]` of the `means`; NaN for none."""
        count = len(estimates) - 1 - len(self._shared)
        units, noises = estimates[1 : 1 + count], estimates[1 + count :]
        if count < 2:
            return np.full(estimates.shape[1:], np.nan), np.full(estimates.shape[1:], np.nan)
        variance = (count - 1) / count * ((units - units.mean(axis=0)) ** 2).sum(axis=0)
        if not len(noises):
            return np.sqrt(variance), np.full(variance.shape, count - 1.0)
        if self._noises < 2:
            return np.full(variance.shape, np.nan), np.full(variance.shape, np.nan)
        more = (self._noises - 1) / self._noises * ((noises - estimates[0]) ** 2).sum(axis=0)
        few = max(len(noises) - 1, 1)
        whole = variance + more
        # The squares of both half-widths are added: with 2 noises Satterthwaite's freedom held the truth in 88 %.
        square = stdtrit(np.array([count - 1.0, few]), (1 + LEVEL) / 2) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = np.sqrt((square[0] * variance + square[1] * more) / whole)
        grid = np.geomspace(max(count - 1.0, few), min(count - 1.0, few), 200)
        freedom = np.interp(wanted, stdtrit(grid, (1 + LEVEL) / 2), grid)
        return np.sqrt(whole), np.where(whole > 0, freedom, 1.0)

    def interval(self, estimates: Values, missing: int = 0, level: float = LEVEL) -> Interval:
        """The interval of a statistic `[1 + left out]`."""
        error, freedom = self.error(estimates)
        half = float(stdtrit(freedom, (1 + level) / 2) * error)
        value = float(estimates[0])
        return Interval(value, value - half, value + half, self._prompts, len(self), missing, level=level)

    def below(self, estimates: Values) -> float:
        """The chance that a statistic whose truth is 0 comes out as low as this one `[1 + left out]`; NaN for none."""
        error, freedom = self.error(estimates)
        if error > 0:
            return float(stdtr(freedom, estimates[0] / error))
        return float(np.select([np.isnan(error), estimates[0] < 0, estimates[0] > 0], [np.nan, 0.0, 1.0], 0.5))


def _coded(values: Sequence[Hashable]) -> tuple[int, NDArray[np.int64]]:
    known: dict[Hashable, int] = {}
    codes = np.array([known.setdefault(one, len(known)) for one in values], dtype=np.int64)
    return len(known), codes


def _as_column(counts: NDArray[np.int64], like: Values) -> Values:
    return counts.astype(np.float64).reshape(-1, *[1] * (like.ndim - 1))


def interval_of(
    statistic: Callable[..., Values],
    values: Values,
    prompts: Sequence[str],
    noises: Sequence[int] | None = None,
    level: float = LEVEL,
) -> Interval:
    """The interval of a function of means, one of each column of values `[search, quantity]`.

    A mean is over prompts of the mean over their seeds. Searches of which one quantity isn't finite are left out and
    counted.
    """
    there = np.asarray(np.isfinite(values).all(axis=1))
    missing = int((~there).sum())
    if not there.any():
        return nothing(missing)
    searches = Searches(list(compress(prompts, there)), None if noises is None else list(compress(noises, there)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return searches.interval(statistic(*searches.means(values[there]).T), missing, level)


def mean_interval(
    values: Values, prompts: Sequence[str], noises: Sequence[int] | None = None, *, level: float = LEVEL
) -> Interval:
    """The mean over prompts of the mean over seeds, of values `[search]`; NaN ones are left out and counted."""
    return interval_of(lambda mean: mean, values[:, None], prompts, noises, level)


def turned(one: Interval) -> Interval:
    """A difference with the other sign, for "lower by"; of differences, which have no bounds."""
    return Interval(-one.value, -one.high, -one.low, one.prompts, one.searches, one.missing, level=one.level)


def nothing(missing: int = 0) -> Interval:
    """The interval where no search is left to estimate from."""
    return Interval(float("nan"), float("nan"), float("nan"), 0, 0, missing)


def holm(chances: Sequence[float], share: float = 1 - LEVEL) -> list[float]:
    """The chance that each of several tests may take so that all together err in at most `share` of all cases.

    Holm 1979: the smallest of m chances is held against share / m, the next against share / (m - 1), and so on until
    one is too large; what follows is held against that one's share, which it exceeds too. NaN ones, of what couldn't
    be tested, count for nothing.
    """
    known = [at for at in np.argsort(chances, kind="stable") if np.isfinite(chances[at])]
    allowed, stopped = [share / max(len(known), 1)] * len(chances), False
    for rank, at in enumerate(known):
        if not stopped:
            part = share / (len(known) - rank)
        allowed[at] = part
        stopped = stopped or chances[at] > part
    return allowed
