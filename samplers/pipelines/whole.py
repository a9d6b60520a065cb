"""Whole runs with the user's own scheduler (`scheduler="keep"`)."""

import copy
import hashlib
import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch

from samplers.pipelines.scheduler import Walk, check_injected
from samplers.recipe import Recipe

KEPT = "scheduler='keep'"
_seeding = threading.RLock()


def check_whole(reason: str, points: tuple[int, int, int], keep: Sequence[int]) -> None:
    """Raise ValueError unless a run over `points` = (start, stop, end) is whole, or goes nowhere at the end."""
    start, stop, end = points
    if (start, stop) not in ((0, end), (end, end)) or any(k not in (0, end) for k in keep):
        raise ValueError(f"{reason} allows whole runs from 0 to {end} only, got {start} to {stop}, keep={list(keep)}")


def keeping(user: Any, walk: Walk, noised: bool = False) -> Any:
    """A copy of the user's scheduler for one whole run of `walk`, of a subclass made for it.

    Its first step checks the x that was handed to the pipeline (but for one that was `noised` on the way), and
    the last x that it returns is recorded. A subclass, not a wrapped method, so that a pipeline may deep-copy it.
    """
    scheduler, cls = copy.deepcopy(user), type(user)
    started: list[bool] = []

    @wraps(cls.step)
    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is scheduler and not started and walk.injected is not None and not noised:
            sample = inspect.signature(cls.step).bind(self, *args, **kwargs).arguments["sample"][: len(walk.injected)]
            scaled = not torch.equal(sample, walk.injected.to(sample.dtype))
            check_injected(sample, walk.injected, float(self.init_noise_sigma) if scaled else 1.0)
        if self is scheduler:
            started.append(True)
        output = cls.step(self, *args, **kwargs)
        after = output[0] if isinstance(output, tuple) else output.prev_sample
        if self is scheduler and walk.injected is not None and after.shape[1:] == walk.injected.shape[1:]:
            walk.seen[walk.stop] = (after[: len(walk.injected)].float().clone(), None)
        return output

    scheduler.__class__ = type(cls.__name__, (cls,), {"step": step, "__module__": cls.__module__})
    return scheduler


def row_generators(recipes: Sequence[Recipe], shape: tuple[int, ...]) -> list[torch.Generator]:
    """One CPU generator per row, keyed by its recipe, for schedulers and pipelines that draw while they run.

    A row that starts from a plain `fresh(seed)` gets the generator of that seed after its first draw, so that
    the plain pipeline draws the same.
    """
    return [_generator(recipe, shape) for recipe in recipes]


def _generator(recipe: Recipe, shape: tuple[int, ...]) -> torch.Generator:
    if recipe.seed is not None:
        generator = torch.Generator().manual_seed(recipe.seed)
        torch.randn((1, *shape), generator=generator)
        return generator
    digest = hashlib.sha256(f"whole:{recipe.stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@dataclass
class Drawn:
    """Whether a call drew from the global generators; known when it has ended."""

    globally: bool = False


@contextmanager
def undisturbed(recipes: Sequence[Recipe]) -> Iterator[Drawn]:
    """Seed the global generators by `recipes` for schedulers that draw from them, then restore them.

    One thread at a time: the generators are everyone's.
    """
    key, drawn = "".join(recipe.stream for recipe in recipes), Drawn()
    with _seeding, torch.random.fork_rng():
        torch.manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big"))
        before = _global_states()
        yield drawn
        drawn.globally = not all(map(torch.equal, before, _global_states()))


def _global_states() -> list[torch.Tensor]:
    on_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [
        torch.get_rng_state(),
        *on_cuda,
        *([torch.mps.get_rng_state()] if torch.backends.mps.is_available() else []),
    ]
