"""Mean scores with intervals over prompts and seeds, and paired differences to random search."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from noise_search.comparison.cells import RANDOM
from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.intervals import LEVEL, Interval, holm, mean_interval
from noise_search.comparison.statistics.measures import CELL, OWN, Measures, groups_of, searches_of, table
from noise_search.words import unknown

NOISE = 1e-4
"""Of their magnitude: scores that differ by no more are equal, as another batch alone may change them so."""

SECONDS = "Seconds are a search's share of a batched run; those of smaller budgets in one run, their share of its NFE."
"""What they are, wherever they are shown."""


@dataclass(frozen=True)
class Mean:
    """Mean score of an algorithm's winners at one budget.

    Attributes:
        algorithm, budget: which.
        measure: "own", or a verifier's or judge's name.
        score: the mean over prompts of the mean over seeds.
    """

    algorithm: str
    budget: int
    measure: str
    score: Interval

    def __str__(self) -> str:
        return f"{self.algorithm} at {self.budget} NFE: {self.measure} {self.score}"


@dataclass(frozen=True)
class Difference:
    """Mean difference of an algorithm to another at equal prompt, budget and noise.

    Attributes:
        algorithm, budget, measure: as in `Mean`.
        baseline: label of the other.
        difference: algorithm less baseline, over the searches that both have.
        corrected: the same with an interval that is as wide as many differences need, so that in at most 5 % of
            comparisons without any difference one is called so.
        together: how many differences that is: of all other algorithms, budgets and measures.
    """

    algorithm: str
    budget: int
    measure: str
    baseline: str
    difference: Interval
    corrected: Interval
    together: int = 1

    @property
    def side(self) -> int:
        """1 where it is clearly above 0, -1 clearly below, 0 where that can't be told."""
        return 0 if self.corrected.undecided else self.corrected.side

    @property
    def verdict(self) -> str:
        """What it is, in words: "higher", "lower", "no clear difference", or "no verdict" where there are too few."""
        if self.corrected.undecided:
            return "no verdict"
        return {1: "higher", -1: "lower", 0: "no clear difference"}[self.side]

    def __str__(self) -> str:
        where = f"{self.algorithm} less {self.baseline} at {self.budget} NFE"
        why = f" ({self.corrected.undecided})" if self.corrected.undecided else ""
        return f"{where}: {self.measure} {self.difference}, {self.verdict}{why}"


def means(
    records: Sequence[Record], pools: Sequence[Pool] = (), measure: str = OWN, *, verifiers: Sequence[str] = ()
) -> tuple[Mean, ...]:
    """Mean scores of every algorithm and budget, in this order.

    Args:
        records, pools, verifiers: as in `Measures.of`; pools are needed for the own score of several verifiers alone.
        measure: "own", or a verifier's or judge's name.

    Raises:
        ValueError: no records, no such measure, or no pool where one is needed.
    """
    scores = Measures.of(records, pools, verifiers).winners(measure)[measure]
    return tuple(Mean(name, nfe, measure, _mean(rows)) for (name, nfe), rows in scores.groupby(level=CELL))


def differences(
    records: Sequence[Record],
    pools: Sequence[Pool] = (),
    measure: str = OWN,
    *,
    baseline: str = RANDOM,
    verifiers: Sequence[str] = (),
) -> tuple[Difference, ...]:
    """Paired differences of every other algorithm to the baseline; searches that it lacks count as missing.

    Verdicts are corrected for all differences that these records hold, by every measure: Holm's method on the chances
    of Student's t (`holm`). Below 8 prompts there is none. Two scores that agree within 1e-4 of their magnitude differ
    by 0: winners from the same noise in other batches do.

    Args:
        records, pools, measure, verifiers: as in `means`.
        baseline: label of the algorithm that the others are held against.

    Raises:
        ValueError: as `means`, or no record is the baseline's.
    """
    measures = Measures.of(records, pools, verifiers)
    own = [OWN] if pools or len(measures.verifiers) == 1 else []
    every = tuple(dict.fromkeys((measure, *own, *measures.judges)))
    scores = measures.winners(*every)
    if baseline not in (labels := scores.index.unique("algorithm")):
        raise unknown("algorithm", baseline, labels)
    others = scores.drop(baseline, level="algorithm")
    base = scores.xs(baseline, level="algorithm").reindex(others.index.droplevel("algorithm")).to_numpy()
    gains = others - base
    gains = gains.mask(gains.abs() <= NOISE * np.maximum(others.abs(), np.abs(base)), 0.0)
    cells = [(*cell, rows[name]) for name in every for cell, rows in gains.groupby(level=CELL)]
    chances = [_chance(rows) for _, _, rows in cells]
    together = int(np.isfinite(chances).sum())
    return tuple(
        Difference(algorithm, budget, measure, baseline, _mean(rows), _mean(rows, 1 - share), together)
        for (algorithm, budget, rows), share in zip(cells, holm(chances), strict=True)
        if rows.name == measure
    )


def _chance(gains: pd.Series) -> float:
    """The chance of a mean difference at least as large where there is none; NaN where it can't be told."""
    known = gains.dropna()
    if known.empty:
        return float("nan")
    searches = searches_of(known)
    below = searches.below(searches.means(known.to_numpy()))
    return 2 * min(below, 1 - below)


def spent(records: Sequence[Record]) -> dict[tuple[str, int], float]:
    """Mean NFE of a search by algorithm and budget, some of which can't spend the last of it; {} where all do."""
    found = table(records, {"nfe": [one.nfe for one in records]}).nfe.groupby(level=CELL).mean().to_dict()
    return found if any(nfe != budget for (_, budget), nfe in found.items()) else {}


def _mean(scores: pd.Series, level: float = LEVEL) -> Interval:
    return mean_interval(scores.to_numpy(), *groups_of(scores), level=level)
