"""How many random candidates are worth as much as a search, over how many its NFE would have bought."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.bootstrap import Interval, Values, interval, nothing, resampled
from noise_search.comparison.statistics.measures import Measures, by_cell
from noise_search.comparison.statistics.order_statistics import crossing, expected_best, sizes

Curve = Callable[[tuple[str, int], int], Values]
"""The expected best of 1 to so many random candidates of a prompt and seed, at `sizes` of them."""


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
    then it is below 1.

    Args:
        records: of one comparison.
        pools: random search's candidates for each of their prompts and seeds.
        verifiers: names that make the own score; see `Measures`.

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

    return tuple(
        _multiplier(algorithm, budget, rows, measures, curve, budget // each)
        for (algorithm, budget), rows in by_cell(records).items()
    )


def _multiplier(
    algorithm: str,
    budget: int,
    rows: Sequence[Record],
    measures: Measures,
    curve_of: Curve,
    bought: int,
) -> Multiplier:
    own = np.array([measures.of_record(one) for one in rows])
    known = measures.smallest(rows)
    counts = sizes(known)
    curve = np.array([curve_of((one.prompt, one.seed), known) for one in rows])
    there = np.isfinite(own) & np.isfinite(curve).all(axis=1)
    missing = int((~there).sum())
    if not there.any():
        nan = float("nan")
        return Multiplier(algorithm, budget, nan, nan, bought, known, nothing(missing), nothing(missing))
    kept = [one for one, is_there in zip(rows, there, strict=True) if is_there]
    prompts = [one.prompt for one in kept]
    weights = resampled(prompts)
    levels = weights @ own[there]
    position, side = crossing(weights @ curve[there], levels)
    candidates = np.exp(np.interp(position, np.arange(len(counts)), np.log(counts)))
    candidates[np.isnan(position)] = np.nan
    random_seconds = weights @ np.array([measures.pool(one).seconds for one in kept])
    seconds = weights @ np.array([one.seconds for one in kept])
    with np.errstate(divide="ignore", invalid="ignore"):
        faster = np.where(seconds > 0, candidates * random_seconds / seconds, np.nan)
    return Multiplier(
        algorithm,
        budget,
        float(levels[0]),
        float(candidates[0]),
        bought,
        known,
        _bounded(candidates / bought, side, interval(candidates / bought, prompts, missing)),
        _bounded(faster, side, interval(faster, prompts, missing)),
    )


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
