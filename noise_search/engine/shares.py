"""What prompts that share a budget are granted, round by round."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from noise_search.algorithms.auto import Auto
from noise_search.algorithms.base import SearchAlgorithm
from noise_search.engine.prompt_search import PromptSearch
from noise_search.words import unknown
from verifiers.aggregators.base import Aggregator

Share = Literal["equal", "threshold", "difficulty"]

Values = NDArray[np.float64]

_FIRST = 4
"""Candidates that tell a prompt's difficulty."""
_ROUND, _LEAST, _MOST = 8, 4, 64
"""A round is one of so many parts of what is left (4 and 16 found the same on validation prompts), at least so many
candidates, and at most so many of a prompt."""
_WEIGHT = 4
"""Candidates that the spread of all prompts counts for, beside a prompt's own."""
_BELIEVED = 2
"""Candidates that a first estimate of a chance counts for."""


@dataclass(frozen=True)
class Shares:
    """Which prompts the next candidates go to, by the scores of those before: plain numbers, and no model.

    Attributes:
        rule: "threshold" grants equal parts of what is left to all that still run. "difficulty" grants each prompt 4
            candidates first, and then an eighth of what is left at a time, candidate by candidate to the prompt whose
            next one is expected to bring most.
        target: the score that is to be reached; None where higher is better without end.
    """

    rule: Share
    target: float | None = None

    def grants(self, scores: Sequence[Values], running: Sequence[bool], left: int) -> list[int]:
        """How many candidates each prompt is granted for the next round; 0 for all once nothing is left.

        Args:
            scores: `[prompt][candidate]` of all candidates so far, NaN where one failed.
            running: of each prompt, whether it may be granted any.
            left: candidates that are left for all.
        """
        tries, rows = np.array([len(one) for one in scores]), np.flatnonzero(running)
        counts = np.zeros(len(scores), dtype=int)
        if len(rows) and self.rule == "threshold":
            counts[rows] = left // len(rows)
            counts[rows[: left % len(rows)]] += 1
        elif len(rows) and left:
            first = min(_FIRST, (left + int(tries.sum())) // len(scores))
            counts[rows] = np.maximum(first - tries[rows], 0)
            if not 0 < counts.sum() <= left:
                count = min(left, max(_LEAST, left // _ROUND))
                gains = self.gains(scores, min(count, _MOST))[rows]
                # Of equal gains that of the prompt with fewer candidates goes first, and then the earlier prompt's.
                places = tries[rows] + np.arange(gains.shape[1])[:, None]
                best = np.lexsort((places.ravel(), -gains.T.ravel()))[:count] % len(rows)
                counts[rows] = np.bincount(best, minlength=len(rows))
        return [int(one) for one in counts]

    def gains(self, scores: Sequence[Values], count: int) -> Values:
        """What each prompt's next candidates are expected to bring, `[prompt, count]`, falling along each row.

        With a target, their chances to be the first that reaches it: what a normal of the prompt's mean and spread
        says of the first of them, to the power 1/2, as tails aren't normal; then as of a beta distribution of weight 2
        that has seen all candidates so far fail. Without one, what they add to the best: the normal's expected
        improvement, of which again the square root counts, times 1 / (n + 1), the chance of the next of n + 1
        candidates to be the best of them.
        """
        mean, spread, doubt = _normals(scores)
        tries, further = np.array([len(one) for one in scores])[:, None], np.arange(count)[None]
        width = np.sqrt(spread**2 + doubt**2)
        if self.target is None:
            known = [one[np.isfinite(one)] for one in scores]
            best = np.array([one.max() if len(one) else at for one, at in zip(known, mean, strict=True)])
            z = (best - mean) / width
            improvement = width * (np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - z * ndtr(-z))
            return np.asarray(np.sqrt(width * np.maximum(improvement, 0))[:, None] / (tries + 1 + further))
        first = np.sqrt(ndtr((mean - self.target) / width))[:, None]
        chances = first * _BELIEVED / (_BELIEVED + tries + further)
        before = np.cumprod(1 - chances, axis=1)
        return np.asarray(chances * np.concatenate([np.ones_like(first), before[:, :-1]], axis=1))


def _normals(scores: Sequence[Values]) -> tuple[Values, Values, Values]:
    """Mean and spread of each prompt's scores, drawn to what prompts have in common, and the doubt of the mean.

    The mean is drawn to that of all by empirical Bayes, in the measure in which the differences of prompts' means are
    what their spreads alone would bring; the variance counts as 4 further candidates of the prompts' common one.
    """
    known = [one[np.isfinite(one)] for one in scores]
    counts = np.array([len(one) for one in known])
    told = counts > 0
    if not told.any():
        return np.zeros(len(known)), np.ones(len(known)), np.zeros(len(known))
    means = np.array([one.mean() if len(one) else np.nan for one in known])
    squares = np.array([((one - one.mean()) ** 2).sum() if len(one) else 0.0 for one in known])
    freedom = np.maximum(counts - 1, 0)
    common = squares.sum() / freedom.sum() if freedom.any() else np.var(means[told])
    variances = np.maximum((_WEIGHT * common + squares) / (_WEIGHT + freedom), np.finfo(float).tiny)
    errors = variances / np.maximum(counts, 1)
    between = max(0.0, np.var(means[told], ddof=1) - errors[told].mean()) if told.sum() > 1 else 0.0
    own = np.where(told, between / (between + errors), 0.0)
    level = means[told].mean()
    doubt = np.where(told, own * errors, between)
    return np.where(told, own * means + (1 - own) * level, level), np.sqrt(variances), np.sqrt(doubt)


class Purse:
    """The NFE of all prompts, from which they are granted whole trajectories.

    Args:
        shares: says who is granted how many.
        nfe: of all prompts.
        cost: NFE of one trajectory.

    Attributes:
        left: NFE that nobody was granted yet, or that were given back.
    """

    def __init__(self, shares: Shares, nfe: int, cost: int) -> None:
        self._shares, self._cost, self.left = shares, cost, nfe

    def grant(self, searches: Sequence[PromptSearch]) -> list[PromptSearch]:
        """Take back what the last round left, and grant the next; returns the searches to be asked, none at the end.

        It looks at whole rounds, and so at nothing that depends on batches.
        """
        self.left += sum(one.give_back() for one in searches)
        scores = [np.array(one.pool.finished.values, dtype=np.float64) for one in searches]
        counts = self._shares.grants(scores, [not one.cut for one in searches], self.left // self._cost)
        self.left -= sum(counts) * self._cost
        for one, count in zip(searches, counts, strict=True):
            one.grant(count * self._cost, self.left)
        limited = [one.running and one.cut for one in searches]  # a plan is told of its limit, and may say goodbye
        asked = [one for one, *why in zip(searches, counts, limited, strict=True) if any(why)]
        for one in searches if not asked else ():
            one.end("budget spent")
        return asked


def check_share(
    share: Share, algorithm: SearchAlgorithm, aggregator: Aggregator, target: float | None, drafting: bool
) -> None:
    """Refuse a way to share that doesn't exist, or that the search can't go."""
    if share not in get_args(Share):
        raise unknown("share", str(share), get_args(Share))
    if share == "equal":
        return
    whole = algorithm.whole_calls and getattr(algorithm, "anytime", False)
    if drafting or not (whole or isinstance(algorithm, Auto)):
        what = "drafts are" if drafting else f"algorithm {algorithm.name!r} is"
        raise ValueError(
            f"share={share!r} grants whole candidates as the search goes, and {what} planned for a budget known "
            "before: take algorithm='random' or 'zero-order' without drafts, or share='equal'"
        )
    if share == "threshold" and target is None:
        raise ValueError("share='threshold' stops prompts at a score: give target_score with it, or share='difficulty'")
    if share == "difficulty" and not aggregator.absolute:
        raise ValueError(
            f"share='difficulty' compares the scores of prompts, and those of {aggregator.name} are within a prompt's "
            "own candidates: give one verifier, or MeanZ with a reference"
        )
