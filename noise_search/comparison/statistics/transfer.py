"""Whether held-out judges gain where the search's own score does: transfer ratios, and alarms for verifier hacking.

Under random search the ratio of the gains, each in its within-prompt standard deviation, is the within-prompt
correlation of the two scores, whatever the budget. An algorithm that makes better images keeps that ratio; one that
exploits the verifier's weaknesses falls below it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.bootstrap import (
    Interval,
    Values,
    ends,
    interval,
    mean_interval,
    nothing,
    resampled,
    turned,
)
from noise_search.comparison.statistics.measures import CELL, OWN, Measures, prompts_of
from noise_search.comparison.statistics.order_statistics import crossing, expected_best, sizes
from noise_search.words import unknown

LEAST_PROMPTS = 8
"""With fewer, percentile intervals are too narrow to sound an alarm by."""

LEAST_SHARE = 0.5
"""Of random search's ratio at equal own gain, below which there is an alarm."""


@dataclass(frozen=True)
class Alarm:
    """A sign that a verifier was pleased and the images weren't improved.

    Attributes:
        kind: "judge falls" (below the mean random candidate), "low transfer", or "falling" (from one budget to the
            next).
        algorithm, budget, judge: where.
        sentence: what was seen.
    """

    kind: str
    algorithm: str
    budget: int
    judge: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Transfer:
    """How much of an algorithm's own gain a held-out judge sees at one budget.

    Attributes:
        algorithm, budget, judge: which.
        own_gain: winner's own score less the mean random candidate's, in within-prompt standard deviations of the
            random pools.
        judge_gain: the same of the judge's score.
        ratio: `judge_gain / own_gain`. Without interval where `own_gain`'s reaches 0, NaN where it is not above 0.
        random_ratio: that of random search at equal own gain, expected exactly over the pools.
        beyond: whether the own gain exceeds that of the best of the whole pool; `random_ratio` is that one's then.
        alarms: of this judge here.
    """

    algorithm: str
    budget: int
    judge: str
    own_gain: Interval
    judge_gain: Interval
    ratio: Interval
    random_ratio: float
    beyond: bool = False
    alarms: tuple[Alarm, ...] = ()

    def __str__(self) -> str:
        where = f"{self.algorithm} at {self.budget} NFE: own {self.own_gain} sd, {self.judge} {self.judge_gain} sd"
        if np.isnan(self.ratio.value):
            return f"{where}; no transfer ratio"
        told = f"{where}; transfer ratio {self.ratio} against random search's {self.random_ratio:.3g}"
        if self.random_ratio <= 0:
            told += f"; even under random search {self.judge} does not follow the own score"
        elif not self.alarms and self.ratio.value < LEAST_SHARE * self.random_ratio:
            told += "; that is low, but more prompts are needed to tell it from chance"
        return ". ".join([told, *(one.sentence for one in self.alarms)])


def transfers(
    records: Sequence[Record],
    pools: Sequence[Pool],
    judges: Sequence[str] = (),
    *,
    verifiers: Sequence[str] = (),
) -> tuple[Transfer, ...]:
    """Transfer ratios of every judge, algorithm and budget, in this order, with their alarms.

    Gains are counted from the mean random candidate of the same prompt and seed. Random search's ratio is that of the
    same prompts and seeds, whose smallest pool ends the curve. The standard deviation is one per
    measure, the root mean square over the pools: a prompt on which a judge gives all random candidates the same score
    has none of its own, and a small pool's accidentally small one would let its prompt outweigh all others.

    There is an alarm where at least 8 prompts tell and, beyond the 95 % interval,
    - the own gain is above 0 and the judge's below it, or else
    - the ratio is below half of random search's at equal own gain (where that is above 0), or
    - from one budget to the next the judge's score falls while the own score rises.
    Many rows make a false alarm likelier: of random search itself, simulated with a correlation of 0.4 and 8 to 12
    prompts of one seed, up to 3 % of rows had one, with 30 prompts 0.3 %. Of a judge that has nothing to do with the
    own score 9 % had one with 8 prompts, and 5 % with 30.

    Args:
        records, pools, verifiers: as in `Measures.of`; all candidates of the pools are judged.
        judges: names of judges; all that aren't verifiers too when none are given.

    Raises:
        ValueError: no records, no such judge, a judge that was searched by, or no pool for a prompt and seed.
    """
    measures = Measures.of(records, pools, verifiers)
    for name in judges:
        if name in measures.verifiers:
            raise ValueError(f"judge {name!r} was searched by; expected a held-out one")
        if name not in measures.judges:
            raise unknown("judge", name, measures.judges)
    asked = judges or [name for name in measures.judges if name not in measures.verifiers]
    return tuple(one for judge in asked for one in _of_judge(judge, measures))


def alarms(found: Sequence[Transfer]) -> tuple[Alarm, ...]:
    """All alarms of some transfers, in their order."""
    return tuple(alarm for one in found for alarm in one.alarms)


def _of_judge(judge: str, measures: Measures) -> Iterator[Transfer]:
    @cache
    def random(place: tuple[str, int], most: int) -> Values:
        pool = measures.pools[place]
        return _random(measures.of_pool(pool), measures.of_pool(pool, judge), sizes(most))

    before: dict[str, tuple[int, pd.DataFrame]] = {}
    for (algorithm, budget), cell in measures.winners(OWN, judge).groupby(level=CELL):
        rows = cell.droplevel(CELL)
        smallest = min(len(measures.of_pool(measures.pool_at(*place))) for place in rows.index)
        gained, excess = _gained(rows, np.stack([random(place, smallest) for place in rows.index]))
        found = Transfer(algorithm, budget, judge, *gained)
        told = [*_hacked(found, excess), *_falling(found, rows, *before.get(algorithm, (0, rows)))]
        yield replace(found, alarms=tuple(Alarm(kind, algorithm, budget, judge, sentence) for kind, sentence in told))
        before[algorithm] = budget, rows


def _random(own: Values, judge: Values, counts: Values) -> Values:
    """`[own, judge; size]` expected best of n by own score, with the two variances in a last column."""
    best = np.stack([expected_best(own, counts), expected_best(own, counts, of=judge)])
    return np.concatenate([best, [[_variance(own)], [_variance(judge)]]], axis=1)


def _variance(scores: Values) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.var()) if len(known) and np.ptp(known) > 0 else 0.0


def _gained(rows: pd.DataFrame, random: Values) -> tuple[tuple[Interval, Interval, Interval, float, bool], float]:
    """A transfer's values, own gain to `beyond`, and the upper end of its ratio less the share of random search's.

    Args:
        rows: own scores and the judge's.
        random: `[search, own or judge, size]`, what `_random` gives of the pool of each.
    """
    there = np.isfinite(rows.to_numpy()).all(axis=1)
    there &= np.isfinite(random[:, 0]).all(axis=1) & np.isfinite(random[:, 1, 0])
    kept, random, missing = rows[there], random[there], int((~there).sum())
    if kept.empty:
        return (nothing(missing), nothing(missing), nothing(missing), np.nan, False), np.nan
    weights = resampled(prompts := prompts_of(kept))
    # One candidate is the mean one, and what gains are counted from.
    own, held = (weights @ (kept.to_numpy() - random[:, :, 0])).T
    curves = random[:, :, 1:-1] - random[:, :, :1]
    with np.errstate(divide="ignore", invalid="ignore"):
        own_unit, judge_unit = np.sqrt(weights @ random[:, :, -1]).T
        estimates = own / own_unit, held / judge_unit
        ratios = np.where(estimates[0] > 0, estimates[1] / estimates[0], np.nan)
        random_ratios, beyond = _random_ratios(weights, curves, own, judge_unit / own_unit)
    own_gain, judge_gain, ratio = (
        interval(np.where(np.isfinite(one), one, np.nan), prompts, missing) for one in (*estimates, ratios)
    )
    if not own_gain.low > 0:
        ratio = replace(ratio, low=np.nan, high=np.nan)
    excess = ends(ratios[1:] - LEAST_SHARE * random_ratios[1:])[1]
    return (own_gain, judge_gain, ratio, float(random_ratios[0]), beyond), excess


def _random_ratios(weights: Values, curves: Values, own: Values, unit: Values) -> tuple[Values, bool]:
    """Random search's ratios `[1 + resample]` at these raw own gains; and whether the first is beyond the pools.

    The curves are raw gains `[search, own or judge, size]` of 2 and more candidates; NaN where the judge can't tell of
    any that may be chosen.
    """
    if not curves.shape[2]:
        return np.full(len(weights), np.nan), False
    own_curve, judge_curve = weights @ curves[:, 0], _mean_of_known(weights, curves[:, 1])
    position, side = crossing(own_curve, own)
    known = np.where(np.isnan(position), 0, position)
    left = np.floor(known).astype(int)
    right = np.minimum(left + 1, own_curve.shape[1] - 1)
    rows = np.arange(len(weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = judge_curve / own_curve / unit[:, None]
        between = ratios[rows, left] + (known - left) * (ratios[rows, right] - ratios[rows, left])
    return np.where(np.isfinite(position) & np.isfinite(between), between, np.nan), bool(side[0] > 0)


def _mean_of_known(weights: Values, values: Values) -> Values:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ np.where(known, values, 0) / (weights @ known))


def _hacked(one: Transfer, excess: float) -> Iterator[tuple[str, str]]:
    """Kind and sentence of an alarm where the own gain is sure and the judge surely sees a fall, or too little of it.

    `excess` is the upper end of the ratio less the share of random search's.
    """
    if one.own_gain.prompts < LEAST_PROMPTS or not one.own_gain.low > 0:
        return
    where = f"{one.algorithm} at {one.budget} NFE"
    if one.judge_gain.high < 0:
        yield (
            "judge falls",
            f"{where}: the own score is {one.own_gain} standard deviations above a mean random candidate's, "
            f"{one.judge} {turned(one.judge_gain)} below it: the verifier was pleased and the images got worse",
        )
    elif one.random_ratio > 0 and one.ratio.value < LEAST_SHARE * one.random_ratio and excess < 0:
        gain = "the largest own gain it reached" if one.beyond else "equal own gain"
        yield (
            "low transfer",
            f"{where}: {one.judge} sees {one.ratio} of the own gain, less than half of what it sees of random search's "
            f"at {gain} ({one.random_ratio:.3g}): the verifier was pleased more than the images were improved",
        )


def _falling(one: Transfer, rows: pd.DataFrame, last: int, before: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The same where the judge's score surely falls from the `last` budget to this one while the own surely rises."""
    changes = (rows - before.reindex(rows.index)).dropna()
    own, held = (mean_interval(changes[name].to_numpy(), prompts_of(changes)) for name in (OWN, one.judge))
    if own.prompts >= LEAST_PROMPTS and own.low > 0 and held.high < 0:
        yield (
            "falling",
            f"{one.algorithm}: from {last} to {one.budget} NFE the own score rises by {own} while {one.judge} falls by "
            f"{turned(held)}: the verifier is being exploited",
        )
