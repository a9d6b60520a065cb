"""Closed-form models, verifiers and stub algorithms: whole searches in milliseconds."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from noise_search import search
from noise_search.algorithms.base import Evaluation, Job, Plan, Problem
from samplers import Mix, ddim, flow_matching
from samplers.denoiser import DenoiserSampler
from samplers.space import NoiseSpace
from samplers.state import State

SHAPE = (3, 4, 4)
AXES = ("channel", "height", "width")
SPREAD = 0.3
TAU = 0.4
MEAN = torch.linspace(-0.5, 0.5, math.prod(SHAPE)).view(SHAPE)
"""Of the Gaussian whose probability-flow map is known."""


def space(steps: int = 8, levels: Sequence[float] = (), shape: tuple[int, ...] = SHAPE) -> NoiseSpace:
    sigmas = sorted({*(1 - i / steps for i in range(steps)), *levels}, reverse=True)
    return NoiseSpace(shape, AXES, *flow_matching.grid(sigmas))


def vp_space(steps: int) -> NoiseSpace:
    signal = [max(math.cos(math.pi / 2 * (1 - i / steps)), 0.05) ** 2 for i in range(steps)]
    return NoiseSpace(SHAPE, AXES, *ddim.grid(signal))


def gaussian_x0(x: Tensor, alpha: float, sigma: float, prompts: list[str]) -> Tensor:
    return MEAN + alpha * TAU**2 / (alpha**2 * TAU**2 + sigma**2) * (x - alpha * MEAN)


def mixture(centres: int = 6) -> Tensor:
    return torch.randn(centres, *SHAPE, generator=torch.Generator().manual_seed(0))


def exact_x0(x: Tensor, alpha: float, sigma: float, prompts: list[str]) -> Tensor:
    """Posterior mean of a mixture of isotropic Gaussians; a prompt shifts the picture by its length."""
    shift = torch.tensor([0.05 * len(p) for p in prompts]).view(-1, 1, 1, 1)
    means = mixture()[None] + shift[:, None]
    variance = alpha**2 * SPREAD**2 + sigma**2
    away = x[:, None] - alpha * means
    weight = torch.softmax(-away.square().flatten(2).sum(2) / (2 * variance), 1)
    return (weight[:, :, None, None, None] * (means + alpha * SPREAD**2 / variance * away)).sum(1)


class CountingSampler(DenoiserSampler):
    """Counts denoiser rows where the denoiser is called, apart from what the sampler says of itself."""

    def __init__(self, steps: int = 8, fn=exact_x0) -> None:
        self.rows = 0
        self.largest = 0

        def counted(x: Tensor, alpha: float, sigma: float, prompts: list[str]) -> Tensor:
            self.rows += len(x)
            self.largest = max(self.largest, len(x))
            return fn(x, alpha, sigma, prompts)

        super().__init__(counted, lambda asked, levels: space(asked or steps, levels))


class Killed(BaseException):
    """What ends a search as if its process were killed: nothing is saved after it."""


class Mortal:
    """Denoisers that live for so many evaluations, all of them together."""

    def __init__(self, evaluations: int, fn: Callable[..., Tensor] = exact_x0) -> None:
        self.left, self.fn = evaluations, fn

    def __call__(self, x: Tensor, alpha: float, sigma: float, prompts: list[str]) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return self.fn(x, alpha, sigma, prompts)


def brightness(images: Tensor, prompts: list[str]) -> Tensor:
    return images.mean((1, 2, 3))


def contrast(images: Tensor, prompts: list[str]) -> Tensor:
    return images.flatten(1).std(1)


def fits(rows: int, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A denoiser or verifier that runs out of memory on more rows."""

    def limited(batch: Tensor, *more: Any) -> Tensor:
        if len(batch) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return function(batch, *more)

    return limited


def spoilt(rows: slice) -> Callable[..., Tensor]:
    """The denoiser with rows of every batch that are no numbers."""

    def broken(x: Tensor, *more: Any) -> Tensor:
        x0 = exact_x0(x, *more)
        x0[rows] = torch.nan
        return x0

    return broken


def raising(error: BaseException) -> Callable[..., Any]:
    """A denoiser, verifier or callback that only raises."""

    def fail(*given: Any) -> Any:
        raise error

    return fail


def toy_search(sampler: DenoiserSampler | None = None, prompt: Any = "a prompt", **options: Any) -> Any:
    """A search of the closed-form model, by brightness if nothing else is asked for."""
    asked = {"model": sampler or CountingSampler(), "algorithm": "random", "verifier": brightness, "progress": False}
    return search(prompt, **asked | options)


def told(result: Any) -> dict[str, Any]:
    """All that a result says but seconds, and with which batches on what model it was made."""
    found: dict[str, Any] = copy.deepcopy(result.to_json())
    del found["ledger"]["seconds"], found["model"], found["settings"]["model"], found["settings"]["batch_size"]
    return found


def scores(result: Any) -> list[float]:
    return [candidate.score for candidate in result.candidates]


@dataclass(frozen=True)
class ParticleSearch:
    """A stub: particles on a stochastic grid, scored on the way, the better half doubled."""

    name: ClassVar[str] = "stub-particles"
    whole_calls: ClassVar[bool] = False
    particles: int = 4
    every: int = 2

    def plan(self, problem: Problem) -> Plan:
        end = problem.space.end
        yield Job(problem.fresh(1), end)
        states = problem.fresh(self.particles)
        while states.step < end:
            (found,) = yield Job(states, min(states.step + self.every, end), transition=Mix(0.5))
            if found.states.step == end:
                return
            good = problem.rank(found)[: self.particles // 2]
            parents = found.states[(good * 2)[: self.particles]]
            states = problem.space.branch(parents, problem.seeds(len(parents)))


@dataclass(frozen=True)
class TreeSearch:
    """A stub: leaves of several depths at once, so that one round's rows stop at different points."""

    name: ClassVar[str] = "stub-tree"
    whole_calls: ClassVar[bool] = False
    score_inner: bool = True

    def plan(self, problem: Problem) -> Plan:
        end = problem.space.end
        (first,) = yield Job(problem.fresh(1), end)
        best: Evaluation = first
        while problem.nfe_left >= end:
            roots = problem.fresh(2)
            third, half = max(1, end // 3), max(2, end // 2)
            shallow, deep = yield [
                Job(roots, third, score=self.score_inner, keep=()),
                Job(problem.fresh(1), half, score=self.score_inner, keep=(third,)),
            ]
            assert set(deep.kept) == {third}
            again = problem.space.renoise(deep.states, third, problem.seeds(1))
            leaves = yield [Job(shallow.states, end), Job(again, end), Job(deep.states, end)]
            best = Evaluation.cat([best, *leaves])
            best = best[problem.rank(best)[:1]]


@dataclass(frozen=True)
class CrossingSearch:
    """A stub: the best two of every generation are followed by their mean, and by crossovers of both kinds."""

    name: ClassVar[str] = "stub-crossing"
    whole_calls: ClassVar[bool] = True
    moves_noise: ClassVar[bool] = True

    def plan(self, problem: Problem) -> Plan:
        end, make = problem.space.end, problem.space
        noises = problem.fresh(4)
        (found,) = yield Job(noises, end)
        while True:
            first, second = (noises[at] for at in problem.rank(found)[:2])
            middle = make.mean([first, second], [2.0, 1.0])
            region = make.crossover(first, second, problem.seeds(2), share=0.4)
            band = make.crossover(problem.fresh(1), first, problem.seeds(1), by="band")
            noises = State.cat([middle, region, band])
            (found,) = yield Job(noises, end)


STUBS = [ParticleSearch(), TreeSearch(), TreeSearch(score_inner=False), CrossingSearch()]
