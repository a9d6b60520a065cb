"""DDIM (Song et al., 2021, 2010.02502): the first-order rule for VP grids, and those grids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from samplers.rule import Batch, Point, Prediction, StepRule

VPPrediction = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True)
class DDIM(StepRule):
    """x' = a' x0hat + s' nhat with x0hat and nhat from an epsilon, v or sample prediction.

    With eta (see `rho_from_eta`) the noise is partly fresh. As in diffusers, clipping or thresholding changes
    x0hat but not nhat. A sample prediction makes the rule valid on any grid; on a flow grid it is the Euler
    step.

    Attributes:
        prediction: what the model predicts; "sample" is x0 itself.
        clip: clamp x0hat to [-clip, clip]; None leaves it.
        threshold: the quantile of dynamic thresholding (Saharia et al., 2022), which replaces `clip`; None
            for none.
        threshold_max: the largest magnitude that dynamic thresholding allows.
    """

    prediction: VPPrediction = "epsilon"
    clip: float | None = None
    threshold: float | None = None
    threshold_max: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown prediction type."""
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise ValueError(f"prediction must be 'epsilon', 'v_prediction' or 'sample', got {self.prediction!r}")

    def check(self, start: Point) -> None:
        """Raise ValueError for an epsilon model at zero signal: x0 = (x - s eps) / 0 says nothing."""
        if self.prediction == "epsilon" and start.alpha == 0:
            raise ValueError(
                "an epsilon prediction cannot start from zero signal (zero-terminal-SNR grid, alpha = 0): "
                "use a v_prediction or sample model, or a schedule without rescale_betas_zero_snr"
            )

    def predict(self, x: Batch, output: Batch, point: Point) -> Prediction:
        """x0 and noise from the model output at (a, s)."""
        a, s = point
        if self.prediction == "epsilon":
            x0, noise = (x - s * output) / a, output
        elif self.prediction == "v_prediction":
            x0, noise = a * x - s * output, a * output + s * x
        else:
            x0, noise = output, (x - a * output) / s
        return Prediction(self._limit(x0), noise)

    def _limit(self, x0: Batch) -> Batch:
        if self.threshold is not None:
            rows = x0.flatten(1).abs()
            bound = torch.quantile(rows, self.threshold, dim=1).clamp(1.0, max(self.threshold_max, 1.0))
            bound = bound.reshape(-1, *[1] * (x0.ndim - 1))
            return x0.clamp(-bound, bound) / bound
        return x0 if self.clip is None else x0.clamp(-self.clip, self.clip)


def timesteps(steps: int, spacing: Spacing = "leading", train_steps: int = 1000, offset: int = 0) -> list[int]:
    """Training timesteps of a grid, from noisy to clean (Lin et al., 2024, 2305.08891, table 2).

    `trailing` may give fewer or more than `steps` where rounding says so; entries below 0 are dropped.
    """
    if not 1 <= steps <= train_steps:
        raise ValueError(f"steps must be in [1, {train_steps}] (the training steps), got {steps}")
    if spacing == "leading":
        points = np.arange(steps, dtype=np.float64)[::-1] * (train_steps // steps) + offset
    elif spacing == "linspace":
        points = np.linspace(0, train_steps - 1, steps).round()[::-1]
    elif spacing == "trailing":
        points = np.round(np.arange(train_steps, 0, -train_steps / steps)) - 1
    else:
        raise ValueError(f"spacing must be 'leading', 'trailing' or 'linspace', got {spacing!r}")
    return [int(t) for t in points if 0 <= t < train_steps]


def grid(signal: Sequence[float], final: float = 1.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(alphas, sigmas) of squared signal scales (`alphas_cumprod` at each timestep), then of `final`."""
    squared = np.clip(np.asarray([*signal, final], dtype=np.float64), 0.0, 1.0)
    return tuple(np.sqrt(squared).tolist()), tuple(np.sqrt(1 - squared).tolist())


def scaled_linear(train_steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> list[float]:
    """The `alphas_cumprod` of Stable Diffusion: betas linear in their square root."""
    betas = np.linspace(start**0.5, end**0.5, train_steps) ** 2
    values: list[float] = np.cumprod(1 - betas).tolist()
    return values
