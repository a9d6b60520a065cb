"""How many random candidates are worth as much as a search, over how many its NFE would have bought."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.bootstrap import Interval, Values, interval, nothing, resampled
from noise_search.comparison.statistics.measures import CELL, Measures, prompts_of, table
from noise_search.comparison.statistics.order_statistics import crossing, expected_best, sizes


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
            that of the whole pool, or below that of one candidate.
        seconds: seconds that random search takes for `candidates`, over those of the algorithm: above 1 the algorithm
            is faster at equal score. A bound where `times` is one.
    """

    algorithm: str
    budget: int
    score: float
    candidates: float
    bought: int
    known: int
    times: Interval
    seconds: Interval

    def __str__(self) -> str:
        where = f"{self.algorithm} at {self.budget} NFE"
        if np.isnan(self.times.value):
            return f"{where}: no telling how many random candidates it is worth"
        sign = ">= " if "value" in self.times.at_least else "<= " if "value" in self.times.at_most else ""
        return (
            f"{where} is worth {sign}{self.candidates:.3g} random candidates, where {self.bought} could be had: "
            f"{self.times} times; {self.seconds} times as fast at equal score"
        )


def multipliers(
    records: Sequence[Record], pools: Sequence[Pool], *, verifiers: Sequence[str] = ()
) -> tuple[Multiplier, ...]:
    """The best-of-N equivalent of every algorithm and budget, in this order.

    The expected best of n random candidates is exact (`expected_best`), averaged over the same prompts and seeds as the
    algorithm's scores, and n is interpolated in log n. Each algorithm and budget has the curve of its own prompts and
    seeds, which ends at the smallest of their pools; what lies beyond is a bound. For random search itself the
    multiplier is 1 in expectation if it chose by the own score; an ensemble of ranks chooses a little differently, and
    then it is below 1. The arguments are those of `Measures.of`.

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
        places = some.index.droplevel(CELL)
        known = min(len(scores[place]) for place in places)
        curves = np.array([curve(place, known) for place in places])
        found.append(_multiplier(algorithm, budget, some, sizes(known), curves, budget // each))
    return tuple(found)


def _multiplier(
    algorithm: str, budget: int, rows: pd.DataFrame, counts: Values, curves: Values, bought: int
) -> Multiplier:
    """Of searches whose places have these curves `[search, count]`."""
    there = np.isfinite(rows["own"].to_numpy()) & np.isfinite(curves).all(axis=1)
    kept, missing, known = rows[there], int((~there).sum()), int(counts[-1])
    if kept.empty:
        return Multiplier(algorithm, budget, np.nan, np.nan, bought, known, nothing(missing), nothing(missing))
    weights = resampled(prompts := prompts_of(kept))
    levels, seconds, random_seconds = (weights @ kept.to_numpy()).T
    position, side = crossing(weights @ curves[there], levels)
    candidates = np.exp(np.interp(position, np.arange(len(counts)), np.log(counts)))
    candidates[np.isnan(position)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        faster = np.where(seconds > 0, candidates * random_seconds / seconds, np.nan)
    times, fast = (
        _bounded(estimates, side, interval(estimates, prompts, missing)) for estimates in (candidates / bought, faster)
    )
    return Multiplier(algorithm, budget, float(levels[0]), float(candidates[0]), bought, known, times, fast)


def _bounded(estimates: Values, side: Values, found: Interval) -> Interval:
    """The interval with its bounds marked: an end is one where a resample beyond the curve lies at it or further in."""
    above = estimates[1:][side[1:] > 0]
    below = estimates[1:][side[1:] < 0]
    known = {"value": found.value, "low": found.low, "high": found.high}
    least = tuple(end for end in ("low", "high") if len(above) and known[end] >= above.min())
    most = tuple(end for end in ("low", "high") if len(below) and known[end] <= below.max())
    return replace(
        found,
        at_least=(("value",) if side[0] > 0 else ()) + least,
        at_most=(("value",) if side[0] < 0 else ()) + most,
    )
