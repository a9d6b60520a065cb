"""How different an algorithm's winners for one prompt are across seeds: searching hard may find one image again."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from noise_search.comparison.records import Record
from noise_search.comparison.statistics.intervals import Interval, Values, mean_interval
from noise_search.comparison.statistics.measures import CELL, table


@dataclass(frozen=True)
class Diversity:
    """Diversity of winners across seeds, the mean over prompts.

    Attributes:
        algorithm, budget: which.
        seeds: winners of each prompt that were looked at: the same everywhere, as only equal numbers can be compared.
        distance: mean pairwise 1 - cosine of the winners' embeddings.
        vendi: Vendi score, the effective number of different images: from 1 to `seeds`.
    """

    algorithm: str
    budget: int
    seeds: int
    distance: Interval
    vendi: Interval

    def __str__(self) -> str:
        where = f"{self.algorithm} at {self.budget} NFE"
        if np.isnan(self.vendi.value):
            return f"{where}: no diversity without two seeds of one prompt"
        return f"{where}: {self.seeds} seeds give {self.vendi} different images; mean distance {self.distance}"


def diversities(records: Sequence[Record]) -> tuple[Diversity, ...]:
    """Diversity of every algorithm and budget, in this order.

    The Vendi score grows with the number of images, so all prompts of all algorithms and budgets are looked at with as
    many winners as the one with the fewest has: those of their first seeds. Prompts with fewer than two embedded
    winners count as missing. Intervals are over prompts.

    Raises:
        ValueError: no records, or embeddings of different lengths.
    """
    if not records:
        raise ValueError("records is empty; expected those of at least one search")
    vectors = table(records, {"vector": [np.asarray(one.embedding, dtype=np.float64) for one in records]}).vector
    known = {
        cell: [one for one in some if np.isfinite(one).all() and np.linalg.norm(one) > 0]
        for cell, some in vectors.groupby(level=[*CELL, "prompt"])
    }
    lengths = {len(one) for some in known.values() for one in some}
    if len(lengths) > 1:
        raise ValueError(f"embeddings have lengths {sorted(lengths)}; expected one length: embed all by one model")
    seeds = min((len(some) for some in known.values() if len(some) > 1), default=1)
    found = []
    for (algorithm, budget), cells in groupby(known, key=lambda cell: cell[:2]):
        prompts = {cell[2]: np.array(known[cell][:seeds] if len(known[cell]) > 1 else []) for cell in cells}
        distance, vendi = (
            mean_interval(np.array([measure(one) for one in prompts.values()]), list(prompts))
            for measure in (pairwise_distance, vendi_score)
        )
        found.append(Diversity(algorithm, budget, seeds, distance, vendi))
    return tuple(found)


def distances(records: Sequence[Record]) -> dict[tuple[str, int, str], float]:
    """Mean pairwise distance of the winners across seeds by algorithm, budget and prompt; NaN for a single seed."""
    winners: dict[tuple[str, int, str], list[Values]] = defaultdict(list)
    for one in records:
        if one.embedding:
            winners[one.algorithm, one.budget, one.prompt].append(np.asarray(one.embedding, dtype=np.float64))
    return {cell: pairwise_distance(np.array(found)) for cell, found in winners.items()}


def pairwise_distance(embeddings: Values) -> float:
    """Mean of 1 - cosine over all pairs of `[image, feature]`; NaN for fewer than two images."""
    count = len(embeddings)
    if count < 2:
        return float("nan")
    cosines = _cosines(embeddings)
    return float(1 - (cosines.sum() - np.trace(cosines)) / (count * (count - 1)))


def vendi_score(embeddings: Values) -> float:
    """Effective number of different images among `[image, feature]`; NaN for none.

    exp(-sum_i l_i ln l_i) with the eigenvalues l of K / n and the cosine kernel K, Friedman & Dieng 2023
    (arXiv 2210.02410): n for orthogonal features, 1 for equal ones.
    """
    if not len(embeddings):
        return float("nan")
    eigenvalues = np.linalg.eigvalsh(_cosines(embeddings) / len(embeddings))
    positive = eigenvalues[eigenvalues > 1e-12]  # 0 ln 0 = 0, and rounding makes some negative
    return float(np.exp(-np.sum(positive * np.log(positive))))


def _cosines(embeddings: Values) -> Values:
    units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(units @ units.T)
