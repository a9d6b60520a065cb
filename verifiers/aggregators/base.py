"""What turns the raw scores of several verifiers into one value per candidate of one pool.

An ensemble is not a verifier, because a rank exists only within a pool: verifiers return raw components, the
evaluation keeps them all, and combining them over a pool (the incumbent included) happens here.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float

from verifiers.base import FunctionVerifier, Verifier, told_apart

Scores = Float[np.ndarray, "verifier pool"]
Values = Float[np.ndarray, " pool"]
Member = Verifier | Callable[..., Any] | str


class Aggregator(ABC):
    """Turns components into one value per candidate, higher is better; constraints only exclude.

    Values never fall where a component rises. A member given as a name, as in `MeanRank("clip", "aesthetic")`, means
    what the searched model declares under it, so it stays open until `resolved`, which `search()` does.

    Attributes:
        short_name: of this way to combine, such as "mean-rank".
        absolute: whether values of different pools may be compared (curves, target scores); ranks may not.
        freeze_after: after how many valid candidates a search freezes it, so that it becomes absolute; None for never.
    """

    short_name: ClassVar[str]
    absolute: bool
    freeze_after: int | None = None

    def __init__(self, *members: Member) -> None:
        """Take scores and constraints: verifiers, functions of (images, prompts), or names.

        Raises:
            ValueError: no score, or equal keys.
            TypeError: something else.
        """
        self._members = told_apart([one if isinstance(one, str) else as_verifier(one) for one in members])
        self._check_resolved()

    @abstractmethod
    def values(self, scores: Scores) -> Values:
        """Combine float64 scores, one row per verifier of kind "score"; excluded candidates are all NaN."""

    def check(self) -> None:  # noqa: B027 (many have nothing more to check)
        """Refuse members that can't be combined so; all of them are verifiers when this is called."""

    def freeze(self, components: Mapping[str, np.ndarray]) -> "Aggregator":
        """The same with what it still takes from a pool taken from this one for good, so that values are absolute.

        Raises:
            ValueError: it has nothing to freeze, or the pool no valid candidate.
        """
        if self.absolute:
            return self
        raise ValueError(f"{self.name} only ranks a pool, which leaves nothing to freeze; use MeanZ or MinZ")

    @property
    def unfrozen(self) -> tuple[str, ...]:
        """Keys of the verifiers whose part in a value still depends on the pool, and which `freeze` may settle."""
        return ()

    @property
    def members(self) -> tuple[Verifier | str, ...]:
        """The members, those that are names still among them."""
        return tuple(self._members)

    @property
    def verifiers(self) -> tuple[Verifier, ...]:
        """The members.

        Raises:
            ValueError: one is still a name.
        """
        if names := [one for one in self._members if isinstance(one, str)]:
            raise ValueError(
                f"{self.name} holds {names[0]!r} by name, which search() resolves for its model; elsewhere give the "
                f"verifier itself: verifiers.load({names[0]!r})"
            )
        return tuple(one for one in self._members if isinstance(one, Verifier))

    @property
    def scores(self) -> tuple[Verifier, ...]:
        """The members of kind "score"."""
        return tuple(one for one in self.verifiers if one.kind == "score")

    @property
    def name(self) -> str:
        """How it combines, and what: "mean-rank(clip, aesthetic)"."""
        return f"{self.short_name}({', '.join(one if isinstance(one, str) else one.name for one in self._members)})"

    def resolved(self, resolve: Callable[[str], Verifier]) -> "Aggregator":
        """The same with a verifier in place of every name.

        Raises:
            ValueError: as at construction.
        """
        found = copy.copy(self)
        found._members = tuple(resolve(one) if isinstance(one, str) else one for one in self._members)
        found._check_resolved()
        return found

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

    def pool(self) -> "PoolValues":
        """An empty pool that is valued as it grows."""
        return PoolValues(self)

    def describe(self) -> dict[str, Any]:
        """Everything that changes values, as plain JSON."""
        return {"name": self.name, "verifiers": [verifier.describe() for verifier in self.verifiers]}

    def _check_resolved(self) -> None:
        if any(isinstance(one, str) for one in self._members):
            return
        keys = [verifier.key for verifier in self.verifiers]
        if not self.scores:
            names = ",".join(one.name for one in self.verifiers)
            raise ValueError(
                f"{names} only excludes images, and nothing ranks the rest; give a score beside it: clip,{names}"
                if names
                else "no verifier was given; expected at least one that scores, such as clip"
            )
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"verifiers {twice} appear twice; expected distinct keys: give functions different names")
        self.check()

    def _table(self, components: Mapping[str, np.ndarray]) -> Scores:
        keys = [verifier.key for verifier in self.verifiers]
        if missing := [key for key in keys if key not in components]:
            raise ValueError(f"components lacks {missing}; it has {sorted(components)}: score the pool with all first")
        columns = [np.asarray(components[key], dtype=np.float64) for key in keys]
        if len({column.shape for column in columns}) > 1 or columns[0].ndim != 1:
            shapes = {key: column.shape for key, column in zip(keys, columns, strict=True)}
            raise ValueError(f"components have shapes {shapes}; expected one number per candidate, equally many each")
        return np.stack(columns)


class PoolValues:
    """Values of a pool that grows by one candidate at a time, equal to `Aggregator.combine` over all of them.

    Args:
        aggregator: whose values.
    """

    def __init__(self, aggregator: Aggregator) -> None:
        """Begin with an empty pool."""
        self.aggregator, self.count = aggregator, 0
        self._keys = [verifier.key for verifier in aggregator.verifiers]
        self._table = np.empty((len(self._keys), 64))

    @property
    def components(self) -> dict[str, np.ndarray]:
        """Raw scores `[pool]` under each verifier's key."""
        return {key: row[: self.count] for key, row in zip(self._keys, self._table, strict=True)}

    def add(self, scores: Mapping[str, float]) -> Values:
        """Values `[pool]` with one candidate more, whose raw scores these are, by verifier key."""
        if self.count == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.empty_like(self._table)], axis=1)
        self._table[:, self.count] = [scores[key] for key in self._keys]
        self.count += 1
        return self.values()

    def values(self) -> Values:
        """Values `[pool]`."""
        return self.aggregator.combine(self.components)


def as_verifier(value: Any) -> Verifier:
    """A verifier, or a function of (images, prompts) as one.

    Raises:
        TypeError: neither.
    """
    if isinstance(value, Verifier):
        return value
    if callable(value) and not isinstance(value, type | Aggregator):
        return FunctionVerifier(value)
    raise TypeError(
        f"{value!r} is no verifier; expected a Verifier or a function of (images, prompts): "
        "for a short name use verifiers.load(name), for a class make an instance"
    )
