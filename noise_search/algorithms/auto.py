"""The algorithm that chooses: climbing or halving where x0 predictions can be trusted, else random search, and why."""

from dataclasses import dataclass
from typing import Any, ClassVar

from noise_search.algorithms.base import Plan, Problem, SearchAlgorithm, Terms
from noise_search.algorithms.climb import Climb
from noise_search.algorithms.halving import Halving
from noise_search.algorithms.random_search import RandomSearch

_LEAST = 4
"""Whole trajectories from which on pruning is tried: at 3 its worth can't be told from 1."""
_LATEST = 0.7
"""Share of the steps by which a prediction has to tell something, for pruning to save more than it loses."""
_MANY = 32
"""Whole trajectories from which on climbing is tried: at 16 halving is worth as much."""
_RISE, _KEPT = 0.15, 0.45
"""What twice as many random candidates than 16 have to gain, in standard deviations within a prompt, and what a
neighbour has to keep of its parent's score, for a climb to have room and to go on."""


@dataclass(frozen=True)
class Auto:
    """Chooses an algorithm by what the model can, the verifier, the budget and what was measured of them.

    It stops trajectories on the way only where the pipeline's own scheduler is first-order, or
    `scheduler="first-order"` is given, so that whatever it finds is an image of the pipeline as it is. The choice
    depends on declared facts alone, not on the machine. It and its reason are in the result's `settings["algorithm"]`.

    Example:
        result = noise_search.search("a red circle", algorithm="auto", nfe=320)
        result.settings["algorithm"]["why"]
    """

    name: ClassVar[str] = "auto"
    whole_calls: ClassVar[bool] = True
    """It makes do with whole runs."""

    def choose(self, terms: "Terms | Problem") -> tuple[SearchAlgorithm, str]:
        """The algorithm, and why, in words."""
        for met, why in self._against(terms):
            if met:
                return RandomSearch(), why
        shape = Halving().shape(terms)
        if not shape.rungs:
            return RandomSearch(), f"{terms.nfe_total} NFE begin no more noises than they finish"
        rise, kept = self._room(terms)
        room = min(terms.nfe_total / (_MANY * terms.space.end), rise / _RISE, kept / _KEPT) >= 1
        if room and Climb().course(terms) is not None:
            return Climb(), (
                f"twice as many candidates still gain {rise:.2f} standard deviations, and a neighbour keeps {kept:.0%} "
                "of its parent's score, as the calibration says"
            )
        worth = self._worth(terms)
        if worth is not None:
            return Halving(), f"in the calibration such pruning was worth {worth:.1f} times as many random candidates"
        if terms.calibration is not None:
            return Halving(), "x0 predictions tell enough by then, as the calibration says"
        return Halving(), "at the usual steps: nothing was calibrated, so what it gains can't be told"

    def plan(self, problem: Problem) -> Plan:
        """The plan of the algorithm that is chosen."""
        algorithm, _ = self.choose(problem)
        yield from algorithm.plan(problem)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """How the chosen algorithm shares the budget, as plain JSON."""
        algorithm, _ = self.choose(terms)
        if isinstance(algorithm, Halving | Climb):
            return algorithm.describe(terms)
        return {"candidates": terms.nfe_total // terms.space.end, "steps": terms.space.end}

    @staticmethod
    def _worth(terms: "Terms | Problem") -> float | None:
        known = terms.calibration
        return None if known is None else known.worth_at(terms.nfe_total / terms.space.end)

    @staticmethod
    def _room(terms: "Terms | Problem") -> tuple[float, float]:
        """What random search gains from 16 to 32 candidates, and what neighbours keep; 0 where it wasn't measured."""
        known = terms.calibration
        if known is None:
            return 0.0, 0.0
        return known.rises.get(16, 0.0), known.neighbours_keep or 0.0

    def _against(self, terms: "Terms | Problem") -> list[tuple[bool, str]]:
        """What speaks against pruning, the first that is met first."""
        model, verifier, known, end = terms.model, terms.verifier, terms.calibration, terms.space.end
        early = None if known is None else known.first_above(Halving.TRUSTED)
        worth = self._worth(terms)
        return [
            (not model.can_stop, "the model only runs whole trajectories"),
            (not model.own_steps, "the pipeline's own scheduler takes no first-order steps"),
            (verifier.finished, "the verifier needs finished images"),
            (verifier.paid, "every image that is scored costs money or time, and pruning scores more of them"),
            (verifier.pooled, "a few finished images can't be told apart by their ranks"),
            (
                terms.nfe_total < _LEAST * end,
                f"the {terms.nfe_total} NFE of fewer than {_LEAST} images are too few to prune",
            ),
            (end < Halving.SHORTEST, f"{end} steps are too few to look in between"),
            (
                known is not None and (early is None or early > _LATEST * end),
                f"x0 predictions tell too little before {_LATEST:.0%} of the steps, as the calibration says",
            ),
            (
                worth is not None and worth < 1,
                f"pruning was worth {worth or 0:.2f} of random search in the calibration",
            ),
        ]
