"""From one grid point to a later one by the evaluations of one transition: a step of the rule, or a GLASS inner flow.

A crossing says at which points the model is evaluated, and turns each output into the x that comes next: at the next of
these points, and in the end at the grid point that it leads to. `DenoiserSampler` calls its function there;
`SearchScheduler` hands a pipeline their timesteps.
"""

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from samplers.rule import Batch, Point, StepRule
from samplers.transition import Glass, Leg

Curve = Callable[[float], Point]
"""Signal and noise scale by their ratio sigma / alpha, anywhere between the points of a grid."""

_CLOSE = 1e-4


class Crossing:
    """One step of a rule: one evaluation, where it starts.

    Attributes:
        points: where the model is evaluated, in order.
        rho: share of the old noise; below 1 it takes fresh noise.
        done: whether all of them were.
    """

    def __init__(self, rule: StepRule, here: Point, there: Point, rho: float) -> None:
        self._rule, self._there, self.rho = rule, there, rho
        self.points: tuple[Point, ...] = (here,)
        self._taken = 0

    @property
    def begun(self) -> bool:
        """Whether any of the points was passed."""
        return self._taken > 0

    @property
    def done(self) -> bool:
        """Whether all of them were."""
        return self._taken == len(self.points)

    def step(self, x: Batch, output: Batch, z: Batch | None) -> tuple[Batch, Batch]:
        """What comes next, and the x0 prediction.

        Args:
            x: what the model was evaluated at.
            output: of the model.
            z: the fresh noise of the crossing, which counts at its first point; None where rho is 1.
        """
        self._taken += 1
        return self._rule.step(x, output, self.points[0], self._there, self.rho, z)


class InnerFlow(Crossing):
    """A GLASS transition: an ODE of the model from fresh noise to a sample of p(x' | x) (GLASS flows, ICLR 2026).

    With the noises of x = a x0 + s n and x' = a' x0 + s' n' correlated by rho, x' = g x + d, g = rho s' / s, where
    given x0 the rest d is N(A x0, S^2), A = a' - g a, S = s' sqrt(1 - rho^2). d is flowed from N(0, s^2) at u = 0 to
    there at u = 1 along A u x0 + ((1 - u) s + u S) e, by Euler steps of

        d' = w d + (A - w A u) D,    w = (S - s) / ((1 - u) s + u S)

    x and d are two looks at x0 through independent noise, so D, what both predict, is the model's own prediction from
    their precision-weighted mean, at the point of the curve where sigma / alpha is its error. Where the noise of d
    starts is free; from s the variance comes out best on Gaussians. With one evaluation it is the rule's step.
    """

    def __init__(self, rule: StepRule, here: Point, there: Point, rho: float, evaluations: int, curve: Curve) -> None:
        super().__init__(rule, here, there, rho)
        (alpha, start), end = here, there.sigma * math.sqrt(1 - rho**2)
        self._old = rho * there.sigma / start
        self._start = start
        gain = there.alpha - self._old * alpha
        points, self._looks, self._rates = [here], [(1.0, 0.0)], list[tuple[float, float]]()
        for u in (k / evaluations for k in range(evaluations)):
            signal, noise = u * gain, (1 - u) * start + u * end
            shrink = (end - start) / noise
            self._rates.append((shrink / evaluations, (gain - signal * shrink) / evaluations))
            if u > 0:
                precision = alpha**2 / start**2 + signal**2 / noise**2
                point = curve(precision**-0.5)
                points.append(point)
                weight = point.alpha / precision
                self._looks.append((weight * alpha / start**2, weight * signal / noise**2))
        self.points = tuple(points)

    def step(self, x: Batch, output: Batch, z: Batch | None) -> tuple[Batch, Batch]:
        """See `Crossing.step`; x is kept from its first point on."""
        if not self.begun:
            if z is None:
                raise ValueError(f"a transition with rho = {self.rho} < 1 needs fresh noise z, got None")
            self._x, self._rest = x, self._start * z
        x0 = self._rule.predict(x, output, self.points[self._taken]).x0
        own, predicted = self._rates[self._taken]
        self._rest = self._rest + (own * self._rest + predicted * x0)
        self._taken += 1
        if self.done:
            return self._old * self._x + self._rest, x0
        of_x, of_rest = self._looks[self._taken]
        return of_x * self._x + of_rest * self._rest, x0

    _x: Tensor
    _rest: Tensor


def crossing(rule: StepRule, leg: Leg, here: Point, there: Point, curve: Curve | None) -> Crossing:
    """How a leg of a run is crossed, between the grid points `here` and `there`.

    Raises:
        ValueError: a `Glass`, on a grid without a curve.
    """
    rho = leg.transition.rho_at(here, there)
    if not isinstance(leg.transition, Glass):
        return Crossing(rule, here, there, rho)
    if curve is None:
        raise ValueError(
            f"{leg.transition} evaluates the model between grid points, which are known where alpha + sigma = 1 or "
            "alpha^2 + sigma^2 = 1, and on this grid neither is: take another transition"
        )
    return InnerFlow(rule, here, there, rho, leg.evaluations, curve)


def curve_of(alphas: Sequence[float], sigmas: Sequence[float]) -> Curve | None:
    """The curve on which all points of a grid lie: alpha + sigma = 1, or alpha^2 + sigma^2 = 1; None for neither."""
    both = list(zip(alphas, sigmas, strict=True))
    if all(abs(alpha + sigma - 1) < _CLOSE for alpha, sigma in both):
        return lambda ratio: Point(1 / (1 + ratio), ratio / (1 + ratio))
    if all(abs(alpha**2 + sigma**2 - 1) < _CLOSE for alpha, sigma in both):
        return lambda ratio: Point(1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio))
    return None
