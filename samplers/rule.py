"""What the step rules share: one step from a grid point to the next, deterministic or mixed with fresh noise.

At a grid point x = a x0 + s n. A rule turns a model output into the pair (x0hat, nhat); the step to (a', s')
is

    x' = a' x0hat + s' (rho nhat + sqrt(1 - rho^2) z),    z ~ N(0, I)

rho = 1 is the ODE (DDIM, Euler), `ancestral_rho` is DDPM, rho = 0 forgets the noise altogether.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Batch = Float[Tensor, " batch *latent"]


class Point(NamedTuple):
    """Signal and noise scale at one grid point."""

    alpha: float
    sigma: float


class Prediction(NamedTuple):
    """The two ends a model output points at."""

    x0: Batch
    noise: Batch


class StepRule(ABC):
    """How a model output moves x along a grid. Pure: float32 in, float32 out, no state, no randomness.

    First order, one denoiser evaluation per step, deterministic at rho = 1.
    """

    @abstractmethod
    def predict(self, x: Batch, output: Batch, point: Point) -> Prediction:
        """The x0 and noise predictions that `output` means at `point`."""

    @abstractmethod
    def check(self, start: Point) -> None:
        """Raise ValueError where the rule cannot start at `start`."""

    def step(
        self, x: Batch, output: Batch, point: Point, following: Point, rho: float = 1.0, z: Batch | None = None
    ) -> tuple[Batch, Batch]:
        """Step from `point` to `following`: x there and the x0 prediction. `z` is needed where rho < 1."""
        x0, noise = self.predict(x, output, point)
        if rho < 1:
            if z is None:
                raise ValueError(f"a step with rho = {rho} < 1 needs fresh noise z, got None")
            noise = rho * noise + math.sqrt(1 - rho**2) * z
        return following.alpha * x0 + following.sigma * noise, x0


def ancestral_rho(point: Point, following: Point) -> float:
    """The rho of ancestral (DDPM) sampling, eta = 1: a s' / (s a')."""
    return point.alpha * following.sigma / (point.sigma * following.alpha)


def rho_from_eta(eta: float, point: Point, following: Point) -> float:
    """The rho of DDIM's eta: rho^2 = 1 - eta^2 (1 - ancestral_rho^2) (Song et al., 2021, eq. 16)."""
    if eta == 0:
        return 1.0
    return math.sqrt(max(1 - eta**2 * (1 - ancestral_rho(point, following) ** 2), 0.0))
