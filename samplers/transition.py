"""How a row goes from one grid point to the next: along the ODE, or with fresh noise mixed in.

Every rule steps by x' = a' x0hat + s' (rho nhat + sqrt(1 - rho^2) z) (`samplers.rule`); a transition says with which rho.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from samplers.rule import Point, rho_from_eta


@dataclass(frozen=True)
class Deterministic:
    """The ODE (DDIM, Euler): no fresh noise."""

    evaluations: ClassVar[int] = 1

    def rho_at(self, here: Point, there: Point) -> float:
        """1 in every step."""
        return 1.0

    @property
    def recorded(self) -> dict[str, float | None]:
        """How the `run` of a recipe tells it."""
        return {"rho": 1.0}


@dataclass(frozen=True)
class Mix:
    """The same share of fresh noise in every step.

    Attributes:
        rho: share of the old noise, in [0, 1]: 1 is the ODE, 0 forgets the noise altogether.

    Raises:
        ValueError: a rho outside [0, 1].
    """

    evaluations: ClassVar[int] = 1

    rho: float

    def __post_init__(self) -> None:
        if not 0 <= self.rho <= 1:
            raise ValueError(f"rho must be in [0, 1] (1 = deterministic), got {self.rho}")

    def rho_at(self, here: Point, there: Point) -> float:
        """As given."""
        return self.rho

    @property
    def recorded(self) -> dict[str, float | None]:
        """How the `run` of a recipe tells it."""
        return {"rho": float(self.rho)}


@dataclass(frozen=True)
class Ancestral:
    """DDIM's eta (Song et al., 2021, eq. 16): fresh noise in each step as its two grid points say.

    Attributes:
        eta: in [0, 1]: 0 is the ODE, 1 ancestral sampling (DDPM).

    Raises:
        ValueError: an eta outside [0, 1].
    """

    evaluations: ClassVar[int] = 1

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in [0, 1] (0 = deterministic, 1 = ancestral), got {self.eta}")

    def rho_at(self, here: Point, there: Point) -> float:
        """What eta means between these points."""
        return rho_from_eta(self.eta, here, there)

    @property
    def recorded(self) -> dict[str, float | None]:
        """How the `run` of a recipe tells it; the same thing is told in one way."""
        return {"rho": None, "eta": float(self.eta)} if self.eta else {"rho": 1.0}


Transition = Deterministic | Mix | Ancestral
Transitions = Transition | Sequence[Transition] | None
"""One for all steps of a run, or one for each step; None for the sampler's own."""


def per_step(transition: Transition | Sequence[Transition], start: int, stop: int) -> tuple[Transition, ...]:
    """The transition of each step from one grid point to a later one.

    Raises:
        ValueError: several, and not one for each step.
    """
    if not isinstance(transition, Sequence):
        return (transition,) * (stop - start)
    if len(transition) != stop - start:
        raise ValueError(
            f"{len(transition)} transitions for the {stop - start} steps from {start} to {stop}: give each one"
        )
    return tuple(transition)


def evaluations(start: int, stop: int, transition: Transitions = None) -> int:
    """Denoiser evaluations of one row from one grid point to a later one: its cost in NFE."""
    if transition is None:
        return stop - start
    return sum(one.evaluations for one in per_step(transition, start, stop))
