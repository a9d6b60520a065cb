"""From the raw scores of one or several verifiers to one value per candidate of one pool, and which way by name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from verifiers.aggregators.base import Aggregator, Member, PoolValues, Scores, Values, as_verifier
from verifiers.aggregators.z_scores import MeanZ, MinZ
from verifiers.base import Verifier

ENSEMBLE = "mean-z"
"""How several verifiers are combined where nothing else is asked for."""

FREEZE_AFTER = 8
"""Candidates after which a search freezes an ensemble of z-scores that is asked for by name."""


class Single(Aggregator):
    """The value is one verifier's score, possibly under constraints.

    Example:
        >>> Single(CLIPScore()).combine({"clip@...": np.array([0.5, 0.7])})
        array([0.5, 0.7])
    """

    absolute = True
    short_name = "single"

    def __init__(self, verifier: Member, *constraints: Member) -> None:
        """Take one verifier of kind "score", then constraints; ValueError for other kinds or equal keys."""
        super().__init__(verifier, *constraints)

    def check(self) -> None:
        """Refuse several scores, or a constraint in the first place."""
        kinds = {one.key: one.kind for one in self.verifiers}
        if list(kinds.values()) != ["score"] + ["constraint"] * (len(kinds) - 1):
            raise ValueError(f"Single got {kinds}; expected one score, then constraints: use MeanZ for several")

    @property
    def name(self) -> str:
        """The verifier's."""
        first = self._members[0]
        return first if isinstance(first, str) else first.name

    def values(self, scores: Scores) -> Values:
        """The score itself."""
        return np.asarray(scores[0])


class MeanRank(Aggregator):
    """The ensemble of Ma et al. (2501.09732): unweighted mean of the ranks within the pool, each in [0, 1].

    Insensitive to scale and outliers, and relative: a value says nothing outside its pool, and that a candidate is far
    above the others by one verifier counts no more than that it is just above them.
    """

    absolute = False
    short_name = "mean-rank"

    def values(self, scores: Scores) -> Values:
        """Mean of `ranks` over the verifiers."""
        return np.asarray(np.mean([ranks(row) for row in scores], axis=0))

    def pool(self) -> PoolValues:
        """An empty pool whose ranks are counted on, not sorted anew."""
        return _RankedPool(self)


class _RankedPool(PoolValues):
    """Ranks as counts: a new candidate is above or equal to those that are there, or below them."""

    def __init__(self, aggregator: Aggregator) -> None:
        super().__init__(aggregator)
        self._scoring = np.array([verifier.kind == "score" for verifier in aggregator.verifiers])
        shape = (int(self._scoring.sum()), 64)
        self._comparable, self._below, self._equal = np.empty(shape), np.zeros(shape), np.zeros(shape)
        self._valid = np.zeros(64, dtype=bool)

    def add(self, scores: Mapping[str, float]) -> Values:
        """As of `PoolValues`; a few comparisons with each candidate that is there."""
        at = self.count
        if at == len(self._valid):
            columns = (self._comparable, self._below, self._equal, self._valid)
            grown = [np.concatenate([one, np.zeros_like(one)], axis=-1) for one in columns]
            self._comparable, self._below, self._equal, self._valid = grown
        column = np.array([scores[verifier.key] for verifier in self.aggregator.verifiers])
        self._valid[at] = np.isfinite(column).all() and (column[~self._scoring] >= 0).all()
        new = column[self._scoring, None] if self._valid[at] else np.full((int(self._scoring.sum()), 1), -np.inf)
        before = self._comparable[:, :at]
        self._below[:, :at] += new < before
        self._equal[:, :at] += new == before
        self._comparable[:, at] = new[:, 0]
        self._below[:, at], self._equal[:, at] = (before < new).sum(1), (before == new).sum(1)
        return super().add(scores)

    def values(self) -> Values:
        """Mean of (below + equal others / 2) / (N - 1) over the verifiers, as of `ranks`."""
        count = self.count
        shares = (self._below[:, :count] + self._equal[:, :count] / 2) / max(1, count - 1)
        return np.where(self._valid[:count], np.mean(shares, axis=0), np.nan)


ENSEMBLES: Mapping[str, Callable[..., Aggregator]] = {
    ENSEMBLE: partial(MeanZ, freeze_after=FREEZE_AFTER),
    "min-z": partial(MinZ, freeze_after=FREEZE_AFTER),
    "mean-rank": MeanRank,
}
"""Ways to combine several verifiers, by name; those of z-scores freeze a search's first 8 candidates."""


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


def as_aggregator(
    verifier: Verifier | Callable[..., Any] | Aggregator | Sequence[Any], ensemble: str = ENSEMBLE
) -> Aggregator:
    """An aggregator over what is given: one stays `Single`, several (constraints aside) become the `ensemble`.

    Args:
        verifier: a verifier, a function, an aggregator, or a list of the first two.
        ensemble: how several are combined, a name of `ENSEMBLES`.

    Raises:
        TypeError: neither a verifier, a function, an aggregator, nor a list of the first two.
        ValueError: no such ensemble, or what the aggregator refuses.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"no ensemble is called {ensemble!r}; expected one of {', '.join(ENSEMBLES)}")
    if isinstance(verifier, Aggregator):
        return verifier
    members = tuple(as_verifier(one) for one in (verifier if isinstance(verifier, list | tuple) else [verifier]))
    scores = [member for member in members if member.kind == "score"]
    constraints = [member for member in members if member.kind == "constraint"]
    return Single(scores[0], *constraints) if len(scores) == 1 else ENSEMBLES[ensemble](*members)
