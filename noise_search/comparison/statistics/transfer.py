"""Whether held-out judges gain where the search's own score does: transfer ratios, and alarms for verifier hacking.

Under random search the ratio of the gains, each in its within-prompt standard deviation, is the within-prompt
correlation of the two scores, whatever the budget. An algorithm that makes better images keeps that ratio; one that
exploits the verifier's weaknesses falls below it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

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
from noise_search.comparison.statistics.measures import OWN, Measures, by_cell
from noise_search.comparison.statistics.order_statistics import crossing, expected_best, sizes
from noise_search.words import unknown

Curves = Callable[[tuple[str, int], int], Values]
"""Of a prompt and seed, with so many random candidates; see `_curves`."""


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


@dataclass(frozen=True)
class _Gains:
    """Own and judge's gains of searches that have both, and what random search gains at each number of candidates.

    Attributes:
        prompts: of each search.
        own, judge: raw gains over the mean candidate `[search]`.
        own_variance, judge_variance: of its pool `[search]`.
        own_curve, judge_curve: expected raw gains of the best of n by own score `[search, size]`; NaN where the judge
            can't tell of any that may be chosen.
        missing: searches left out.
    """

    prompts: tuple[str, ...]
    own: Values
    judge: Values
    own_variance: Values
    judge_variance: Values
    own_curve: Values
    judge_curve: Values
    missing: int


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
        records: of one comparison.
        pools: random search's candidates for each of their prompts and seeds, all of them judged.
        judges: names of judges; all that aren't verifiers too when none are given.
        verifiers: names that make the own score; see `Measures`.

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
    cells = by_cell(records)
    return tuple(one for judge in asked for one in _of_judge(judge, cells, measures))


def alarms(found: Sequence[Transfer]) -> tuple[Alarm, ...]:
    """All alarms of some transfers, in their order."""
    return tuple(alarm for one in found for alarm in one.alarms)


def _of_judge(judge: str, cells: dict[tuple[str, int], list[Record]], measures: Measures) -> list[Transfer]:
    falls = {
        (algorithm, budget): _falling(judge, cells[algorithm, before], cells[algorithm, budget], measures)
        for (algorithm, before), (other, budget) in pairwise(cells)
        if algorithm == other
    }

    @cache
    def curves(place: tuple[str, int], most: int) -> Values:
        pool = measures.pools[place]
        return _curves(measures.of_pool(pool), measures.of_pool(pool, judge), sizes(most))

    return [
        _transfer(cell, judge, _gains(rows, judge, measures, curves), falls.get(cell)) for cell, rows in cells.items()
    ]


def _curves(own: Values, judge: Values, counts: Values) -> Values:
    """`[own, judge; size]` expected best of n by own score, with the two variances in a last column."""
    best = np.stack([expected_best(own, counts), expected_best(own, counts, of=judge)])
    return np.concatenate([best, [[_variance(own)], [_variance(judge)]]], axis=1)


def _variance(scores: Values) -> float:
    known = scores[np.isfinite(scores)]
    return float(known.var()) if len(known) and np.ptp(known) > 0 else 0.0


def _gains(rows: Sequence[Record], judge: str, measures: Measures, curves: Curves) -> _Gains:
    own = np.array([measures.of_record(one) for one in rows])
    judged = np.array([measures.of_record(one, judge) for one in rows])
    smallest = measures.smallest(rows)
    random = np.stack([curves((one.prompt, one.seed), smallest) for one in rows])
    there = (
        np.isfinite(own) & np.isfinite(judged) & np.isfinite(random[:, 0]).all(axis=1) & np.isfinite(random[:, 1, 0])
    )
    prompts = tuple(one.prompt for one, known in zip(rows, there, strict=True) if known)
    own, judged, random = own[there], judged[there], random[there]
    # One candidate is the mean one, and what gains are counted from.
    own_curve, judge_curve = (random[:, i, :-1] - random[:, i, :1] for i in (0, 1))
    return _Gains(
        prompts,
        own - random[:, 0, 0],
        judged - random[:, 1, 0],
        random[:, 0, -1],
        random[:, 1, -1],
        own_curve,
        judge_curve,
        int((~there).sum()),
    )


def _transfer(cell: tuple[str, int], judge: str, gains: _Gains, falling: str | None) -> Transfer:
    algorithm, budget = cell
    alarm = [] if falling is None else [Alarm("falling", algorithm, budget, judge, falling)]
    if not gains.prompts:
        none = nothing(gains.missing)
        return Transfer(algorithm, budget, judge, none, none, none, float("nan"), alarms=tuple(alarm))
    weights = resampled(gains.prompts)
    with np.errstate(divide="ignore", invalid="ignore"):
        own_unit, judge_unit = np.sqrt(weights @ gains.own_variance), np.sqrt(weights @ gains.judge_variance)
        own, held = weights @ gains.own / own_unit, weights @ gains.judge / judge_unit
        ratio = np.where(own > 0, held / own, np.nan)
        random, side = _random_ratio(weights, gains, own * own_unit, judge_unit / own_unit)

    def told(estimates: Values) -> Interval:
        return interval(np.where(np.isfinite(estimates), estimates, np.nan), gains.prompts, gains.missing)

    own_gain, judge_gain = told(own), told(held)
    found = told(ratio)
    if not own_gain.low > 0:
        found = Interval(found.value, np.nan, np.nan, found.prompts, found.searches, found.missing)
    elif found.prompts >= LEAST_PROMPTS and judge_gain.high < 0:
        alarm.insert(0, Alarm("judge falls", algorithm, budget, judge, _below(cell, judge, own_gain, judge_gain)))
    elif (
        found.prompts >= LEAST_PROMPTS
        and random[0] > 0
        and found.value < LEAST_SHARE * random[0]
        and ends(ratio[1:] - LEAST_SHARE * random[1:])[1] < 0
    ):
        alarm.insert(0, Alarm("low transfer", algorithm, budget, judge, _low(cell, judge, found, random[0], side > 0)))
    return Transfer(
        algorithm, budget, judge, own_gain, judge_gain, found, float(random[0]), bool(side > 0), tuple(alarm)
    )


def _random_ratio(weights: Values, gains: _Gains, own: Values, unit: Values) -> tuple[Values, float]:
    """Random search's ratio `[1 + resample]` at these raw own gains; and whether the first is beyond the pools (1)."""
    if gains.own_curve.shape[1] < 2:
        return np.full(len(weights), np.nan), 0.0
    own_curve, judge_curve = weights @ gains.own_curve[:, 1:], _mean_of_known(weights, gains.judge_curve[:, 1:])
    position, side = crossing(own_curve, own)
    known = np.where(np.isnan(position), 0, position)
    left = np.floor(known).astype(int)
    right = np.minimum(left + 1, own_curve.shape[1] - 1)
    rows = np.arange(len(weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = judge_curve / own_curve / unit[:, None]
        between = ratios[rows, left] + (known - left) * (ratios[rows, right] - ratios[rows, left])
    return np.where(np.isfinite(position) & np.isfinite(between), between, np.nan), float(side[0])


def _mean_of_known(weights: Values, values: Values) -> Values:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ np.where(known, values, 0) / (weights @ known))


def _below(cell: tuple[str, int], judge: str, own: Interval, held: Interval) -> str:
    algorithm, budget = cell
    return (
        f"{algorithm} at {budget} NFE: the own score is {own} standard deviations above a mean random candidate's, "
        f"{judge} {turned(held)} below it: the verifier was pleased and the images got worse"
    )


def _low(cell: tuple[str, int], judge: str, ratio: Interval, random: float, beyond: bool) -> str:
    algorithm, budget = cell
    where = "the largest own gain it reached" if beyond else "equal own gain"
    return (
        f"{algorithm} at {budget} NFE: {judge} sees {ratio} of the own gain, less than half of what it sees of random "
        f"search's at {where} ({random:.3g}): the verifier was pleased more than the images were improved"
    )


def _falling(judge: str, before: Sequence[Record], after: Sequence[Record], measures: Measures) -> str | None:
    """A sentence where the judge's score surely falls from one budget to the next while the own score surely rises."""
    known = {(one.prompt, one.seed): one for one in before}
    pairs = [(known[place], one) for one in after if (place := (one.prompt, one.seed)) in known]
    changes = np.array(
        [[measures.of_record(b, name) - measures.of_record(a, name) for name in (OWN, judge)] for a, b in pairs]
    ).reshape(-1, 2)
    there = np.isfinite(changes).all(axis=1)
    prompts = [one.prompt for (_, one), counts in zip(pairs, there, strict=True) if counts]
    own, held = (mean_interval(change, prompts) for change in changes[there].T)
    if not (own.prompts >= LEAST_PROMPTS and own.low > 0 and held.high < 0):
        return None
    first, last = before[0].budget, after[0].budget
    return (
        f"{after[0].algorithm}: from {first} to {last} NFE the own score rises by {own} while {judge} falls by "
        f"{turned(held)}: the verifier is being exploited"
    )
