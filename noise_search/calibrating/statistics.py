"""What scores of trajectories, of their x0 predictions and of their moves tell."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata

from noise_search.algorithms.base import Terms
from noise_search.algorithms.halving import Halving
from noise_search.algorithms.knowledge import Calibration
from noise_search.calibrating.measuring import Scores, Values
from noise_search.engine.recorded import Ladder, bare_space, search_recorded
from noise_search.order_statistics import crossing, expected_best, sizes
from verifiers.aggregators.ranks import Single
from verifiers.base import Verifier

_LEAST = 3
"""Pairs of scores that have a rank correlation."""
_BUDGETS, _ORDERS = (4, 8, 16), 8
"""Whole trajectories for which halving is replayed, and in how many orders of a prompt's noises."""


def calibration(scores: Scores, model: str, verifier: Verifier, steps: int, nfe: int) -> Calibration:
    """All that scores under one verifier tell of a model with so many steps."""
    known = {}
    for at, looks in scores.looks.items():
        each = np.array([rank_correlation(*pair) for pair in zip(looks, scores.final, strict=True)])
        known[at] = each[np.isfinite(each)]
    spread = spreads(scores.final)
    told = Calibration(
        model,
        verifier.key,
        steps,
        correlations={at: float(each.mean()) for at, each in known.items() if len(each)},
        errors={at: float(each.std(ddof=1) / np.sqrt(len(each))) for at, each in known.items() if len(each) > 1},
        slopes=slopes(scores),
        spread=float(np.nanmean(spread)) if np.isfinite(spread).any() else float("nan"),
        rises=rises(scores.final),
        prompts=len(scores.final),
        noises=scores.final.shape[1],
        nfe=nfe,
        scores=tuple(tuple(float(f"{one:.5g}") for one in row if np.isfinite(one)) for row in scores.final),
    )
    return replace(told, worth=worth(scores, told, verifier))


def rank_correlation(one: Values, other: Values) -> float:
    """Spearman's, of the pairs of which both are known; NaN with fewer than 3, or where one side is constant."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < _LEAST or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one[both]), rankdata(other[both]))[0, 1])


def spreads(final: Values) -> Values:
    """Standard deviation of the known scores of each prompt, `[prompt]`; NaN with fewer than 2."""
    return np.array([np.std(known, ddof=1) if len(known := row[np.isfinite(row)]) > 1 else np.nan for row in final])


def slopes(scores: Scores) -> dict[str, float]:
    """By move, the slope through the origin of children's scores on their parents'.

    Scores are z-scores by mean and standard deviation of the prompt's own noises. A prompt without a spread tells
    nothing.
    """
    found = {}
    spread = spreads(scores.final)
    usable = spread > 0
    if not usable.any():
        return {}
    mean, spread = np.nanmean(scores.final[usable], axis=1)[:, None], spread[usable][:, None]
    for move, children in scores.children.items():
        child = (children[usable] - mean) / spread
        parent = (scores.final[usable, : children.shape[1]] - mean) / spread
        both = np.isfinite(child) & np.isfinite(parent)
        if (weight := np.square(parent[both]).sum()) > 0:
            found[move] = float((parent[both] * child[both]).sum() / weight)
    return found


def rises(final: Values) -> dict[int, float]:
    """By n = 1, 2, 4, ..., what the expected best of 2 n gains over that of n, in standard deviations of the prompt."""
    spread, found = spreads(final), {}
    n = 1
    while 2 * n <= final.shape[1]:
        best = np.array([expected_best(row, np.array([n, 2.0 * n])) for row in final])
        with np.errstate(invalid="ignore", divide="ignore"):
            gains = (best[:, 1] - best[:, 0]) / spread
        if (known := gains[np.isfinite(gains)]).size:
            found[n] = float(known.mean())
        n *= 2
    return found


def worth(scores: Scores, known: Calibration, verifier: Verifier) -> dict[int, float]:
    """By whole trajectories N, how many random candidates over N find the mean score that halving finds.

    Halving is replayed over the recorded scores, with each prompt's noises in several random orders, and its rungs as
    this very calibration says. Budgets for which there are too few noises, or at which halving prunes nothing, are left
    out, and so are prompts with failures.
    """
    ladders, steps = _ladders(scores, known.steps, verifier.key), known.steps
    if not ladders:
        return {}
    curve = np.mean([expected_best(one.scores[verifier.key][:, -1], sizes(len(one))) for one in ladders], axis=0)
    found = {}
    for budget in _BUDGETS:
        terms = Terms(bare_space(steps), budget * steps, calibration=known)
        if not Halving().shape(terms).rungs:
            continue
        best = [_replayed(one, terms, verifier, at) for at, one in enumerate(ladders)]
        if any(one is None for one in best):
            continue
        position, _ = crossing(curve[None], np.array([np.mean(np.array(best, dtype=np.float64))]))
        if np.isfinite(position[0]):
            found[budget] = float((1 + position[0]) / budget)
    return found


def _ladders(scores: Scores, end: int, key: str) -> list[Ladder]:
    points = (*sorted(scores.looks), end)
    stacked = np.stack([*(scores.looks[at] for at in points[:-1]), scores.final], axis=-1)
    return [Ladder(points, {key: one}) for one in stacked if np.isfinite(one).all()]


def _replayed(ladder: Ladder, terms: Terms, verifier: Verifier, at: int) -> float | None:
    """The mean score that halving finds in this prompt's noises; None where it asks for more than there are."""
    rng = np.random.default_rng(at)
    found: list[float] = []
    for _ in range(_ORDERS):
        order: Sequence[int] = [int(i) for i in rng.permutation(len(ladder))]
        done = search_recorded(Halving(), ladder, terms, Single(verifier), order)
        if done is None:
            return None
        found.append(float(ladder.scores[verifier.key][done.winner, -1]))
    return float(np.mean(found))
