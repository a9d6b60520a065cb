"""What is measured of a search's winner and of random search's candidates: the own score, a verifier's or a judge's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.bootstrap import Values
from noise_search.words import unknown

OWN = "own"
"""The measure that was searched by."""


@dataclass(frozen=True)
class Measures:
    """Reads measures off records and pools.

    The own score is the raw score of the verifier. With several verifiers it is the mean of z-scores against the random
    pool of the same prompt and seed (mean and population standard deviation over its candidates; a verifier whose std
    is 0 there contributes 0). All other measures are raw scores by name.

    Attributes:
        verifiers: names that make the own score.
        judges: names of the judges.
        pools: random search's candidates by prompt and seed.
    """

    verifiers: tuple[str, ...]
    judges: tuple[str, ...]
    pools: Mapping[tuple[str, int], Pool]

    @classmethod
    def of(cls, records: Sequence[Record], pools: Sequence[Pool], verifiers: Sequence[str] = ()) -> "Measures":
        """Measures of these records.

        Args:
            records: of one comparison.
            pools: of the same comparison.
            verifiers: names that make the own score; all that records have when none are given. Constraints, which are
                kept among the scores, are left out by naming the others.

        Raises:
            ValueError: no records, two of one cell, two pools of one prompt and seed, or no such verifier.
        """
        if not records:
            raise ValueError("records is empty; expected those of at least one search")
        cells = [one.cell for one in records]
        if len(set(cells)) < len(cells):
            twice = next(cell for cell in cells if cells.count(cell) > 1)
            raise ValueError(f"two records have algorithm, prompt, budget, seed {twice}; expected one of each")
        places = [(one.prompt, one.seed) for one in pools]
        if len(set(places)) < len(places):
            again = next(place for place in places if places.count(place) > 1)
            raise ValueError(f"two pools have prompt, seed {again}; expected one of each")
        scored = tuple(sorted({name for one in records for name in one.scores}))
        for name in verifiers:
            if name not in scored:
                raise unknown("verifier", name, scored)
        judged = tuple(sorted({name for one in records for name in one.judges}))
        return cls(tuple(verifiers) or scored, judged, dict(zip(places, pools, strict=True)))

    def pool(self, record: Record) -> Pool:
        """Random search's candidates for the record's prompt and seed.

        Raises:
            ValueError: there is no such pool.
        """
        found = self.pools.get((record.prompt, record.seed))
        if found is None:
            raise ValueError(
                f"no pool for prompt {record.prompt!r} and seed {record.seed}; expected random search's candidates for "
                f"every prompt and seed that has records"
            )
        return found

    def smallest(self, records: Sequence[Record]) -> int:
        """How many random candidates there are for each of their prompts and seeds.

        Raises:
            ValueError: no pool for one of them.
        """
        return min(len(self.of_pool(self.pool(one))) for one in records)

    def mean_candidate(self, pool: Pool, measure: str = OWN) -> float:
        """The mean of its candidates, which gains are counted from; NaN where none has a value."""
        return mean_of_known(self.of_pool(pool, measure))

    def check(self, measure: str) -> None:
        """ValueError with the nearest name where records have no such measure."""
        if measure not in (known := {OWN, *self.verifiers, *self.judges}):
            raise unknown("measure", measure, known)

    def of_record(self, record: Record, measure: str = OWN) -> float:
        """Of the winner; NaN where it has none, as its search failed or the judge couldn't tell."""
        if measure != OWN:
            scores = record.judges if measure in self.judges else record.scores
            return _finite(scores.get(measure))
        if len(self.verifiers) == 1:
            return _finite(record.scores.get(self.verifiers[0]))
        pool = self.pool(record)
        scored = {name: np.asarray(_finite(record.scores.get(name))) for name in self.verifiers}
        return float(np.mean([_z(score, _scores(pool, name, pool.scores)) for name, score in scored.items()]))

    def of_pool(self, pool: Pool, measure: str = OWN) -> Values:
        """Of its candidates `[candidate]`, NaN where one failed.

        Raises:
            ValueError: the pool has no such measure.
        """
        if measure != OWN:
            return _scores(pool, measure, pool.judges if measure in self.judges else pool.scores)
        each = [_scores(pool, name, pool.scores) for name in self.verifiers]
        return each[0] if len(each) == 1 else np.asarray(np.mean([_z(scores, scores) for scores in each], axis=0))


def by_cell(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """Records by algorithm and budget, both in order; within them by prompt and seed, which resampling relies on."""
    groups: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for one in sorted(records, key=lambda one: (one.algorithm, one.budget, one.prompt, one.seed)):
        groups[one.algorithm, one.budget].append(one)
    return dict(groups)


def mean_of_known(values: Values) -> float:
    """Mean of what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _scores(pool: Pool, name: str, known: Mapping[str, tuple[float, ...]]) -> Values:
    if name not in known:
        raise unknown(f"score of the pool for prompt {pool.prompt!r}, seed {pool.seed}:", name, known)
    scores = np.asarray(known[name], dtype=np.float64)
    return np.where(np.isfinite(scores), scores, np.nan)


def _finite(score: float | None) -> float:
    return float("nan") if score is None or not np.isfinite(score) else float(score)


def _z(scores: Values, pool: Values) -> Values:
    """(score - mean) / std of the pool's finite scores; 0 where their std is 0, NaN where either has no value."""
    known = pool[np.isfinite(pool)]
    if not len(known):
        return np.full_like(scores, np.nan)
    if np.ptp(known) == 0:  # equal scores may have a std of rounding errors
        return np.asarray(scores * 0)
    return np.asarray((scores - known.mean()) / known.std())
