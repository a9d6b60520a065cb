"""Whether held-out judges gain where the search's own score does: transfer ratios, and alarms for verifier hacking.

Under random search the ratio of the gains, each in its within-prompt standard deviation, is the within-prompt
correlation of the two scores, whatever the budget. An algorithm that makes better images keeps that ratio; one that
exploits the verifier's weaknesses falls below it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.intervals import (
    LEVEL,
    Interval,
    Searches,
    Values,
    holm,
    nothing,
    turned,
)
from noise_search.comparison.statistics.measures import CELL, OWN, Measures, places_of, searches_of
from noise_search.order_statistics import crossing, expected_best, sizes
from noise_search.words import unknown

LEAST_SHARE = 0.5
"""Of random search's ratio at equal own gain, below which there is an alarm."""

POWER = 0.8
"""How often an effect of the size that is told would have been seen."""


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
        visible: by how much less the judge's gain would have to be than random search's at equal own gain, in standard
            deviations, for an alarm to sound in 80 % of such comparisons; NaN where none could.
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
    visible: float = float("nan")
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

    There is an alarm where at least 8 prompts tell and, beyond chance,
    - the own gain is above 0 and the judge's below it, or else
    - the ratio is below half of random search's at equal own gain (where that is above 0), or
    - from one budget to the next the judge's score falls while the own score rises.
    Chances are those of Student's t over prompts, corrected for all alarms that could sound in these records (`holm`):
    where no verifier is hacked, at most 5 % of comparisons have any, also by a judge that has nothing to do with the
    own score.

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
    found = [one for judge in asked for one in _of_judge(judge, measures)]
    allowed = iter(holm([one.chance for _, _, signs in found for one in signs]))
    together = max(sum(np.isfinite(one.chance) for _, _, signs in found for one in signs), 1)
    told = []
    for one, visible, signs in found:
        sure = {sign.kind: sign for sign in signs if sign.chance <= next(allowed)}
        if _FALLS in sure:  # which says more than that little is seen
            sure.pop(_LOW, None)
        sounded = [Alarm(kind, one.algorithm, one.budget, one.judge, sign.sentence) for kind, sign in sure.items()]
        told.append(replace(one, visible=visible((1 - LEVEL) / together), alarms=tuple(sounded)))
    return tuple(told)


_FALLS, _LOW, _FALLING = "judge falls", "low transfer", "falling"


@dataclass(frozen=True)
class _Sign:
    """What would be an alarm, and the chance of such a sign where there is nothing to be alarmed of; NaN untested."""

    kind: str
    chance: float
    sentence: str


def alarms(found: Sequence[Transfer]) -> tuple[Alarm, ...]:
    """All alarms of some transfers, in their order."""
    return tuple(alarm for one in found for alarm in one.alarms)


def _of_judge(judge: str, measures: Measures) -> Iterator[tuple[Transfer, Callable[[float], float], list[_Sign]]]:
    @cache
    def random(place: tuple[str, int], most: int) -> Values:
        pool = measures.pools[place]
        return _random(measures.of_pool(pool), measures.of_pool(pool, judge), sizes(most))

    before: dict[str, tuple[int, pd.DataFrame]] = {}
    for (algorithm, budget), cell in measures.winners(OWN, judge).groupby(level=CELL):
        rows = cell.droplevel(CELL)
        places = places_of(rows)
        smallest = min(len(measures.of_pool(measures.pool_at(*place))) for place in places)
        found = _gained(algorithm, budget, judge, rows, np.stack([random(place, smallest) for place in places]))
        transfer, visible, signs = found
        yield transfer, visible, [*signs, *_falling(transfer, rows, *before.get(algorithm, (0, rows.iloc[:0])))]
        before[algorithm] = budget, rows


def _random(own: Values, judge: Values, counts: Values) -> Values:
    """`[own, judge; size]` expected best of n by own score, with the two variances in a last column."""
    best = np.stack([expected_best(own, counts), expected_best(own, counts, of=judge)])
    return np.concatenate([best, [[_variance(own)], [_variance(judge)]]], axis=1)


def _variance(scores: Values) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.var()) if len(known) and np.ptp(known) > 0 else 0.0


def _gained(
    algorithm: str, budget: int, judge: str, rows: pd.DataFrame, random: Values
) -> tuple[Transfer, Callable[[float], float], list[_Sign]]:
    """A transfer, what it would have seen by the share of error that an alarm may take, and its signs.

    Args:
        algorithm, budget, judge: which.
        rows: own scores and the judge's.
        random: `[search, own or judge, size]`, what `_random` gives of the pool of each.
    """
    there = np.isfinite(rows.to_numpy()).all(axis=1)
    there &= np.isfinite(random[:, 0]).all(axis=1) & np.isfinite(random[:, 1, 0])
    kept, random, missing = rows[there], random[there], int((~there).sum())
    if kept.empty:
        none = nothing(missing)
        return Transfer(algorithm, budget, judge, none, none, none, np.nan), lambda _: np.nan, []
    searches = searches_of(kept)
    # One candidate is the mean one, and what gains are counted from.
    own, held = searches.means(kept.to_numpy() - random[:, :, 0]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        own_unit, judge_unit = np.sqrt(searches.means(random[:, :, -1])).T
        estimates = [np.where(np.isfinite(one), one, np.nan) for one in (own / own_unit, held / judge_unit)]
        ratios = np.where(estimates[0] > 0, estimates[1] / estimates[0], np.nan)
        random_ratios, beyond = _random_ratios(
            searches, random[:, :, 1:-1] - random[:, :, :1], own, judge_unit / own_unit
        )
        # Of the judge's gain, as a ratio has a heavy tail where the own gain is small.
        excess = estimates[1] - LEAST_SHARE * random_ratios * estimates[0]
    own_gain, judge_gain, ratio = (searches.interval(one, missing) for one in (*estimates, ratios))
    if not own_gain.low > 0:
        ratio = replace(ratio, low=np.nan, high=np.nan)
    found = Transfer(algorithm, budget, judge, own_gain, judge_gain, ratio, float(random_ratios[0]), beyond)
    gains = 1 - searches.below(estimates[0])
    if own_gain.undecided:
        return found, lambda _: np.nan, []
    signs = [
        _Sign(_FALLS, max(gains, searches.below(estimates[1])), _told(found, _FALLS)),
        _Sign(_LOW, max(gains, searches.below(excess)) if random_ratios[0] > 0 else np.nan, _told(found, _LOW)),
    ]

    def visible(share: float) -> float:
        least = []
        equal = max(float(random_ratios[0]), 0.0) * own_gain.value
        for one, kept_share in ((estimates[1], 0.0), (excess, LEAST_SHARE if random_ratios[0] > 0 else np.nan)):
            error, freedom = searches.error(one)
            away = float((stdtrit(freedom, 1 - share) + stdtrit(freedom, POWER)) * error)
            least.append(equal * (1 - kept_share) + away)
        return float(np.nanmin(least)) if np.isfinite(least).any() else np.nan

    return found, visible, signs


def _random_ratios(searches: Searches, curves: Values, own: Values, unit: Values) -> tuple[Values, bool]:
    """Random search's ratios `[1 + left out]` at these raw own gains; and whether the first is beyond the pools.

    The curves are raw gains `[search, own or judge, size]` of 2 and more candidates; NaN where the judge can't tell of
    any that may be chosen.
    """
    if not curves.shape[2]:
        return np.full(len(own), np.nan), False
    known_of = np.isfinite(curves[:, 1])
    own_curve = searches.means(curves[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        judge_curve = searches.means(np.where(known_of, curves[:, 1], 0)) / searches.means(known_of)
    position, side = crossing(own_curve, own)
    known = np.where(np.isnan(position), 0, position)
    left = np.floor(known).astype(int)
    right = np.minimum(left + 1, own_curve.shape[1] - 1)
    rows = np.arange(len(own))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = judge_curve / own_curve / unit[:, None]
        between = ratios[rows, left] + (known - left) * (ratios[rows, right] - ratios[rows, left])
    return np.where(np.isfinite(position) & np.isfinite(between), between, np.nan), bool(side[0] > 0)


def _told(one: Transfer, kind: str) -> str:
    """The sentence of an alarm: the own gain is sure, and the judge surely sees a fall, or too little of it."""
    where = f"{one.algorithm} at {one.budget} NFE"
    if kind == _FALLS:
        return (
            f"{where}: the own score is {one.own_gain} standard deviations above a mean random candidate's, "
            f"{one.judge} {turned(one.judge_gain)} below it: the verifier was pleased and the images got worse"
        )
    gain = "the largest own gain it reached" if one.beyond else "equal own gain"
    return (
        f"{where}: {one.judge} sees {one.ratio} of the own gain, less than half of what it sees of random search's "
        f"at {gain} ({one.random_ratio:.3g}): the verifier was pleased more than the images were improved"
    )


def _falling(one: Transfer, rows: pd.DataFrame, last: int, before: pd.DataFrame) -> Iterator[_Sign]:
    """The same where the judge's score surely falls from the `last` budget to this one while the own surely rises."""
    changes = (rows - before.reindex(rows.index)).dropna()
    if changes.empty:
        return
    searches = searches_of(changes)
    means = searches.means(changes.to_numpy()).T
    own, held = map(searches.interval, means)
    if not own.undecided:
        yield _Sign(
            _FALLING,
            max(1 - searches.below(means[0]), searches.below(means[1])),
            f"{one.algorithm}: from {last} to {one.budget} NFE the own score rises by {own} while {one.judge} falls by "
            f"{turned(held)}: the verifier is being exploited",
        )
