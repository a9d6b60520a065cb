"""Flow matching (Esser et al., 2024, 2403.03206): Euler's rule on x = (1 - sigma) x0 + sigma n."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samplers.rule import Batch, Point, Prediction, StepRule


@dataclass(frozen=True)
class FlowMatching(StepRule):
    """Euler on the velocity v = n - x0: x0hat = x - s v, nhat = x + (1 - s) v, x' = x + (s' - s) v.

    The deterministic step is written with the velocity, so that it equals diffusers' to the bit; rho < 1
    mixes fresh noise into nhat (rho = 0 is diffusers' `stochastic_sampling`).
    """

    def check(self, start: Point) -> None:
        """Raise ValueError where the grid is not alpha = 1 - sigma."""
        if abs(start.alpha + start.sigma - 1) > 1e-4:
            raise ValueError(f"a velocity needs a grid with alpha = 1 - sigma, got alpha, sigma = {tuple(start)}")

    def predict(self, x: Batch, output: Batch, point: Point) -> Prediction:
        """x0 and noise from the velocity."""
        return Prediction(x - point.sigma * output, x + (1 - point.sigma) * output)

    def step(
        self, x: Batch, output: Batch, point: Point, following: Point, rho: float = 1.0, z: Batch | None = None
    ) -> tuple[Batch, Batch]:
        """Step from `point` to `following`; return x there and the x0 prediction."""
        if rho < 1:
            return super().step(x, output, point, following, rho, z)
        return x + (following.sigma - point.sigma) * output, self.predict(x, output, point).x0


def shift_sigmas(sigmas: Sequence[float], shift: float) -> list[float]:
    """Static shift: s' = shift s / (1 + (shift - 1) s); a larger shift spends more steps at high noise."""
    return [shift * s / (1 + (shift - 1) * s) for s in sigmas]


def uniform_sigmas(steps: int) -> list[float]:
    """1, 1 - 1/steps, ..., 1/steps: the sigmas that flow pipelines shift."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    values: list[float] = np.linspace(1.0, 1 / steps, steps).tolist()
    return values


def grid(sigmas: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(alphas, sigmas) of the flow grid through `sigmas`, and the clean end after the last."""
    points = (*sigmas, 0.0)
    return tuple(1 - s for s in points), points
