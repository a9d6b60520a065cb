"""`probe`: what one call of a pipeline without steps shows of it."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samplers.base import NotDrivable, is_out_of_memory
from samplers.pipelines import denoisers
from samplers.pipelines.calls import PipelineCalls
from samplers.pipelines.grids import Builder, Grid, thinned, with_levels
from samplers.pipelines.layout import Layout, LayoutProbe
from samplers.pipelines.randn import global_states
from samplers.pipelines.view import parameters
from samplers.said import first_line
from samplers.space import NoiseSpace, check_levels


class Probed(NamedTuple):
    """A grid of a pipeline, how to ask for it again, and how noise enters and x leaves.

    Attributes:
        unfinished: the options by which x is asked for, undecoded where the pipeline can.
    """

    space: NoiseSpace
    layout: Layout
    grid: Grid
    options: dict[str, Any]
    builder: Builder
    latent_output: bool
    unfinished: dict[str, str]


class Probes:
    """What was found out about the grids of a pipeline, each by one call without steps."""

    def __init__(self, calls: PipelineCalls) -> None:
        self._calls = calls
        self._found: dict[tuple[int | None, tuple[float, ...], tuple[int, ...]], Probed] = {}

    def grid(
        self, prompt: str, steps: int | None = None, levels: Sequence[float] = (), points: Sequence[int] = ()
    ) -> Probed:
        """The noise space, latent layout and grid, asked once for each grid.

        Raises NotDrivable where the call shows none, ValueError where options fix the grid that `steps` would change.
        """
        if steps == self._calls.options.get("num_inference_steps"):
            steps = None
        key = (steps, check_levels(levels), tuple(points))
        if key not in self._found:
            self._found[key] = probe(self._calls, prompt, self._calls.with_steps(steps), *key[1:])
        return self._found[key]

    def known(self, grid: str) -> Probed | None:
        """What was found for the grid of this id; None for a grid that was never asked for."""
        return next((p for p in self._found.values() if p.space.id == grid), None)


class SliceProbe:
    """Watches `get_timesteps`, by which image-to-image pipelines leave out their first steps, in a call without steps.

    Attributes:
        skipped: how many are left out.
    """

    def __init__(self) -> None:
        self.skipped = 0

    def install(self, view: Any) -> None:
        """Shadow `get_timesteps` on the view, where the pipeline has it."""
        method = getattr(type(view), "get_timesteps", None)
        if method is not None:
            vars(view)["get_timesteps"] = partial(self._ask, view.scheduler, MethodType(method, view))

    def _ask(self, scheduler: Any, method: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, int]:
        """Its answer over the whole grid; the pipeline gets no steps, as for the rest of the call."""
        none, whole = scheduler.timesteps, scheduler.walk.grid.timesteps
        scheduler.timesteps = whole.to(none.device)
        bound = inspect.signature(method).bind(*args, **kwargs)
        if isinstance(bound.arguments.get("timesteps"), Tensor):  # handed out before, and as many as there are steps
            bound.arguments["timesteps"] = scheduler.timesteps
        if bound.arguments.get("num_inference_steps") == 0:  # where it was counted by the timesteps handed out
            bound.arguments["num_inference_steps"] = len(whole)
        left = method(*bound.args, **bound.kwargs)[0].cpu()
        scheduler.timesteps = none
        self.skipped = len(whole) - len(left)
        if not torch.equal(left, whole[self.skipped :]):
            raise NotDrivable("get_timesteps gives other timesteps than the last ones of the grid")
        if not len(left):
            raise ValueError(f"get_timesteps leaves none of {len(whole)} steps: raise strength, or the steps")
        return none, 1


@torch.no_grad()
def probe(
    calls: PipelineCalls, prompt: str, options: dict[str, Any], levels: tuple[float, ...], points: tuple[int, ...]
) -> Probed:
    """Call the pipeline once without steps. Raises NotDrivable where it fails, shows no grid, or takes no noise.

    Whose fault it was only a call with steps can tell. Out of memory is none of the pipeline's limits.
    """
    name = type(calls.pipe).__name__
    typed = "output_type" in parameters(calls.pipe)
    for unfinished in ({"output_type": "latent"}, {"output_type": calls.picture_type(options)}) if typed else ({},):
        generator = torch.Generator().manual_seed(0)
        layouts = LayoutProbe(type(calls.pipe), "latents" in parameters(calls.pipe), generator)
        slices, scheduler = SliceProbe(), calls.standing()

        def watch(view: Any, layouts: LayoutProbe = layouts, slices: SliceProbe = slices) -> None:
            layouts.install(view)
            slices.install(view)

        try:
            with layouts.watching(), torch.random.fork_rng():
                before = global_states()
                output = calls.call(scheduler, [prompt], options | unfinished, generators=[generator], prepare=watch)
                calls.draws_before |= not all(map(torch.equal, before, global_states()))
            break
        except (NotDrivable, denoisers.Busy):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            said = first_line(error)
            if "output" in said and unfinished == {"output_type": "latent"}:  # some have nothing but pictures
                continue
            raise NotDrivable(f"{name} cannot be called without steps ({said:.200})") from error
    layout = layouts.found
    if layout is None or scheduler.walk.grid is None:
        raise NotDrivable(f"{name} asked for no timesteps, or drew no noise, in a call")
    builder = _extended(calls.builder, slices.skipped, levels, points)
    grid = builder(calls.scheduler, scheduler.walk.asked)
    if layout.inlet == "noised":
        grid = replace(grid, start_scale=1.0)  # noise is added to the image at its own scale
    space = NoiseSpace(layout.shape, layout.axes, grid.alphas, grid.sigmas, layout.before or ())
    latent = isinstance(output, Tensor) and tuple(output.shape) == (1, *layout.loop_shape)
    return Probed(space, layout, grid, options, builder, latent, unfinished)


def _extended(build: Builder, skipped: int, levels: tuple[float, ...], points: tuple[int, ...]) -> Builder:
    """A builder of the same grid without its first points, with extra ones at `levels`, or with some `points` alone."""
    if not skipped and not levels and not points:
        return build

    def extended(scheduler: Any, asked: Mapping[str, Any]) -> Grid:
        grid = build(scheduler, asked)
        left = replace(
            grid, timesteps=grid.timesteps[skipped:], alphas=grid.alphas[skipped:], sigmas=grid.sigmas[skipped:]
        )
        return thinned(with_levels(left, levels, scheduler), points)

    return extended
