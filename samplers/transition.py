"""How a row goes from one grid point to a later one: along the ODE, or with fresh noise mixed in.

Every rule steps by x' = a' x0hat + s' (rho nhat + sqrt(1 - rho^2) z) (`samplers.rule`); a transition says with which
rho. `Glass` takes several evaluations of the model for what is one such step, so that it may be a long one.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from samplers.rule import Point, rho_from_eta


@dataclass(frozen=True)
class Deterministic:
    """The ODE (DDIM, Euler): no fresh noise."""

    reach: ClassVar[int] = 1

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

    reach: ClassVar[int] = 1

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

    reach: ClassVar[int] = 1

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


@dataclass(frozen=True)
class Glass:
    """A long step with fresh noise, sampled by an inner flow of the same model (GLASS flows, ICLR 2026).

    The noises of its two ends correlate by `rho` as in `Mix`, and where `Mix` puts one x0 prediction, `Glass` follows
    an ODE from fresh noise to a sample of what may be there (`samplers.crossing`). One evaluation makes it `Mix`, and
    loses much of the variance of a long step; more make up for that. The model is evaluated between grid points, so it
    has to know other times than those it was trained at: flow models and the usual time embeddings do.

    Attributes:
        rho: share of the old noise, in [0, 1); .4 was best in the paper.
        inner: evaluations of a transition.
        stride: grid points that a transition passes over. None for as many as it takes evaluations, so that a run costs
            what the ODE would; a last one over fewer points takes fewer, then.

    Raises:
        TypeError: a number of another type.
        ValueError: a rho outside [0, 1), or a number of evaluations or points below 1.
    """

    rho: float = 0.4
    inner: int = 4
    stride: int | None = None

    def __post_init__(self) -> None:
        _check("rho", self.rho, "0 = all fresh")
        if self.rho == 1:
            raise ValueError("rho must be below 1 in Glass, got 1: without fresh noise it is Deterministic()")
        for name, value in (("inner", self.inner), ("stride", self.stride)):
            if value is None and name == "stride":
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, got {value!r:.40} of type {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def reach(self) -> int:
        """Grid points that a transition passes over, if as many are left."""
        return self.inner if self.stride is None else self.stride

    def rho_at(self, here: Point, there: Point) -> float:
        """As given."""
        return self.rho

    @property
    def recorded(self) -> dict[str, Any]:
        """How the `run` of a recipe tells it."""
        own = {"rho": float(self.rho), "inner": self.inner}
        return own if self.stride is None else {**own, "stride": self.stride}


Transition = Deterministic | Mix | Ancestral | Glass
Transitions = Transition | Sequence[Transition] | None
"""One for all of a run, or each in its order; None for the sampler's own."""


class Leg(NamedTuple):
    """One transition of a run, and the grid points that it leads from and to."""

    start: int
    stop: int
    transition: Transition

    @property
    def evaluations(self) -> int:
        """Evaluations of the model that it takes."""
        one = self.transition
        if not isinstance(one, Glass):
            return 1
        return self.stop - self.start if one.stride is None else one.inner


def legs(
    transition: Transition | Sequence[Transition], start: int, stop: int, keep: Sequence[int] = ()
) -> tuple[Leg, ...]:
    """The transitions of a run from one grid point to a later one, from `start` on; the last one may be shorter.

    Raises:
        TypeError: something else than transitions.
        ValueError: several that don't make up the run, or a point to `keep` that lies within one.
    """
    alone = None if isinstance(transition, Sequence) else transition
    given = tuple(transition) if isinstance(transition, Sequence) else (transition,)
    if (other := next((one for one in given if not isinstance(one, Transition)), None)) is not None:
        raise TypeError(
            f"a transition is Deterministic(), Mix(rho), Ancestral(eta) or Glass(rho, inner), got {other!r:.40} of "
            f"type {type(other).__name__}"
        )
    given = given if alone is None else (alone,) * -(-(stop - start) // alone.reach)
    found, at = list[Leg](), start
    for one in given:
        found.append(Leg(at, at + one.reach if alone is None else min(at + one.reach, stop), one))
        at = found[-1].stop
    if at != stop:
        raise ValueError(f"{len(given)} transitions for the {stop - start} steps from {start} to {stop}: give each one")
    ends = {start, *(leg.stop for leg in found)}
    if inside := [point for point in keep if point not in ends]:
        raise ValueError(
            f"grid points {inside} lie within transitions, which lead over {', '.join(map(str, sorted(ends)))}: take "
            "one of these, or a transition of another stride"
        )
    return tuple(found)


def recorded_in(run: Mapping[str, Any]) -> Transition:
    """The transition that the `run` of a recipe tells: what `recorded` is of."""
    if run["rho"] is None:
        return Ancestral(float(run["eta"]))
    if "inner" in run:
        return Glass(float(run["rho"]), run["inner"], run.get("stride"))
    return Deterministic() if run["rho"] == 1 else Mix(float(run["rho"]))


def evaluations(start: int, stop: int, transition: Transitions = None) -> int:
    """Denoiser evaluations of one row from one grid point to a later one: its cost in NFE."""
    if transition is None:
        return stop - start
    return sum(leg.evaluations for leg in legs(transition, start, stop))


def _check(name: str, value: float, ends: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number in [0, 1], got {value!r:.40} of type {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1] ({ends}), got {value}")
