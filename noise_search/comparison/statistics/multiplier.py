"""How many random candidates are worth as much as a search, over how many its NFE would have bought."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.intervals import LEVEL, Interval, Values, nothing
from noise_search.comparison.statistics.measures import CELL, Measures, places_of, searches_of, table
from noise_search.order_statistics import crossing, expected_best, sizes

SATURATED = 0.1
"""Standard deviations within a prompt: a doubling of candidates that brings less tells nothing of their number."""


@dataclass(frozen=True)
class Multiplier:
    """The best-of-N equivalent of an algorithm at one budget.

    Attributes:
        algorithm, budget: which.
        score: mean own score of its winners.
        candidates: random candidates whose expected best has this mean score.
        bought: whole random candidates that the budget pays.
        known: random candidates there are for each of its prompts and seeds, above which `candidates` can't be told.
        times: `candidates / bought`: above 1 the algorithm beats random search. A bound where the score lies beyond
            that of the whole pool, or below that of one candidate; unknown where the score saturates.
        seconds: seconds that random search takes for `candidates`, over those of the algorithm: above 1 the algorithm
            is faster at equal score. A bound where `times` is one; its interval is that of `times`, as seconds are
            taken as they were.
        rise: what twice as many random candidates bring, up to `bought`, in standard deviations within a prompt; NaN
            of one candidate.
        saturated: whether that is less than 0.1, a third of what it is for a Gaussian up to 32: then a small difference
            in score is a large one in candidates, and no worth can be told.
    """

    algorithm: str
    budget: int
    score: float
    candidates: float
    bought: int
    known: int
    times: Interval
    seconds: Interval
    rise: float = float("nan")
    saturated: bool = False

    def __str__(self) -> str:
        where = f"{self.algorithm} at {self.budget} NFE"
        if np.isnan(self.times.value):
            why = ", as the score saturates" if self.saturated else ""
            return f"{where}: no telling how many random candidates it is worth{why}"
        return (
            f"{where} is worth {self.times.sign('value')}{self.candidates:.3g} random candidates, where {self.bought} "
            f"could be had: {self.times} times; {self.seconds} times as fast at equal score"
        )


def multipliers(
    records: Sequence[Record], pools: Sequence[Pool], *, verifiers: Sequence[str] = ()
) -> tuple[Multiplier, ...]:
    """The best-of-N equivalent of every algorithm and budget, in this order.

    The expected best of n random candidates is exact (`expected_best`), averaged over the same prompts and seeds as the
    algorithm's scores, and n is interpolated in log n. Each algorithm and budget has the curve of its own prompts and
    seeds, which ends at the smallest of their pools; what lies beyond is a bound. The interval holds the n for which
    the paired difference between scores and curve isn't clearly above or below 0, by Student's t over prompts: exact
    where such differences are normal, whatever the curve's shape, and unbounded where the curve ends before. For random
    search itself the multiplier is 1 in expectation if it chose by the own score; an ensemble, of ranks or against its
    first candidates, chooses a little differently, and then it is below 1. The arguments are those of `Measures.of`.

    Raises:
        ValueError: no records, no pool for a prompt and seed, pools with candidates of different NFE, or a budget below
            one candidate.
    """
    measures = Measures.of(records, pools, verifiers)
    used = {(one.prompt, one.seed): measures.pool(one) for one in records}
    nfe = {one.nfe for one in used.values()}
    if len(nfe) > 1:
        raise ValueError(f"pools have candidates of {sorted(nfe)} NFE; expected one number: compare them separately")
    each = min(nfe)
    if (least := min(one.budget for one in records)) < each:
        raise ValueError(f"budget {least} buys no random candidate of {each} NFE; expected at least {each}")
    scores = {place: measures.of_pool(pool) for place, pool in used.items()}

    @cache
    def curve(place: tuple[str, int], most: int) -> Values:
        return expected_best(scores[place], sizes(most))

    rows = table(
        records,
        {
            "own": [measures.of_record(one) for one in records],
            "seconds": [one.seconds for one in records],
            "random seconds": [measures.pool(one).seconds for one in records],
        },
    )
    found = []
    for (algorithm, budget), some in rows.groupby(level=CELL):
        places = places_of(some)
        known = min(len(scores[place]) for place in places)
        curves = np.array([curve(place, known) for place in places])
        variances = np.array([_variance(scores[place]) for place in places])
        found.append(_multiplier(algorithm, budget, some, sizes(known), curves, variances, budget // each))
    return tuple(found)


def _multiplier(
    algorithm: str, budget: int, rows: pd.DataFrame, counts: Values, curves: Values, variances: Values, bought: int
) -> Multiplier:
    """Of searches whose places have these curves `[search, count]` and variances within the pool `[search]`."""
    there = np.isfinite(rows["own"].to_numpy()) & np.isfinite(curves).all(axis=1)
    kept, missing, known = rows[there], int((~there).sum()), int(counts[-1])
    if kept.empty:
        return Multiplier(algorithm, budget, np.nan, np.nan, bought, known, nothing(missing), nothing(missing))
    searches, prompts = searches_of(kept), len({prompt for prompt, _ in places_of(kept)})
    level, seconds, random_seconds = searches.means(kept.to_numpy())[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(searches.means(variances[there])[0])
        rise = float(_rise(searches.means(curves[there])[0], counts, bought) / spread)
    if rise < SATURATED:
        unknown = Interval(np.nan, np.nan, np.nan, prompts, len(searches), missing)
        return Multiplier(algorithm, budget, float(level), np.nan, bought, known, unknown, unknown, rise, True)
    short = searches.means(curves[there] - kept[["own"]].to_numpy())  # rises with n, through 0 at what it is worth
    error, freedom = searches.error(short)
    half = stdtrit(freedom, (1 + LEVEL) / 2) * error
    position, side = crossing(np.stack([short[0], short[0] + half, short[0] - half]), np.zeros(3))
    candidates = np.where(
        np.isnan(position[0] + position), np.nan, np.exp(np.interp(position, np.arange(len(counts)), np.log(counts)))
    )
    value, low, high = map(float, candidates)
    found = Interval(
        value,
        low,
        high,
        prompts,
        len(searches),
        missing,
        at_least=tuple(end for end, at in zip(("value", "low", "high"), side, strict=True) if at > 0),
        at_most=tuple(end for end, at in zip(("value", "low", "high"), side, strict=True) if at < 0),
    )
    faster = float(random_seconds / seconds) if seconds > 0 else np.nan
    times, fast = (
        replace(found, value=found.value * unit, low=found.low * unit, high=found.high * unit)
        for unit in (1 / bought, faster)
    )
    return Multiplier(algorithm, budget, float(level), found.value, bought, known, times, fast, rise)


def _rise(curve: Values, counts: Values, bought: int) -> Values:
    """What the last doubling of candidates brings, up to those that are bought or known; NaN for one."""
    most = min(float(bought), counts[-1])
    if most < 2:
        return np.full((), np.nan)
    at = np.interp(np.log([most / 2, most]), np.log(counts), curve)
    return np.asarray(at[1] - at[0])


def _variance(scores: Values) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.var()) if len(known) else float("nan")


def saturation(found: Sequence[Multiplier]) -> int | None:
    """The budget from which on the score saturates, whatever was searched with; None where it doesn't."""
    budgets = sorted({one.budget for one in found})
    saturated = {one.budget for one in found if one.saturated}
    open_ones = [budget for budget in budgets if budget not in saturated]
    after = [budget for budget in budgets if not open_ones or budget > open_ones[-1]]
    return after[0] if after else None
