"""`probe`: what one call of a pipeline without steps shows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samplers.base import NotDrivable
from samplers.pipelines.calls import PipelineCalls
from samplers.pipelines.grids import Builder, Grid, with_levels
from samplers.pipelines.layout import Layout, LayoutProbe
from samplers.pipelines.slicing import SliceProbe
from samplers.pipelines.view import parameters
from samplers.space import NoiseSpace, check_levels

NO_STEPS = (UnboundLocalError, IndexError, ZeroDivisionError)
"""Of pipelines that need a step: for what their loop sets (LCM's `denoised`), its first timestep, or its length."""


class Probed(NamedTuple):
    """A grid of a pipeline, how to ask for it again, and how noise enters and x leaves."""

    space: NoiseSpace
    layout: Layout
    grid: Grid
    options: dict[str, Any]
    builder: Builder
    latent_output: bool


class Probes:
    """What was found out about the grids of a pipeline, each by one call without steps."""

    def __init__(self, calls: PipelineCalls) -> None:
        """Find out by these calls; nothing is called yet."""
        self._calls = calls
        self._found: dict[tuple[int | None, tuple[float, ...]], Probed] = {}

    def grid(self, prompt: str, steps: int | None = None, levels: Sequence[float] = ()) -> Probed:
        """The noise space, latent layout and grid, asked once for each grid.

        Raises NotDrivable where the call shows none, ValueError where options fix the grid that `steps` would change.
        """
        if steps == self._calls.options.get("num_inference_steps"):
            steps = None
        key = (steps, check_levels(levels))
        if key not in self._found:
            self._found[key] = probe(self._calls, prompt, self._calls.with_steps(steps), key[1])
        return self._found[key]

    def known(self, grid: str) -> Probed | None:
        """What was found for the grid of this id; None for a grid that was never asked for."""
        return next((p for p in self._found.values() if p.space.id == grid), None)


@torch.no_grad()
def probe(calls: PipelineCalls, prompt: str, options: dict[str, Any], levels: tuple[float, ...]) -> Probed:
    """Call the pipeline once without steps. Raises NotDrivable where it shows no grid, or takes no noise.

    Not for a RuntimeError: out of memory is none of the pipeline's limits.
    """
    name = type(calls.pipe).__name__
    layouts, slices = LayoutProbe(type(calls.pipe), "latents" in parameters(calls.pipe)), SliceProbe()

    def watch(view: Any) -> None:
        layouts.install(view)
        slices.install(view)

    scheduler = calls.standing()
    try:
        with layouts.watching():
            output = calls.call(scheduler, [prompt], options | {"output_type": "latent"}, prepare=watch)
    except NO_STEPS as error:
        raise NotDrivable(f"{name} cannot be called without steps ({error})") from error
    except ValueError as error:
        if "output_type" not in str(error):
            raise
        raise NotDrivable(f"{name} gives no latents ({error})") from error  # a consistency model's pipeline
    layout = layouts.found
    if layout is None or scheduler.walk.grid is None:
        raise NotDrivable(f"{name} asked for no timesteps, or drew no noise, in a call")
    builder = _extended(calls.builder, slices.skipped, levels)
    grid = builder(calls.scheduler, scheduler.walk.asked)
    if layout.inlet == "noised":
        grid = replace(grid, start_scale=1.0)  # noise is added to the image at its own scale
    space = NoiseSpace(layout.shape, layout.axes, grid.alphas, grid.sigmas)
    latent = isinstance(output, Tensor) and tuple(output.shape) == (1, *layout.loop_shape)
    return Probed(space, layout, grid, options, builder, latent)


def _extended(build: Builder, skipped: int, levels: tuple[float, ...]) -> Builder:
    """A builder of the same grid without its first points, and with extra ones at `levels`."""
    if not skipped and not levels:
        return build

    def extended(scheduler: Any, asked: Mapping[str, Any]) -> Grid:
        grid = build(scheduler, asked)
        left = replace(
            grid,
            timesteps=grid.timesteps[skipped:],
            alphas=grid.alphas[skipped:],
            sigmas=grid.sigmas[skipped:],
        )
        return with_levels(left, levels, scheduler)

    return extended
