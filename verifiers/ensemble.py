"""Aggregators: from the raw scores of several verifiers to one value per candidate of one pool.

An ensemble is not a verifier, because a rank exists only within a pool: verifiers return raw components, the
evaluation keeps them all, and combining them over a pool (the incumbent included) happens here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from jaxtyping import Float

from .base import Verifier
from .function import FunctionVerifier

Scores = Float[np.ndarray, "verifier pool"]
Values = Float[np.ndarray, " pool"]


class Aggregator(ABC):
    """Turns components into one value per candidate, higher is better; constraints only exclude.

    `absolute` says whether values of different pools may be compared (curves, target scores); ranks may not.
    """

    verifiers: tuple[Verifier, ...]
    absolute: bool
    name: str

    @abstractmethod
    def values(self, scores: Scores) -> Values:
        """Combine float64 scores, one row per verifier of kind "score"; excluded candidates are all NaN."""

    @final
    def combine(self, components: Mapping[str, np.ndarray]) -> Values:
        """Value every candidate of one pool.

        Args:
            components: raw scores `[pool]` under each verifier's key; further keys are ignored.

        Returns:
            float64 `[pool]`; NaN, which never wins, where a component is not finite or a constraint negative.

        Raises:
            ValueError: a verifier's component is missing, or lengths differ.
        """
        table = self._table(components)
        constraint = np.array([verifier.kind == "constraint" for verifier in self.verifiers])
        valid = np.isfinite(table).all(0) & (table[constraint] >= 0).all(0)
        values = self.values(np.where(valid, table[~constraint], np.nan))
        return np.where(valid, values, np.nan)

    def describe(self) -> dict[str, Any]:
        """Everything that changes values, as plain JSON."""
        return {"name": self.name, "verifiers": [verifier.describe() for verifier in self.verifiers]}

    def _table(self, components: Mapping[str, np.ndarray]) -> Scores:
        keys = [verifier.key for verifier in self.verifiers]
        if missing := [key for key in keys if key not in components]:
            raise ValueError(f"components lacks {missing}; it has {sorted(components)}: score the pool with all first")
        columns = [np.asarray(components[key], dtype=np.float64) for key in keys]
        if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
            shapes = {key: column.shape for key, column in zip(keys, columns, strict=True)}
            raise ValueError(f"components have shapes {shapes}; expected one number per candidate, equally many each")
        return np.stack(columns)


class Single(Aggregator):
    """The value is one verifier's score, possibly under constraints.

    Example:
        >>> Single(CLIPScore()).combine({"clip@...": np.array([0.5, 0.7])})
        array([0.5, 0.7])
    """

    absolute = True

    def __init__(self, verifier: Verifier, *constraints: Verifier) -> None:
        """Take one verifier of kind "score", then constraints; ValueError for other kinds or equal keys."""
        self.verifiers = _checked((verifier, *constraints))
        if verifier.kind != "score" or any(other.kind != "constraint" for other in constraints):
            kinds = {other.key: other.kind for other in self.verifiers}
            raise ValueError(f"Single got {kinds}; expected one score, then constraints: use MeanRank for several")
        self.name = verifier.name

    def values(self, scores: Scores) -> Values:
        """The score itself."""
        return np.asarray(scores[0])


class MeanRank(Aggregator):
    """The ensemble of Ma et al. (2501.09732): unweighted mean of the ranks within the pool, each in [0, 1].

    Insensitive to scale and outliers, and relative: a value says nothing outside its pool.
    """

    absolute = False

    def __init__(self, *verifiers: Verifier) -> None:
        """Take scores and constraints; ValueError without any score or with equal keys."""
        self.verifiers = _checked(verifiers)
        self.name = f"mean-rank({_names(self.verifiers)})"

    def values(self, scores: Scores) -> Values:
        """Mean of `ranks` over the verifiers."""
        return np.asarray(np.mean([ranks(row) for row in scores], axis=0))


class MeanZ(Aggregator):
    """Mean of z-scores. With a frozen reference it is absolute; without, mean and std are those of the pool.

    Example:
        >>> frozen = MeanZ(clip, aesthetic).freeze(components_of_the_first_random_candidates)
        >>> frozen.combine(components_of_a_later_round)
    """

    def __init__(self, *verifiers: Verifier, reference: Mapping[str, Sequence[float]] | None = None) -> None:
        """Take scores and constraints, and a frozen reference if there is one.

        Args:
            verifiers: scores and constraints.
            reference: (mean, std) under each score verifier's key; a std of 0 contributes 0.

        Raises:
            ValueError: no score, equal keys, a reference that lacks a verifier or is not finite.
        """
        self.verifiers = _checked(verifiers)
        self.absolute = reference is not None
        self.name = f"mean-z({_names(self.verifiers)})"
        self.reference = None if reference is None else self._checked_reference(reference)

    def freeze(self, components: Mapping[str, np.ndarray]) -> "MeanZ":
        """The same verifiers with the mean and std (over valid candidates) of this pool as reference."""
        keys = [verifier.key for verifier in self.verifiers if verifier.kind == "score"]
        valid = np.isfinite(self.combine(components))
        if not valid.any():
            raise ValueError(f"no valid candidate among {len(valid)}; expected at least one to take mean and std from")
        pool = [np.asarray(components[key], dtype=np.float64)[valid] for key in keys]
        reference = {key: (float(row.mean()), float(row.std())) for key, row in zip(keys, pool, strict=True)}
        return MeanZ(*self.verifiers, reference=reference)

    def values(self, scores: Scores) -> Values:
        """Mean of (score - mean) / std over the verifiers."""
        statistics = self._statistics(scores)
        z = [_z(row, mean, std) for row, (mean, std) in zip(scores, statistics, strict=True)]
        return np.asarray(np.mean(z, axis=0))

    def describe(self) -> dict[str, Any]:
        """Everything that changes values, the reference included."""
        reference = None if self.reference is None else {key: list(stats) for key, stats in self.reference.items()}
        return {**super().describe(), "reference": reference}

    def _statistics(self, scores: Scores) -> list[tuple[float, float]]:
        if self.reference is not None:
            return [self.reference[verifier.key] for verifier in self.verifiers if verifier.kind == "score"]
        if not np.isfinite(scores).any():
            return [(0.0, 0.0)] * len(scores)
        return [(float(np.nanmean(row)), float(np.nanstd(row))) for row in scores]

    def _checked_reference(self, reference: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
        keys = [verifier.key for verifier in self.verifiers if verifier.kind == "score"]
        if missing := [key for key in keys if key not in reference]:
            raise ValueError(f"reference lacks {missing}; expected (mean, std) under each of {keys}")
        for key in keys:
            mean, std = reference[key]
            if not (np.isfinite(mean) and np.isfinite(std) and std >= 0):
                raise ValueError(f"reference[{key!r}] is ({mean}, {std}); expected a finite mean and a std >= 0")
        return {key: (float(reference[key][0]), float(reference[key][1])) for key in keys}


def ranks(values: Values) -> Values:
    """Ranks in [0, 1], higher is better; ties averaged, NaN worst, 0 for a pool of one.

    r_i = (#{s_j < s_i} + (#{s_j = s_i} - 1) / 2) / (N - 1)
    """
    if len(values) < 2:
        return np.zeros(len(values))
    comparable = np.where(np.isnan(values), -np.inf, values)
    ordered = np.sort(comparable)
    below = np.searchsorted(ordered, comparable, side="left")
    equal = np.searchsorted(ordered, comparable, side="right") - below
    return np.asarray((below + (equal - 1) / 2) / (len(values) - 1), dtype=np.float64)


def as_aggregator(verifier: Verifier | Callable[..., Any] | Aggregator | Sequence[Any]) -> Aggregator:
    """An aggregator over what is given: one stays `Single`, several (constraints aside) become `MeanRank`.

    Raises:
        TypeError: neither a verifier, a function, an aggregator, nor a list of the first two.
    """
    if isinstance(verifier, Aggregator):
        return verifier
    members = tuple(_as_verifier(one) for one in (verifier if isinstance(verifier, list | tuple) else [verifier]))
    scores = [member for member in members if member.kind == "score"]
    constraints = [member for member in members if member.kind == "constraint"]
    return Single(scores[0], *constraints) if len(scores) == 1 else MeanRank(*members)


def _as_verifier(value: Any) -> Verifier:
    if isinstance(value, Verifier):
        return value
    if callable(value) and not isinstance(value, type | Aggregator):
        return FunctionVerifier(value)
    raise TypeError(
        f"{value!r} is no verifier; expected a Verifier or a function of (images, prompts): "
        "for a short name use verifiers.load(name), for a class make an instance"
    )


def _checked(verifiers: tuple[Verifier, ...]) -> tuple[Verifier, ...]:
    if not any(verifier.kind == "score" for verifier in verifiers):
        raise ValueError(
            f"{[verifier.key for verifier in verifiers]} holds no score; expected one verifier of that kind"
        )
    keys = [verifier.key for verifier in verifiers]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"verifiers {twice} appear twice; expected distinct keys: give functions different names")
    return verifiers


def _names(verifiers: tuple[Verifier, ...]) -> str:
    return ", ".join(verifier.name for verifier in verifiers)


def _z(row: Values, mean: float, std: float) -> Values:
    return np.zeros(len(row)) if std == 0 else np.asarray((row - mean) / std)
