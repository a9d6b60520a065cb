"""Aggregators over z-scores: of the pool, or against a frozen reference, which makes values absolute."""

import copy
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from verifiers.aggregators.base import Aggregator, Member, Scores, Values

Reference = Mapping[str, Sequence[float]]


class ZScores(Aggregator):
    """What aggregators over z = (score - mean) / std share.

    Without a reference, mean and std are those of the pool (its valid candidates, divided by their number), and values
    say nothing outside it. With one they are fixed, and values of different rounds share a scale. The reference is
    given, or taken from a pool by `freeze`, or by a search from its own first `freeze_after` valid finished candidates.
    Where a std is 0, the verifier tells nothing apart and has no part in the value. With a frozen std of 0 it isn't out
    for good: in a pool that it tells apart, that pool's mean and std count, until it is frozen again, which a search
    does once its candidates have a spread.

    Attributes:
        reference: (mean, std) under each score verifier's key; None where the pool's own count.
    """

    def __init__(self, *members: Member, reference: Reference | None = None, freeze_after: int | None = None) -> None:
        """Take scores and constraints, and a frozen reference or when to take one.

        Args:
            members: verifiers, functions of (images, prompts), or names.
            reference: (mean, std) under each score verifier's key, as `describe()` records it.
            freeze_after: rank the first n valid finished candidates of a search within their own pool, then freeze
                their mean and std. Each prompt has its own; in random search these are n random noises.

        Raises:
            ValueError: no score, equal keys, both a reference and freeze_after, fewer than 2 candidates to freeze
                after, or a reference that lacks a verifier or isn't finite.
            TypeError: a reference that is no mapping, or a freeze_after that is no whole number.
        """
        if not isinstance(reference, Mapping | None):
            raise TypeError(f"reference is {reference!r:.80}; expected (mean, std) under each score verifier's key")
        if isinstance(freeze_after, bool) or not isinstance(freeze_after, Integral | None):
            raise TypeError(f"freeze_after is {freeze_after!r:.80}; expected a whole number of candidates, or None")
        if reference is not None and freeze_after is not None:
            raise ValueError(f"freeze_after={freeze_after} takes a reference, and one is given: leave one of them out")
        if freeze_after is not None and freeze_after < 2:
            raise ValueError(f"freeze_after={freeze_after} must be at least 2: one candidate has no spread")
        self.absolute = reference is not None
        self.freeze_after = freeze_after
        self.reference = None if reference is None else dict(reference)
        super().__init__(*members)

    def check(self) -> None:
        """Refuse a reference that doesn't fit the members."""
        if self.reference is None:
            return
        keys = [verifier.key for verifier in self.scores]
        if missing := [key for key in keys if key not in self.reference]:
            raise ValueError(f"reference lacks {missing}; expected (mean, std) under each of {keys}")
        self.reference = {key: _statistics(key, self.reference[key]) for key in keys}

    def freeze(self, components: Mapping[str, np.ndarray]) -> "ZScores":
        """The same verifiers with the mean and std (over valid candidates) of this pool as reference.

        A verifier that has a reference with a spread keeps it; `self` where nothing changes.

        Args:
            components: raw scores `[pool]` under each verifier's key, such as `SearchResult.components()`.

        Raises:
            ValueError: no valid candidate.
        """
        valid = np.isfinite(self.combine(components))
        if not valid.any():
            raise ValueError(f"no valid candidate among {len(valid)}; expected at least one to take mean and std from")
        pool = {key: np.asarray(components[key], dtype=np.float64)[valid] for key in self.unfrozen}
        reference = {**(self.reference or {}), **{key: _mean_and_std(row) for key, row in pool.items()}}
        if reference == self.reference:
            return self
        found = copy.copy(self)
        found.absolute, found.reference = True, reference
        return found

    @property
    def unfrozen(self) -> tuple[str, ...]:
        """Of the scores, those without a reference, or with one of std 0."""
        return tuple(one.key for one in self.scores if self.reference is None or self.reference[one.key][1] == 0)

    def describe(self) -> dict[str, Any]:
        """Everything that changes values, the reference included."""
        reference = None if self.reference is None else {key: list(stats) for key, stats in self.reference.items()}
        return {**super().describe(), "reference": reference, "freeze_after": self.freeze_after}

    def z(self, scores: Scores) -> tuple[Float[np.ndarray, "verifier pool"], Bool[np.ndarray, " verifier"]]:
        """z-scores, 0 in rows whose std is 0, and which rows tell candidates apart."""
        unfrozen = self.unfrozen
        statistics = np.array(
            [
                _mean_and_std(row[np.isfinite(row)]) if one.key in unfrozen else (self.reference or {})[one.key]
                for one, row in zip(self.scores, scores, strict=True)
            ]
        )
        mean, std = statistics[:, :1], statistics[:, 1:]
        tells = std[:, 0] > 0
        return np.where(tells[:, None], (scores - mean) / np.where(std > 0, std, 1), 0.0), tells


class MeanZ(ZScores):
    """Mean of z-scores: every verifier counts equally, by how far it sets a candidate apart.

    Example:
        >>> frozen = MeanZ(clip, aesthetic).freeze(components_of_the_first_random_candidates)
        >>> frozen.combine(components_of_a_later_round)
    """

    short_name = "mean-z"

    def values(self, scores: Scores) -> Values:
        """Mean of (score - mean) / std over the verifiers."""
        return np.asarray(self.z(scores)[0].mean(0))


class MinZ(ZScores):
    """The smallest z-score: a candidate is as good as what it is worst at, so that no verifier is bought with another.

    Example:
        >>> search(prompt, verifier=MinZ("clip", "aesthetic", freeze_after=8))
    """

    short_name = "min-z"

    def values(self, scores: Scores) -> Values:
        """Minimum of (score - mean) / std over the verifiers whose std isn't 0; 0 without any."""
        z, tells = self.z(scores)
        return np.asarray(z[tells].min(0)) if tells.any() else np.zeros(scores.shape[1])


class WeightedSum(ZScores):
    """Weighted sum of the raw scores, or of their z-scores.

    Raw scores are summed as they are, which means something only for verifiers of equal units (PickScore is about 22,
    HPS about 0.28: there the weights would have to undo the units); such a sum is absolute. Of z-scores, as in `MeanZ`.

    Example:
        >>> WeightedSum(clip, aesthetic, weights={"clip": 2, "aesthetic": 1}, of="z", freeze_after=8)
    """

    short_name = "weighted-sum"

    def __init__(
        self,
        *members: Member,
        weights: Mapping[str, float],
        of: Literal["scores", "z"] = "scores",
        reference: Reference | None = None,
        freeze_after: int | None = None,
    ) -> None:
        """Take scores and constraints, and a weight for every score.

        Args:
            members: verifiers, functions of (images, prompts), or names.
            weights: greater than 0, under each score verifier's name or key.
            of: "scores" sums raw scores, "z" z-scores.
            reference, freeze_after: of z-scores, as in `MeanZ`.

        Raises:
            ValueError: a weight that is missing, belongs to no score or isn't greater than 0, a reference for raw
                scores, or what `MeanZ` refuses.
            TypeError: weights that are no mapping to numbers, or what `MeanZ` refuses.
        """
        if not isinstance(weights, Mapping):
            raise TypeError(f"weights is {weights!r:.80}; expected one under each name, such as {{'clip': 2.0}}")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, Real):
                raise TypeError(f"weights[{name!r}] is {weight!r:.80}; expected a number greater than 0")
        if of not in ("scores", "z"):
            raise ValueError(f"of={of!r} must be 'scores' (as they are) or 'z' (z-scores)")
        if of == "scores" and (reference is not None or freeze_after is not None):
            raise ValueError("raw scores need no reference: leave reference and freeze_after out, or give of='z'")
        self.weights, self.of = dict(weights), of
        super().__init__(*members, reference=reference, freeze_after=freeze_after)
        self.absolute = self.absolute or of == "scores"

    def check(self) -> None:
        """Refuse weights that don't fit the members."""
        super().check()
        names = {name for verifier in self.scores for name in (verifier.name, verifier.key)}
        missing = [one.name for one in self.scores if one.name not in self.weights and one.key not in self.weights]
        if missing or (more := sorted(self.weights.keys() - names)):
            wrong = f"lacks {missing}" if missing else f"has {more}, which is no score here"
            raise ValueError(f"weights {wrong}; expected one for each of {[one.name for one in self.scores]}")
        for name, weight in self.weights.items():
            if not (np.isfinite(weight) and weight > 0):
                raise ValueError(
                    f"weights[{name!r}] is {weight}; expected a finite number greater than 0: where less is better, "
                    "give a function that returns the negative score"
                )

    def freeze(self, components: Mapping[str, np.ndarray]) -> "ZScores":
        """As of `MeanZ`; a sum of raw scores stays as it is."""
        return self if self.of == "scores" else super().freeze(components)

    @property
    def unfrozen(self) -> tuple[str, ...]:
        """As of `MeanZ`; a sum of raw scores depends on no pool."""
        return () if self.of == "scores" else super().unfrozen

    def values(self, scores: Scores) -> Values:
        """Weights times scores, or z-scores, summed over the verifiers."""
        weights = [self.weights.get(one.key, self.weights.get(one.name)) for one in self.scores]
        return np.asarray(np.array(weights, dtype=np.float64) @ (scores if self.of == "scores" else self.z(scores)[0]))

    def describe(self) -> dict[str, Any]:
        """Everything that changes values, weights included."""
        return {**super().describe(), "of": self.of, "weights": dict(self.weights)}


def _mean_and_std(row: Values) -> tuple[float, float]:
    """Mean and std; a std of exactly 0 where all are equal, which rounding would miss."""
    if len(row) == 0 or row.min() == row.max():
        return (float(row[0]) if len(row) else 0.0), 0.0
    return float(row.mean()), float(row.std())


def _statistics(key: str, given: Sequence[float]) -> tuple[float, float]:
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or len(given) != 2:
        raise TypeError(f"reference[{key!r}] is {given!r:.80}; expected (mean, std)")
    mean, std = given
    if not all(isinstance(one, Real) for one in given):
        raise TypeError(f"reference[{key!r}] is {given!r:.80}; expected two numbers, (mean, std)")
    if not (np.isfinite(mean) and np.isfinite(std) and std >= 0):
        raise ValueError(f"reference[{key!r}] is ({mean}, {std}); expected a finite mean and a std >= 0")
    return float(mean), float(std)
