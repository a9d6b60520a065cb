"""What is measured of a search's winner and of random search's candidates: the own score, a verifier's or a judge's."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from noise_search.comparison.records import Pool, Record
from noise_search.comparison.statistics.intervals import Searches, Values
from noise_search.words import unknown

OWN = "own"
"""The measure that was searched by."""


CELL = ["algorithm", "budget"]
"""The levels of a table's index by which statistics are grouped."""


def table(records: Sequence[Record], columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Columns `[record]` by algorithm, budget, prompt, seed and first noise, in this order."""
    cells = [(one.algorithm, one.budget, one.prompt, one.seed, one.noise) for one in records]
    # As objects: a prompt may hold what is no UTF-8, which pandas' own texts refuse.
    index = pd.DataFrame(cells, columns=[*CELL, "prompt", "seed", "noise"], dtype=object)
    return pd.DataFrame(columns, index=pd.MultiIndex.from_frame(index)).sort_index(kind="stable")


def groups_of(rows: pd.DataFrame | pd.Series) -> tuple[list[str], list[int]]:
    """The prompt of each row of a table, and its first noise."""
    return list(rows.index.get_level_values("prompt")), list(rows.index.get_level_values("noise"))


def places_of(rows: pd.DataFrame | pd.Series) -> list[tuple[str, int]]:
    """The prompt and seed of each row of a table, by which pools are found."""
    return list(zip(rows.index.get_level_values("prompt"), rows.index.get_level_values("seed"), strict=True))


def searches_of(rows: pd.DataFrame | pd.Series) -> Searches:
    """The searches that the rows of a table are of."""
    return Searches(*groups_of(rows))


def by_cell(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    """Records by algorithm and budget, in the order of `table`."""
    groups: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for one in sorted(records, key=lambda one: (one.algorithm, one.budget, one.prompt, one.seed)):
        groups[one.algorithm, one.budget].append(one)
    return dict(groups)


@dataclass(frozen=True)
class Measures:
    """Reads measures off records and pools.

    The own score is the raw score of the verifier. With several verifiers it is the mean of z-scores against the random
    pool of the same prompt and seed (mean and population standard deviation over its candidates; a verifier whose std
    is 0 there contributes 0). All other measures are raw scores by name.

    Attributes:
        records: of one comparison.
        verifiers: names that make the own score.
        judges: names of the judges.
        pools: random search's candidates by prompt and seed.
    """

    records: tuple[Record, ...]
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
        if again := _twice(one.cell for one in records):
            raise ValueError(f"two records have algorithm, prompt, budget, seed {again}; expected one of each")
        if again := _twice((one.prompt, one.seed) for one in pools):
            raise ValueError(f"two pools have prompt, seed {again}; expected one of each")
        scored = tuple(sorted({name for one in records for name in one.scores}))
        for name in verifiers:
            if name not in scored:
                raise unknown("verifier", name, scored)
        judged = tuple(sorted({name for one in records for name in one.judges}))
        return cls(tuple(records), tuple(verifiers) or scored, judged, {(one.prompt, one.seed): one for one in pools})

    def winners(self, *measures: str) -> pd.DataFrame:
        """A column for each measure, of every search's winner; the rows are those of `table`.

        Raises:
            ValueError: with the nearest name where records have no such measure.
        """
        known = {OWN, *self.verifiers, *self.judges}
        for name in measures:
            if name not in known:
                raise unknown("measure", name, known)
        return table(self.records, {name: [self.of_record(one, name) for one in self.records] for name in measures})

    def pool(self, record: Record) -> Pool:
        """As `pool_at`, for the record's prompt and seed."""
        return self.pool_at(record.prompt, record.seed)

    def pool_at(self, prompt: str, seed: int) -> Pool:
        """Random search's candidates for this prompt and seed.

        Raises:
            ValueError: there is no such pool.
        """
        found = self.pools.get((prompt, seed))
        if found is None:
            raise ValueError(
                f"no pool for prompt {prompt!r} and seed {seed}; expected random search's candidates for "
                f"every prompt and seed that has records"
            )
        return found

    def mean_candidate(self, pool: Pool, measure: str = OWN) -> float:
        """The mean of its candidates, which gains are counted from; NaN where none has a value."""
        return mean_of_known(self.of_pool(pool, measure))

    def of_record(self, record: Record, measure: str = OWN) -> float:
        """Of the winner; NaN where it has none, as its search failed or the judge couldn't tell."""
        if measure != OWN:
            return float(_known((record.judges if measure in self.judges else record.scores).get(measure, np.nan)))
        scores = [_known(record.scores.get(name, np.nan)) for name in self.verifiers]
        return float(scores[0] if len(scores) == 1 else self._own(scores, self.pool(record)))

    def of_pool(self, pool: Pool, measure: str = OWN) -> Values:
        """Of its candidates `[candidate]`, NaN where one failed.

        Raises:
            ValueError: the pool has no such measure.
        """
        if measure != OWN:
            return _scores(pool, measure, pool.judges if measure in self.judges else pool.scores)
        scores = [_scores(pool, name, pool.scores) for name in self.verifiers]
        return scores[0] if len(scores) == 1 else self._own(scores, pool)

    def _own(self, scores: Sequence[Values], pool: Pool) -> Values:
        """The mean of the z-scores of each verifier's scores."""
        pairs = zip(self.verifiers, scores, strict=True)
        return np.asarray(np.mean([_z(values, _scores(pool, name, pool.scores)) for name, values in pairs], axis=0))


def mean_of_known(values: Values) -> float:
    """Mean of what is finite; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _twice(keys: Iterable[Hashable]) -> Any:
    return next((key for key, count in Counter(keys).items() if count > 1), None)


def _scores(pool: Pool, name: str, known: Mapping[str, tuple[float, ...]]) -> Values:
    if name not in known:
        raise unknown(f"score of the pool for prompt {pool.prompt!r}, seed {pool.seed}:", name, known)
    return _known(known[name])


def _known(scores: float | Sequence[float]) -> Values:
    """NaN for what isn't finite."""
    return np.where(np.isfinite(scores), scores, np.nan)


def _z(scores: Values, pool: Values) -> Values:
    """(score - mean) / std of the pool's finite scores; 0 where their std is 0, NaN where either has no value."""
    known = pool[np.isfinite(pool)]
    if not len(known):
        return np.full_like(scores, np.nan)
    if np.ptp(known) == 0:  # equal scores may have a std of rounding errors
        return np.asarray(scores * 0)
    return np.asarray((scores - known.mean()) / known.std())
