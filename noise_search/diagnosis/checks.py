"""Held-out judges: whether those that the search never saw agree with its verifier."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from noise_search.diagnosis.pairs import spread
from noise_search.results.candidate import number
from noise_search.results.result import SearchResult


@dataclass(frozen=True)
class Heldout:
    """One judge on the winner and the first image.

    Attributes:
        name: the judge's.
        winner, first: its scores.
        spread: their standard deviation over the judged candidates, NaN where fewer than 4 or all equal. Those are the
            search's best, which are nearer to each other than candidates are.
        own_gain: the gain by the search's own verifiers, in their spreads.
    """

    name: str
    winner: float
    first: float
    spread: float
    own_gain: float

    @property
    def gain(self) -> float:
        """The winner's score minus the first's."""
        return self.winner - self.first

    @property
    def transfer(self) -> float:
        """The transfer ratio: gain in spreads over the own gain in spreads; NaN where one has no spread."""
        return self.gain / self.spread / self.own_gain if self.own_gain > 0 else math.nan

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        values = {
            "winner": self.winner,
            "first": self.first,
            "gain": self.gain,
            "spread": self.spread,
            "transfer": self.transfer,
        }
        return {"name": self.name, **{name: number(value) for name, value in values.items()}}


def heldout(result: SearchResult, own_gain: float) -> tuple[Heldout, ...]:
    """The judges, NaN where one couldn't tell; `own_gain` is NaN where it can't be told in spreads."""
    found = []
    for key, scores in result.judges.items():
        known = [one.judges[key] for one in result.candidates if key in one.judges]
        found.append(Heldout(key.split("@")[0], scores["best"], scores["first"], spread(known), own_gain))
    return tuple(found)


NORM_LIMIT = 3.0
"""Standard deviations that |x|^2 / D may be off 1: 1 +- 3 sqrt(2 / D), `reference/algorithms.md` section 9."""


RISK = math.erfc(NORM_LIMIT / math.sqrt(2))
"""Chance (0.27 %) that white noise fails one or more of the other checks; Bonferroni gives each its part."""


_ROUNDING = 1e-9
"""Frequencies on an edge belong to the octave below it."""


@dataclass(frozen=True)
class NoiseCheck:
    """One statistic of a noise.

    Attributes:
        name: what it is.
        value: the statistic.
        expected: its exact mean under white noise.
        z: (value - mean) / standard deviation, both exact.
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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "parts": list(self.parts)}


def noise_checks(noise: Tensor, axes: Sequence[str]) -> tuple[NoiseCheck, ...]:
    """Norm, power per octave of spatial frequency, lag-1 autocorrelation, channel means; what the axes allow of them.

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
    found += [_lag(x, axes.index(name), name) for name in ("height", "width") if name in axes and _long(x, axes, name)]
    if "channel" in axes:
        found.append(_channel_means(x.movedim(axes.index("channel"), 0).flatten(1)))
    each = RISK / max(len(found) - 1, 1)
    norm, *others = found
    judged = [(norm, abs(norm.z) <= NORM_LIMIT), *((one, one.tail >= each) for one in others)]
    return tuple(replace(one, passed=passed) for one, passed in judged)


def _long(x: Tensor, axes: Sequence[str], name: str) -> bool:
    return x.shape[axes.index(name)] > 1


def _power(name: str, total: Tensor, count: int, parts: tuple[float, ...] = ()) -> NoiseCheck:
    """A sum of `count` squares over their number: chi-square, mean 1, variance 2 / count."""
    half = torch.tensor(count / 2, dtype=torch.float64)
    below, above = torch.special.gammainc(half, total / 2), torch.special.gammaincc(half, total / 2)
    value = float(total) / count
    tail = min(1.0, 2 * min(float(below), float(above)))
    return NoiseCheck(name, value, 1.0, (value - 1) / math.sqrt(2 / count), tail, True, parts)


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
