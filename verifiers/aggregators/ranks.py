"""From the raw scores of one or several verifiers to one value per candidate of one pool, and which way by name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from verifiers.aggregators.base import Aggregator, Member, Scores, Values, as_verifier
from verifiers.aggregators.z_scores import MeanZ, MinZ
from verifiers.base import Verifier

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
            raise ValueError(f"Single got {kinds}; expected one score, then constraints: use MeanRank for several")

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

    Insensitive to scale and outliers, and relative: a value says nothing outside its pool.
    """

    absolute = False
    short_name = "mean-rank"

    def values(self, scores: Scores) -> Values:
        """Mean of `ranks` over the verifiers."""
        return np.asarray(np.mean([ranks(row) for row in scores], axis=0))


ENSEMBLES: Mapping[str, Callable[..., Aggregator]] = {
    "mean-rank": MeanRank,
    "mean-z": partial(MeanZ, freeze_after=FREEZE_AFTER),
    "min-z": partial(MinZ, freeze_after=FREEZE_AFTER),
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
    verifier: Verifier | Callable[..., Any] | Aggregator | Sequence[Any], ensemble: str = "mean-rank"
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
