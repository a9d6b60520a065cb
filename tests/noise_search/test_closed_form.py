"""Through `search()`: a Gaussian's exact probability-flow map, which both samplers reach at first order."""

import itertools
import math

import pytest
import torch

from noise_search import search
from samplers import DenoiserSampler, NoiseSpace, ddim, flow_matching
from tiny.search import SHAPE, brightness

TAU = 0.4
MEAN = torch.linspace(-0.5, 0.5, math.prod(SHAPE)).view(SHAPE)
AXES = ("channel", "height", "width")


def flow_space(steps):
    return NoiseSpace(SHAPE, AXES, *flow_matching.grid(flow_matching.uniform_sigmas(steps)))


def vp_space(steps):
    signal = [max(math.cos(math.pi / 2 * (1 - i / steps)), 0.05) ** 2 for i in range(steps)]
    return NoiseSpace(SHAPE, AXES, *ddim.grid(signal))


def gaussian_x0(x, alpha, sigma, prompts):
    return MEAN + alpha * TAU**2 / (alpha**2 * TAU**2 + sigma**2) * (x - alpha * MEAN)


def searched_error(space):
    """Largest distance between searched images and the exact map of the same noises."""
    seen = []

    def verifier(images, prompts):
        seen.append(images)
        return brightness(images, prompts)

    # Wide enough that no image is clipped at 0 or 1.
    sampler = DenoiserSampler(gaussian_x0, space, decode=lambda x: x / 16 + 0.5)
    search("a", model=sampler, verifier=verifier, candidates=4, progress=False)
    noise = space.fresh([0, 1, 2, 3]).x
    spread = math.sqrt(space.alphas[0] ** 2 * TAU**2 + space.sigmas[0] ** 2)
    exact = MEAN + TAU / spread * (noise - space.alphas[0] * MEAN)
    return float(((torch.cat(seen) - 0.5) * 16 - exact).abs().max())


@pytest.mark.parametrize("space", [flow_space, vp_space])
def test_search_converges_to_the_exact_map_at_first_order(space):
    errors = [searched_error(space(steps)) for steps in (16, 32, 64, 128)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(0.75 < order < 1.25 for order in orders[1:]), (errors, orders)
    assert errors[-1] < 0.05
