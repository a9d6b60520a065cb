"""Held-out judges: whether those that the search never saw agree with its verifier."""

import math
from dataclasses import dataclass
from typing import Any

from noise_search.diagnosis.pairs import spread
from noise_search.results.candidate import number
from noise_search.results.result import SearchResult


@dataclass(frozen=True)
class Heldout:
    """One judge on the winner and the first image.

    Attributes:
        name: the judge's.
        winner, first: its scores.
        spread: their standard deviation over the judged candidates, NaN where fewer than 4 or all equal. Those are the
            search's best, which are nearer to each other than candidates are.
        own_gain: the gain by the search's own verifiers, in their spreads.
    """

    name: str
    winner: float
    first: float
    spread: float
    own_gain: float

    @property
    def gain(self) -> float:
        """The winner's score minus the first's."""
        return self.winner - self.first

    @property
    def transfer(self) -> float:
        """The transfer ratio: gain in spreads over the own gain in spreads; NaN where one has no spread."""
        return self.gain / self.spread / self.own_gain if self.own_gain > 0 else math.nan

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        values = {
            "winner": self.winner,
            "first": self.first,
            "gain": self.gain,
            "spread": self.spread,
            "transfer": self.transfer,
        }
        return {"name": self.name, **{name: number(value) for name, value in values.items()}}


def heldout(result: SearchResult, own_gain: float) -> tuple[Heldout, ...]:
    """The judges, NaN where one couldn't tell; `own_gain` is NaN where it can't be told in spreads."""
    found = []
    for key, scores in result.judges.items():
        known = [one.judges[key] for one in result.candidates if key in one.judges]
        found.append(Heldout(key.split("@")[0], scores["best"], scores["first"], spread(known), own_gain))
    return tuple(found)
