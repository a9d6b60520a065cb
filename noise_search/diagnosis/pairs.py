"""The winner and the first image, scored together: what the winner gains under changed images or prompts."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noise_search.engine.scoring import Scorer
from verifiers.base import Verifier

ENOUGH = 4
"""Scores from which a spread is taken; fewer say nothing of it."""


_PIXELS = 2**22
"""Of one batch: four images of 1024 x 1024."""


@dataclass(frozen=True)
class Gain:
    """What the winner has over the first image.

    Attributes:
        winner, first: raw scores by verifier key.
        units: by key, what makes verifiers comparable: the standard deviation of the finished candidates' scores; where
            there is none, the size of the gain itself.
    """

    winner: Mapping[str, float]
    first: Mapping[str, float]
    units: Mapping[str, float]

    def by(self, keys: Collection[str]) -> "Gain":
        """The same by some of the verifiers."""
        parts = ({k: v for k, v in part.items() if k in keys} for part in (self.winner, self.first, self.units))
        return Gain(*parts)

    @property
    def by_key(self) -> dict[str, float]:
        """Raw gain by verifier key."""
        return {key: self.winner[key] - self.first[key] for key in self.units}

    @property
    def total(self) -> float:
        """Mean over the verifiers of the gain in their units; NaN where one has none, or there are no verifiers."""
        gains = [gain / self.units[key] for key, gain in self.by_key.items()]
        return float(np.mean(gains)) if gains else math.nan


def spread(values: Sequence[float] | np.ndarray) -> float:
    """The standard deviation of the finite values; NaN where fewer than 4, or all equal."""
    finite = [float(value) for value in values if math.isfinite(value)]
    deviation = float(np.std(finite, ddof=1)) if len(finite) >= ENOUGH else math.nan
    return deviation if deviation > 0 else math.nan


class PairScorer:
    """Scores (winner, first) pairs with a search's verifiers."""

    def __init__(self, verifiers: Sequence[Verifier], units: Mapping[str, float]) -> None:
        """Take verifiers of kind "score", and a unit for each key."""
        self._scorer = Scorer(verifiers)
        self._units = dict(units)

    def gains(self, pairs: Sequence[Tensor], prompts: Sequence[str]) -> list[Gain]:
        """One gain per pair `[2, 3, height, width]` (or of clips), the winner first, and its prompt.

        Pairs share batches, which a verifier must not notice, as far as memory and their shapes allow.
        """
        per_batch = max(1, _PIXELS // (pairs[0].numel() // 3))
        found = []
        for at in range(0, len(pairs), per_batch):
            some, texts = pairs[at : at + per_batch], prompts[at : at + per_batch]
            scores, _ = self._scorer.score(torch.cat(list(some)), [text for text in texts for _ in range(2)])
            for row in range(len(some)):
                winner, first = ({key: float(scores[key][2 * row + i]) for key in self._units} for i in range(2))
                found.append(Gain(winner, first, self._units))
        return found
