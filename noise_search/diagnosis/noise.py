"""The noises that the winner and the first image began with: drawn again, and held against white noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noise_search.replays.opening import open_recorded, recorded_grids
from noise_search.replays.reading import read
from noise_search.results.result import SearchResult
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from samplers.recipe import Recipe
from samplers.repair import BLOCK, whiteness
from samplers.replay import replay
from samplers.said import first_line

NORM_LIMIT = 3.0
"""Standard deviations that |x|^2 / D may be off 1: 1 +- 3 sqrt(2 / D), `reference/algorithms.md` section 9."""


RISK = math.erfc(NORM_LIMIT / math.sqrt(2))
"""Chance (0.27 %) that white noise fails one or more of the other checks; Bonferroni gives each its part."""


LEAST_WHITENESS = 0.97
"""Cosine of a noise to what would repair it, below which its spectrum is coloured; a mean of neighbours has .90."""
_WHITENESS, _WHITENESS_SPREAD = 0.9894, 0.0118
"""Its mean under white noise, and its deviation in a block of the spectrum.

Of 200 draws each of 1,024, 4,096 and 16,384 numbers: means .9898, .9895 and .9894, deviations .0116 to .0119.
"""
_BLOCKS = 32
"""Blocks from which on that is so; in fewer it scatters too much to tell anything."""


_ROUNDING = 1e-9
"""Frequencies on an edge belong to the octave below it."""


@dataclass(frozen=True)
class NoiseCheck:
    """One statistic of a noise.

    Attributes:
        name: what it is.
        value: the statistic.
        expected: its mean under white noise, exact but for the cosine to repaired noise, where it was measured.
        z: (value - mean) / standard deviation, as exact.
        tail: how likely white noise is that far out, on both sides; exact for chi-squares, else by the normal law.
        passed: whether it is near enough.
        parts: the numbers it was made of, where there are several: the mean of every channel.
    """

    name: str
    value: float
    expected: float
    z: float
    tail: float
    passed: bool
    parts: tuple[float, ...] = ()


@dataclass(frozen=True)
class NoiseReport:
    """The step-0 noises of the winner and of the first image.

    Attributes:
        winner, first: their checks; () where they were skipped.
        renoised: stretches of the winner's way in which new noise came in, each a jump back or a run of steps that mix
            it in; these checks don't see it.
        skipped: why there are none, or "".
    """

    winner: tuple[NoiseCheck, ...] = ()
    first: tuple[NoiseCheck, ...] = ()
    renoised: int = 0
    skipped: str = ""

    @property
    def note(self) -> str:
        """What the checks don't see, in words, or ""."""
        stretches = "one stretch" if self.renoised == 1 else f"{self.renoised} stretches"
        return f"new noise came in on {stretches} of the way, and isn't checked" if self.renoised else ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "skipped": self.skipped or None}


def noise_report(result: SearchResult, model: Any, model_options: Mapping[str, Any] | None) -> NoiseReport:
    """The noises drawn again from their recipes, for which the model takes no step, and checked.

    The model says what shape they have and which recipes are its own. An embedded one is opened by its name.

    Raises:
        ValueError: the `model` given is not the one recorded.
    """
    name = result.settings["model"].get("name")
    if model is None and name not in EMBEDDED_MODELS:
        return NoiseReport(skipped=f"the noise lies in the space of {name}: pass it as model=")
    recipes = [result.best.recipe, result.first.recipe]
    try:
        record = read(result)
        with open_recorded(record, model, ModelSettings(options=model_options or {})).sampler as sampler:
            if not sampler.can_move:
                return NoiseReport(skipped=f"the model draws its noise itself ({sampler.limitation})")
            sampler.condition(result.prompt)  # a sampler may look at its grid through a call with a prompt
            space = recorded_grids(record, sampler, sampler.describe())[0]
            noises = [replay(sampler, recipe.noise, [space]).noise.x[0] for recipe in recipes]
    except ValueError as error:
        if model is not None:
            raise
        return NoiseReport(skipped=first_line(error))
    winner, first = (noise_checks(noise, space.axes) for noise in noises)
    return NoiseReport(winner, first, _renoised(recipes[0]))


def _renoised(recipe: Recipe) -> int:
    """On how many stretches new noise came in: by runs that mix it in, and between runs."""
    return sum(op["op"] == "renoise" or (op["op"] == "run" and op.get("rho") != 1) for op in recipe.operations)


def noise_checks(noise: Tensor, axes: Sequence[str]) -> tuple[NoiseCheck, ...]:
    """Norm, whiteness, power per octave, lag-1 autocorrelation and channel means; what the axes allow of them.

    A Fourier coefficient set that holds the conjugate of each of its members has, under white noise and the unitary
    transform, a chi-square sum of squares with as many degrees of freedom as members: exact for every shape.

    Args:
        noise: one row, without a batch axis.
        axes: the name of each axis, of which "height", "width" and "channel" are looked for.

    Raises:
        ValueError: another number of axes than names, or a value that is not finite.
    """
    x = noise.detach().cpu().double()
    if x.ndim != len(axes):
        raise ValueError(f"noise has shape {tuple(noise.shape)}; expected one axis per name of {tuple(axes)}")
    if not bool(x.isfinite().all()):
        raise ValueError("noise holds values that are not finite; expected the float32 noise of one candidate")
    found = [_power("|x|^2 / D", x.square().sum(), x.numel())]
    if {"height", "width"} <= set(axes):
        found += _bands(x, axes)
    long = [name for name in ("height", "width") if name in axes and x.shape[axes.index(name)] > 1]
    found += [_lag(x, axes.index(name), name) for name in long]
    if "channel" in axes:
        found.append(_channel_means(x.movedim(axes.index("channel"), 0).flatten(1)))
    norm, *others = found
    each = RISK / max(len(others), 1)
    return (
        replace(norm, passed=abs(norm.z) <= NORM_LIMIT),
        *_whiteness(x),
        *(replace(one, passed=one.tail >= each) for one in others),
    )


def _power(name: str, total: Tensor, count: int, parts: tuple[float, ...] = ()) -> NoiseCheck:
    """A sum of `count` squares over their number: chi-square, mean 1, variance 2 / count."""
    half = torch.tensor(count / 2, dtype=torch.float64)
    below, above = torch.special.gammainc(half, total / 2), torch.special.gammaincc(half, total / 2)
    value = float(total) / count
    tail = min(1.0, 2 * min(float(below), float(above)))
    return NoiseCheck(name, value, 1.0, (value - 1) / math.sqrt(2 / count), tail, True, parts)


def _whiteness(x: Tensor) -> list[NoiseCheck]:
    """The cosine to the noise with the norms of white noise in every block of the spectrum, where there are enough."""
    blocks = x.numel() // (2 * BLOCK)
    if blocks < _BLOCKS:
        return []
    value = whiteness(x.numpy())
    z = (value - _WHITENESS) / (_WHITENESS_SPREAD / math.sqrt(blocks))
    tail = math.erfc(abs(z) / math.sqrt(2))
    return [NoiseCheck("cosine to repaired noise", value, _WHITENESS, z, tail, value >= LEAST_WHITENESS)]


def _bands(x: Tensor, axes: Sequence[str]) -> list[NoiseCheck]:
    """Power in octaves of radial frequency, in cycles per latent pixel, highest first; the mean is in none."""
    x = x.movedim((axes.index("height"), axes.index("width")), (-2, -1))
    power = torch.fft.fft2(x, norm="ortho").abs().square()
    down, across = (torch.fft.fftfreq(size, dtype=torch.float64) for size in x.shape[-2:])
    radius = (down[:, None] ** 2 + across[None, :] ** 2).sqrt()
    edges = [1.0, *(0.5**octave for octave in range(2, 64) if 0.5**octave >= 1 / max(x.shape[-2:])), 0.0]
    found = []
    for high, low in pairwise(edges):
        inside = (radius > low + _ROUNDING) & (radius <= high + _ROUNDING)
        if count := int(inside.sum()) * math.prod(x.shape[:-2]):
            octave = f"above {low:.3g}" if high == 1 else f"{low:.3g} to {high:.3g}"
            found.append(_power(f"power {octave} cycles/pixel", power[..., inside].sum(), count))
    return found


def _lag(x: Tensor, axis: int, name: str) -> NoiseCheck:
    """Lag-1 autocorrelation r = S / |x|^2, S the sum over M neighbouring pairs.

    r depends on the direction of x alone, and so not on |x|: E r = 0, E r^2 = E S^2 / E |x|^4 = M / (D (D + 2)).
    """
    length = x.shape[axis]
    first, second = x.narrow(axis, 0, length - 1), x.narrow(axis, 1, length - 1)
    value = float((first * second).sum() / x.square().sum().clamp(min=1e-300))
    z = value / math.sqrt(first.numel() / (x.numel() * (x.numel() + 2)))
    return NoiseCheck(f"lag-1 correlation along {name}", value, 0.0, z, math.erfc(abs(z) / math.sqrt(2)), True)


def _channel_means(rows: Tensor) -> NoiseCheck:
    """Mean square of the channels' means over their deviation 1 / sqrt(n): their sum of squares is chi-square."""
    means = rows.mean(1)
    total = (means.square() * rows.shape[1]).sum()
    return _power("channel means", total, len(rows), tuple(means.tolist()))
