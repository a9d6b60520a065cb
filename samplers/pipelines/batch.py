"""Rows of one grid through one call of a pipeline: by our steps, or whole, by the user's own scheduler."""

import copy
import hashlib
import inspect
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from samplers.base import Run, arrived
from samplers.pipelines.calls import PipelineCalls
from samplers.pipelines.layout import Handed
from samplers.pipelines.probe import Probed
from samplers.pipelines.randn import global_states
from samplers.pipelines.scheduler import SearchScheduler, StepOutput, Walk, check_injected
from samplers.recipe import Recipe
from samplers.space import step_noise
from samplers.state import State
from samplers.transition import Leg

CHANGING = {"callback_on_step_end", "mask_image"}
"""Options by which x changes after its last step: there the pipeline's output is x."""

_seeding = threading.RLock()


@dataclass(frozen=True)
class BatchCall:
    """The call that takes some rows to `stop`, with one prompt for each.

    Attributes:
        legs: the transitions from the states' step to `stop`.
        kept: whether the user's own scheduler is kept.
    """

    calls: PipelineCalls
    probed: Probed
    states: State
    prompts: list[str]
    stop: int
    keep: Sequence[int]
    legs: tuple[Leg, ...]
    kept: bool

    def run(self) -> Run:
        """Advance the rows; see `Sampler.run`."""
        calls, probed, states, stop = self.calls, self.probed, self.states, self.stop
        handed = self._handed()
        walk = self._walk(handed)
        before = calls.denoiser_rows
        output = self._output(walk, handed)
        if (self.kept or CHANGING & calls.options.keys()) and probed.latent_output:
            walk.seen[stop] = (output.float(), walk.seen.get(stop, (None, None))[1])
        points = {states.step: states}
        for step in {*self.keep, stop} - {states.step}:
            x, x0 = walk.seen[step]
            x0 = None if x0 is None else probed.layout.unpack(x0)
            points[step] = arrived(states, probed.space, step, probed.layout.unpack(x), x0, self.legs)
        rows = calls.denoiser_rows - before
        return Run(points[stop], MappingProxyType({k: points[k] for k in self.keep}), rows)

    @property
    def _pure(self) -> list[bool]:
        """Which rows are pure noise; one that was re-noised to step 0 has its signal already."""
        return [self.states.step == 0 and not recipe.grid_bound for recipe in self.states.recipes]

    def _handed(self) -> Handed:
        """What the pipeline is handed: pure noise in the scheduler's scale, anything else as it is."""
        x = self.states.x
        scales = [self.probed.grid.start_scale if pure else 1.0 for pure in self._pure]
        scale = torch.tensor(scales, dtype=x.dtype, device=x.device)
        return Handed(self.probed.layout, x * scale.reshape(-1, *[1] * (x.ndim - 1)))

    def _walk(self, handed: Handed) -> Walk:
        space, layout, states = self.probed.space, self.probed.layout, self.states
        streams, noised = [r.stream for r in states.recipes], layout.inlet == "noised"
        return Walk(
            states.step,
            self.stop,
            injected=layout.pack(handed.x).to(self.calls.device, layout.dtype),
            legs=self.legs,
            noise=lambda step: layout.pack(step_noise(streams, step, space.shape)),
            keep=frozenset(self.keep),
            pack=layout.pack,
            noised=not noised,
            pure=torch.tensor(self._pure) if noised and states.step == 0 else None,
        )

    def _output(self, walk: Walk, handed: Handed) -> Any:
        """The pipeline's first output."""
        calls, probed, recipes = self.calls, self.probed, self.states.recipes
        noised = probed.layout.inlet == "noised"
        skipped = probed.space.shape if probed.layout.inlet in ("packed", "drawn") else None
        scheduler: Any = SearchScheduler(calls.scheduler, walk, probed.builder)
        if self.kept:
            scheduler = keeping(calls.scheduler, walk, noised)

        def prepare(view: Any) -> None:
            if not probed.latent_output and getattr(view, "vae", None) is not None:
                vars(view)["vae"] = Undecoded(view.vae)

        options = probed.options | probed.unfinished
        call = partial(calls.call, handed=handed, generators=row_generators(recipes, skipped), prepare=prepare)
        if not self.kept and not calls.draws_before:
            return call(scheduler, self.prompts, options)
        with undisturbed(recipes) as drawn:
            output = call(scheduler, self.prompts, options)
        calls.draws = calls.draws or drawn.globally
        return output


class Undecoded:
    """Stands in for a VAE whose images nobody will look at: decodes to what it is given."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)

    def decode(self, latents: Tensor, *args: Any, **kwargs: Any) -> StepOutput:
        """The latents."""
        return StepOutput(sample=latents)


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
            check_injected(sample, walk.injected, float(getattr(self, "init_noise_sigma", 1.0)) if scaled else 1.0)
        if self is scheduler:
            started.append(True)
        output = cls.step(self, *args, **kwargs)
        after = output[0] if isinstance(output, tuple) else output.prev_sample
        if self is scheduler and walk.injected is not None and after.shape[1:] == walk.injected.shape[1:]:
            walk.seen[walk.stop] = (after[: len(walk.injected)].float().clone(), None)
        return output

    scheduler.__class__ = type(cls.__name__, (cls,), {"step": step, "__module__": cls.__module__})
    return scheduler


def row_generators(recipes: Sequence[Recipe], skipped: tuple[int, ...] | None) -> list[torch.Generator]:
    """One CPU generator per row, for what pipelines and schedulers draw besides the noise.

    It is that of the seed the row began with, as the plain pipeline has it: rows that were moved from one noise encode
    an image to the same sample, and differ by their noise alone; of several parents the first counts. `skipped` is the
    shape of a noise that is handed in without being drawn. A row with a random stream of its own gets a generator keyed
    by its recipe.
    """
    generators = []
    for recipe in recipes:
        branched = any(op["op"] == "branch" for op in recipe.operations)
        seed = _hashed(f"whole:{recipe.stream}") if branched else recipe.operations[0]["seed"]
        generators.append(torch.Generator().manual_seed(seed))
        if skipped is not None:
            torch.randn((1, *skipped), generator=generators[-1])
    return generators


def _hashed(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big")


@dataclass
class Drawn:
    """Whether a call drew from the global generators; known when it has ended."""

    globally: bool = False


@contextmanager
def undisturbed(recipes: Sequence[Recipe]) -> Iterator[Drawn]:
    """Seed the global generators by `recipes` for schedulers that draw from them, then restore them.

    One thread at a time: the generators are everyone's.
    """
    drawn = Drawn()
    with _seeding, torch.random.fork_rng():
        torch.manual_seed(_hashed("".join(recipe.stream for recipe in recipes)))
        before = global_states()
        yield drawn
        drawn.globally = not all(map(torch.equal, before, global_states()))
