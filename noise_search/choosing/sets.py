"""A set of candidates that are good, and different from each other: several pictures to choose from."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from noise_search.arguments import check_numbers

Values = Float[np.ndarray, " pool"]
Distances = Float[np.ndarray, "pool pool"]

STARTS = 128
"""Starts that are tried at most; of larger pools those of the best quality."""
_GAIN = 1e-9
"""What a swap must bring at least, in standard deviations: less is rounding, and could go round in circles."""


def pick_set(quality: Values, distance: Distances, count: int, diversity: float) -> list[int]:
    """The rows of a set that is good and different, best quality first.

    Maximises over sets S of `count` rows

        J(S) = mean of u_i over S + diversity * mean of d_ij over pairs of S,

    u the z-scores of quality within the pool, d the distances less their mean over all pairs of the pool, by their
    standard deviation, so that one `diversity` means the same for every prompt. It is the aim of Group Inference
    (arXiv 2508.15773) with means in place of sums, so that it means the same for sets of any size, too. From every row
    as a start the set grows by the row that brings most, and then the best swap of a member is made until none brings
    anything; the best of these sets is taken. Of equal ones that of the earliest start.

    Args:
        quality: higher is better; rows that aren't finite are never picked.
        distance: symmetric, 0 on its diagonal.
        count: rows to pick, at least 1; all usable rows where there are no more.
        diversity: 0 or more; 0 picks the best.
    """
    usable = np.flatnonzero(np.isfinite(quality))
    usable = usable[np.argsort(-quality[usable], kind="stable")]
    if len(usable) > count:
        u, d = standardised(quality[usable]), standardised_distances(distance[np.ix_(usable, usable)])
        single, pair = u / count, diversity * d / max(1, count * (count - 1) / 2)
        found = [_improved(_grown(start, single, pair, count), single, pair) for start in range(min(len(u), STARTS))]
        usable = usable[np.sort(max(found, key=lambda one: _value(one, single, pair)))]
    return [int(row) for row in usable]


def pick_beside(given: Sequence[int], quality: Values, distance: Distances, count: int, diversity: float) -> list[int]:
    """Further rows that are good, and different from the given ones and each other: one after the other, as they come.

    Each is the row that brings most to J of `pick_set`, for the set that holds the given ones too. Rows whose quality
    isn't finite are never picked; fewer than `count` where there are no more.
    """
    usable = np.flatnonzero(np.isfinite(quality) | np.isin(np.arange(len(quality)), given))
    place = {int(row): at for at, row in enumerate(usable)}
    u, size = standardised(np.nan_to_num(quality[usable])), len(given) + count
    pair = diversity * standardised_distances(distance[np.ix_(usable, usable)]) / max(1, size * (size - 1) / 2)
    rows = [place[row] for row in given]
    gain = u / size + pair[rows].sum(0)
    gain[rows] = -np.inf
    while len(rows) < min(size, len(usable)):
        rows.append(int(gain.argmax()))
        gain += pair[rows[-1]]
        gain[rows[-1]] = -np.inf
    return [int(usable[row]) for row in rows[len(given) :]]


def check_diversity(diversity: float | None) -> None:
    """Refuse what is no finite number of at least 0; None passes."""
    check_numbers(diversity=diversity)
    if diversity is not None and not 0 <= diversity < np.inf:
        raise ValueError(f"diversity={diversity!r} must be 0 or more and finite: 0 takes the best, 1.5 is usual")


def worth(rows: Sequence[int], quality: Values, distance: Distances, diversity: float) -> float:
    """J of a set within its pool, as `pick_set` maximises it; all rows of the pool must be finite."""
    u, d = standardised(quality), standardised_distances(distance)
    count, chosen = len(rows), list(rows)
    return _value(np.array(chosen), u / count, diversity * d / max(1, count * (count - 1) / 2))


def _value(rows: np.ndarray, single: Values, pair: Distances) -> float:
    return float(single[rows].sum() + pair[np.ix_(rows, rows)].sum() / 2)


def _grown(start: int, single: Values, pair: Distances, count: int) -> np.ndarray:
    """A start and the rows that bring most, one after the other."""
    rows = [start]
    gain = single + pair[start]
    while len(rows) < count:
        gain[rows[-1]] = -np.inf
        rows.append(int(gain.argmax()))
        gain += pair[rows[-1]]
    return np.array(rows)


def _improved(rows: np.ndarray, single: Values, pair: Distances) -> np.ndarray:
    """The set after the best swaps, one at a time, until none brings anything."""
    inside = np.zeros(len(single), dtype=bool)
    inside[rows] = True
    while True:
        members, others = np.flatnonzero(inside), np.flatnonzero(~inside)
        whole = single + pair[:, members].sum(1)
        gain = whole[others] - whole[members][:, None] - pair[np.ix_(members, others)]
        out, into = np.unravel_index(gain.argmax(), gain.shape)
        if gain[out, into] <= _GAIN:
            return members
        inside[members[out]], inside[others[into]] = False, True


def standardised(values: np.ndarray) -> np.ndarray:
    """Values less their mean by their standard deviation; 0 where all are equal."""
    spread = values.std() if len(values) and values.max() > values.min() else 0.0
    found: np.ndarray = (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)
    return found


def standardised_distances(distance: Distances) -> Distances:
    """Distances, standardised over all pairs of the pool; 0 on the diagonal."""
    upper = np.triu_indices(len(distance), 1)
    found = np.zeros_like(distance, dtype=np.float64)
    found[upper] = standardised(distance[upper])
    return found + found.T


def cosine_distances(features: Float[np.ndarray, "pool feature"]) -> Distances:
    """1 - cosine of every pair, in [0, 2]; of two rows of zeros 0, of one beside any other 1/2.

    |a - b|^2 / 2 for unit vectors a and b, which is 1 - cosine, and says something of zeros, too.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    units = features / np.where(lengths > 0, lengths, 1)
    squares = (units**2).sum(1)
    found = np.clip((squares[:, None] + squares) / 2 - units @ units.T, 0, 2)
    np.fill_diagonal(found, 0)
    return np.asarray(found)


def unexplained(features: Float[np.ndarray, "pool feature"], quality: Values) -> Float[np.ndarray, "pool feature"]:
    """Features less what the pool has in common, and less what quality tells of them linearly.

    What scores well looks alike to whom it looks good, so that by a verifier's own features every good set is of equal
    images, and every set of different ones is bad. What is left says how images differ that are equally good.

    Args:
        features: one row an image.
        quality: all finite.
    """
    centred, u = features - features.mean(0), standardised(quality)
    return np.asarray(centred - np.outer(u, u @ centred / len(u)))


def shown_by(cells: np.ndarray) -> Float[np.ndarray, "image cell"]:
    """Unit features of averaged images: which of their cells are brighter than the rest."""
    less_mean = cells - cells.mean(1, keepdims=True, dtype=np.float64)
    lengths = np.linalg.norm(less_mean, axis=1, keepdims=True)
    return np.asarray(less_mean / np.where(lengths > 0, lengths, 1))
