"""`run_batch`: some rows through a pipeline, as one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from samplers.base import Run, arrived, step_rho
from samplers.pipelines.calls import PipelineCalls
from samplers.pipelines.inlet import Handed, Undecoded
from samplers.pipelines.probe import Probed
from samplers.pipelines.scheduler import SearchScheduler, Walk
from samplers.pipelines.whole import keeping, row_generators, undisturbed
from samplers.space import step_noise
from samplers.state import State

CHANGING = {"callback_on_step_end", "mask_image"}
"""Options by which x changes after its last step: there the pipeline's output is x."""


@dataclass(frozen=True)
class How:
    """How rows are run: rho (None for what eta means), eta, and whether the user's own scheduler is kept."""

    rho: float | None
    eta: float
    kept: bool


def run_batch(
    calls: PipelineCalls,
    probed: Probed,
    states: State,
    prompts: list[str],
    stop: int,
    keep: Sequence[int],
    how: How,
) -> Run:
    """Advance the rows to `stop`, one prompt each; see `Sampler.run`."""
    handed = _handed(states, probed)
    walk = _walk(calls, probed, states, handed, stop, keep, how)
    before = calls.denoiser_rows
    output = _called(calls, probed, states, prompts, walk, handed, how)
    if (how.kept or CHANGING & calls.options.keys()) and probed.latent_output:
        walk.seen[stop] = (output.float(), walk.seen.get(stop, (None, None))[1])
    points = {states.step: states}
    for step in {*keep, stop} - {states.step}:
        x, x0 = walk.seen[step]
        x0 = None if x0 is None else probed.layout.unpack(x0)
        points[step] = arrived(states, probed.space, step, probed.layout.unpack(x), x0, (how.rho, how.eta))
    rows = calls.denoiser_rows - before
    return Run(points[stop], MappingProxyType({k: points[k] for k in keep}), rows)


def _handed(states: State, probed: Probed) -> Handed:
    """What the pipeline is handed: pure noise in the scheduler's scale, anything else as it is."""
    scales = [probed.grid.start_scale if pure else 1.0 for pure in _pure(states)]
    scale = torch.tensor(scales, dtype=states.x.dtype, device=states.x.device)
    return Handed(probed.layout, states.x * scale.reshape(-1, *[1] * (states.x.ndim - 1)))


def _pure(states: State) -> list[bool]:
    """Which rows are pure noise; one that was re-noised to step 0 has its signal already."""
    return [states.step == 0 and not recipe.grid_bound for recipe in states.recipes]


def _walk(
    calls: PipelineCalls,
    probed: Probed,
    states: State,
    handed: Handed,
    stop: int,
    keep: Sequence[int],
    how: How,
) -> Walk:
    space, layout, streams = probed.space, probed.layout, [r.stream for r in states.recipes]
    walk = Walk(
        states.step,
        stop,
        injected=layout.pack(handed.x).to(calls.device, layout.dtype),
        rho=partial(step_rho, space, rho=how.rho, eta=how.eta),
        noise=lambda step: layout.pack(step_noise(streams, step, space.shape)),
        keep=frozenset(keep),
        pack=layout.pack,
        noised=layout.inlet != "noised",
    )
    if layout.inlet == "noised" and states.step == 0:
        walk.pure = torch.tensor(_pure(states))
    return walk


def _called(
    calls: PipelineCalls,
    probed: Probed,
    states: State,
    prompts: list[str],
    walk: Walk,
    handed: Handed,
    how: How,
) -> Any:
    """The pipeline's first output."""
    noised = probed.layout.inlet == "noised"
    scheduler: Any = SearchScheduler(calls.scheduler, walk, probed.builder)
    if how.kept:
        scheduler = keeping(calls.scheduler, walk, noised)
    # An image that noise is added to is encoded to the same sample for every row: candidates differ by noise alone.
    drawing = how.kept or not noised
    generators = row_generators(states.recipes, probed.space.shape) if drawing else None

    def prepare(view: Any) -> None:
        if not probed.latent_output and getattr(view, "vae", None) is not None:
            vars(view)["vae"] = Undecoded(view.vae)

    call = partial(
        calls.call,
        scheduler,
        prompts,
        probed.options | {"output_type": "latent"},
        handed=handed,
        generators=generators,
        prepare=prepare,
    )
    if not how.kept:
        return call()
    with undisturbed(states.recipes) as drawn:
        output = call()
    calls.draws = calls.draws or drawn.globally
    return output
