"""How a row goes from one grid point to the next: along the ODE, or with fresh noise mixed in.

Every rule steps by x' = a' x0hat + s' (rho nhat + sqrt(1 - rho^2) z) (`samplers.rule`); a transition says with which
rho.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from samplers.rule import Point, rho_from_eta


@dataclass(frozen=True)
class Deterministic:
    """The ODE (DDIM, Euler): no fresh noise."""

    evaluations: ClassVar[int] = 1

    def rho_at(self, here: Point, there: Point) -> float:
        """1 in every step."""
        return 1.0

    @property
    def recorded(self) -> dict[str, Any]:
        """How the `run` of a recipe tells it."""
        return {"rho": 1.0}


@dataclass(frozen=True)
class Mix:
    """The same share of fresh noise in every step.

    Attributes:
        rho: share of the old noise, in [0, 1]: 1 is the ODE, 0 forgets the noise altogether.

    Raises:
        TypeError: a rho that is no number.
        ValueError: a rho outside [0, 1].
    """

    evaluations: ClassVar[int] = 1

    rho: float

    def __post_init__(self) -> None:
        _check("rho", self.rho, "0 = all fresh, 1 = deterministic")

    def rho_at(self, here: Point, there: Point) -> float:
        """As given."""
        return self.rho

    @property
    def recorded(self) -> dict[str, Any]:
        """How the `run` of a recipe tells it."""
        return {"rho": float(self.rho)}


@dataclass(frozen=True)
class Ancestral:
    """DDIM's eta (Song et al., 2021, eq. 16): fresh noise in each step as its two grid points say.

    Attributes:
        eta: in [0, 1]: 0 is the ODE, 1 ancestral sampling (DDPM).

    Raises:
        TypeError: an eta that is no number.
        ValueError: an eta outside [0, 1].
    """

    evaluations: ClassVar[int] = 1

    eta: float = 1.0

    def __post_init__(self) -> None:
        _check("eta", self.eta, "0 = deterministic, 1 = ancestral")

    def rho_at(self, here: Point, there: Point) -> float:
        """What eta means between these points."""
        return rho_from_eta(self.eta, here, there)

    @property
    def recorded(self) -> dict[str, Any]:
        """How the `run` of a recipe tells it; the same thing is told in one way."""
        return {"rho": None, "eta": float(self.eta)} if self.eta else {"rho": 1.0}


Transition = Deterministic | Mix | Ancestral
Transitions = Transition | Sequence[Transition] | None
"""One for all steps of a run, or one for each step; None for the sampler's own."""


def per_step(transition: Transition | Sequence[Transition], start: int, stop: int) -> tuple[Transition, ...]:
    """The transition of each step from one grid point to a later one.

    Raises:
        TypeError: something else than transitions.
        ValueError: several, and not one for each step.
    """
    given = tuple(transition) if isinstance(transition, Sequence) else (transition,) * (stop - start)
    if len(given) != stop - start:
        raise ValueError(f"{len(given)} transitions for the {stop - start} steps from {start} to {stop}: give each one")
    other = [one for one in given if not isinstance(one, Transition)]
    if other:
        raise TypeError(
            f"a transition is Deterministic(), Mix(rho) or Ancestral(eta), got {other[0]!r:.40} of type "
            f"{type(other[0]).__name__}"
        )
    return given


def recorded_in(run: Mapping[str, Any]) -> Transition:
    """The transition that the `run` of a recipe tells: what `recorded` is of."""
    if run["rho"] is None:
        return Ancestral(float(run["eta"]))
    return Deterministic() if run["rho"] == 1 else Mix(float(run["rho"]))


def evaluations(start: int, stop: int, transition: Transitions = None) -> int:
    """Denoiser evaluations of one row from one grid point to a later one: its cost in NFE."""
    if transition is None:
        return stop - start
    return sum(one.evaluations for one in per_step(transition, start, stop))


def _check(name: str, value: float, ends: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in [0, 1], got {value!r:.40} of type {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1] ({ends}), got {value}")
