"""Denoisers with known answers: the exact posterior mean of a mixture of isotropic Gaussians."""

import math

import torch
from torch import Tensor

from samplers import NoiseSpace, ddim, flow_matching


def mixture_denoiser(means: Tensor, tau: float):
    """`fn(x, alpha, sigma, prompts)` giving E[x0 | x] for x0 from a mixture of N(means_k, tau^2 I)."""

    def denoise(x: Tensor, alpha: float, sigma: float, prompts: list[str]) -> Tensor:
        rows = x.flatten(1)
        var = alpha**2 * tau**2 + sigma**2
        residual = rows[:, None] - alpha * means  # [batch, components, features]
        weights = torch.softmax(-residual.square().sum(-1) / (2 * var), dim=1)
        means_k = means + (alpha * tau**2 / var) * residual
        return (weights[..., None] * means_k).sum(1).reshape(x.shape)

    return denoise


def exact_gaussian_map(
    x: Tensor, mean: Tensor, tau: float, start: tuple[float, float], end: tuple[float, float]
) -> Tensor:
    """Where the probability-flow ODE of one Gaussian carries x from (alpha, sigma) `start` to `end`."""
    spread = [math.sqrt(a**2 * tau**2 + s**2) for a, s in (start, end)]
    return end[0] * mean + spread[1] / spread[0] * (x - start[0] * mean)


def flow_space(steps: int, shape: tuple[int, ...] = (3, 2, 2)) -> NoiseSpace:
    """The straight grid (1 - t, t)."""
    return NoiseSpace(
        shape,
        ("channel", "height", "width")[: len(shape)],
        *flow_matching.grid(flow_matching.uniform_sigmas(steps)),
    )


def vp_space(steps: int, shape: tuple[int, ...] = (3, 2, 2)) -> NoiseSpace:
    """The circle (cos, sin), from nearly pure noise to clean."""
    angles = [math.pi / 2 * (1 - i / steps) for i in range(steps)]
    signal = [max(math.cos(a), 0.02) ** 2 for a in angles]
    return NoiseSpace(shape, ("channel", "height", "width")[: len(shape)], *ddim.grid(signal))
