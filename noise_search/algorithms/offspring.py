"""How many branches each particle gets: draws of n from n weights, each with an expectation of n times its weight."""

from collections.abc import Callable, Mapping

import numpy as np

Offspring = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]
"""(weights that sum to 1, key, width) -> whole numbers that sum to as many as there are weights."""


def multinomial(weights: np.ndarray, rng: np.random.Generator, width: int = 1) -> np.ndarray:
    """Independent draws: unbiased, and the noisiest."""
    counts: np.ndarray = rng.multinomial(len(weights), weights)
    return counts


def systematic(weights: np.ndarray, rng: np.random.Generator, width: int = 1) -> np.ndarray:
    """One draw for all (Kitagawa, 1996): n w rounded down or up, to the left or right as one uniform number falls."""
    edges = np.cumsum(weights) * len(weights)
    edges[-1] = len(weights)
    passed = np.ceil(edges - rng.random()).clip(0, len(weights)).astype(int)
    passed[-1] = len(weights)
    return np.diff(passed, prepend=0)


def ssp(weights: np.ndarray, rng: np.random.Generator, width: int = 1) -> np.ndarray:
    """Srinivasan sampling (Gerber, Chopin & Whiteley, 2019): n w rounded down or up, by pairs trading rests."""
    size = len(weights)
    counts = np.floor(weights * size + 1e-12).astype(int)
    rest = np.clip(weights * size - counts, 0, 1)
    one = 0
    for other in range(1, size):
        up_one, up_other = min(rest[other], 1 - rest[one]), min(rest[one], 1 - rest[other])
        total = up_one + up_other
        if total > 0 and rng.random() * total < up_other:
            gains, gives, moved = one, other, up_one
        else:
            gains, gives, moved = other, one, up_other
        rest[gains] += moved
        rest[gives] -= moved
        if rest[gains] >= 1 - 1e-12:
            counts[gains] += 1
            rest[gains], one = 0, gives
        else:
            one = gains
    if (missing := size - int(counts.sum())) > 0:  # what rounding left
        counts[one] += missing
    return counts


def top(weights: np.ndarray, rng: np.random.Generator, width: int) -> np.ndarray:
    """The best n / width get as many each, what is left over going to the best: a beam."""
    kept = max(1, len(weights) // width)
    best = np.argsort(-weights, kind="stable")[:kept]
    counts = np.zeros(len(weights), dtype=int)
    counts[best] = len(weights) // kept
    counts[best[: len(weights) % kept]] += 1
    return counts


OFFSPRING: Mapping[str, Offspring] = {
    "multinomial": multinomial,
    "systematic": systematic,
    "ssp": ssp,
    "top": top,
}


def normalised(log_weights: np.ndarray) -> np.ndarray:
    """Weights that sum to 1, all alike where none is a number."""
    highest = log_weights.max()
    if not np.isfinite(highest):
        return np.full(len(log_weights), 1 / len(log_weights))
    weights = np.exp(log_weights - highest)
    shares: np.ndarray = weights / weights.sum()
    return shares


def effective(weights: np.ndarray) -> float:
    """The effective sample size: how many equal weights they are worth."""
    return float(1 / np.square(weights).sum())


def round_robin(counts: np.ndarray, weights: np.ndarray) -> list[int]:
    """A row for each branch: the first of everybody from the heaviest on, then the second, so that a cut is fair."""
    rows = [(turn, -weights[row], row) for row, count in enumerate(counts) for turn in range(count)]
    return [row for *_, row in sorted(rows)]
