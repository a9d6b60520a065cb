"""The exact expected best of n random candidates, and how many are needed for a given score."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_MOST_SIZES = 256

_SLACK, _ROUNDING = 1e-4, 1e-6
"""Of a curve's rise, and of the scores' magnitude: by so much a level may miss a point and count as on it."""


def sizes(candidates: int) -> Values:
    """Sizes n from 1 to the pool's at which a curve is computed: all of them while they are few, then log-spaced."""
    if candidates <= _MOST_SIZES:
        return np.arange(1.0, candidates + 1)
    return np.unique(np.round(np.geomspace(1, candidates, _MOST_SIZES)))


def expected_best(values: Values, sizes: Values, of: Values | None = None) -> Values:
    """Expected best of n candidates drawn without replacement from a pool, exactly, for each n.

    The i-th smallest of m values is the largest of n draws with probability C(i - 1, n - 1) / C(m, n). A candidate
    without a value (NaN) never wins but is drawn like the others; where only such are drawn there is no best, and the
    expectation is over the other draws.

    Args:
        values: `[candidate]`, by which the best is chosen.
        sizes: n, each between 1 and the number of candidates.
        of: `[candidate]` what the chosen one is worth, the mean over equally good ones; the values themselves when not
            given. Draws whose best is worth NaN are left out.

    Returns:
        `[size]`; NaN where no draw counts.
    """
    order = np.argsort(np.where(np.isnan(values), -np.inf, values), kind="stable")
    ranked = values[order]
    chances = _chances(len(values), tuple(float(n) for n in sizes))
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # every NaN is a group of its own
    lengths = np.diff(np.r_[starts, len(ranked)])
    chances = np.repeat(np.add.reduceat(chances, starts, axis=1) / lengths, lengths, axis=1)
    worth = (values if of is None else of)[order]
    counts = np.isfinite(ranked) & np.isfinite(worth)
    total = chances[:, counts].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(total > 0, chances[:, counts] @ worth[counts] / total, np.nan))


@lru_cache(maxsize=32)
def _chances(candidates: int, sizes: tuple[float, ...]) -> Values:
    """`[size, rank]`: probability that the candidate of this rank, ascending, is the best of n.

    w_m = n / m, w_i = w_(i+1) * (i + 1 - n) / i: stable where binomials overflow.
    """
    n = np.array(sizes)[:, None]
    above = np.arange(candidates - 1, 0, -1)[None]  # i = m - 1 ... 1
    falling = np.cumprod(np.clip(above + 1 - n, 0, None) / above, axis=1)
    descending = np.concatenate([np.ones_like(n), falling], axis=1) * n / candidates
    return np.ascontiguousarray(descending[:, ::-1])


def crossing(curves: Values, levels: Values) -> tuple[Values, Values]:
    """Where rising curves first reach a level, by linear interpolation between their points.

    The same noise in another batch gives another score, in float32 by about 1e-5 of it. A level that misses a point of
    the curve by less than 1e-4 of the curve's rise, and 1e-6 of its magnitude, counts as on it: else a winner that is
    the pool's best would lie beyond the pool. A curve that rises by no more than that is flat.

    Args:
        curves: `[row, point]`, rising up to such errors.
        levels: `[row]`.

    Returns:
        Positions `[row]` counted in points, the ends' where the level is beyond them, NaN where curve or level are or
        where a flat curve can't tell; and the side `[row]`: -1 below the curve, 1 above it, 0 within.
    """
    rising = np.maximum.accumulate(curves, axis=1)
    low, high = rising[:, 0], rising[:, -1]
    slack = _SLACK * (high - low) + _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    side = np.where(levels > high + slack, 1.0, np.where(levels < low - slack, -1.0, 0.0))
    right = np.sum(rising < (levels - slack)[:, None], axis=1).clip(0, curves.shape[1] - 1)
    left = (right - 1).clip(0)
    rows = np.arange(len(curves))
    step = rising[rows, right] - rising[rows, left]
    part = np.where(step > 0, (levels - rising[rows, left]) / np.where(step > 0, step, 1), 0.0).clip(0, 1)
    unknown = np.isnan(low + high + levels) | ((side == 0) & (high - low <= slack) & (curves.shape[1] > 1))
    position = np.where(side > 0, curves.shape[1] - 1, left + part)
    return np.where(unknown, np.nan, position), np.where(unknown, 0.0, side)
