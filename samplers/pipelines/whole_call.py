"""`WholeCallSampler`: candidates that are seeds of whole calls, for pipelines that take no noise."""

import math
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from samplers import flow_matching
from samplers.base import Run, arrived, clean_latent
from samplers.pipelines import denoisers
from samplers.pipelines.batch import undisturbed
from samplers.pipelines.calls import PipelineCalls, as_images
from samplers.pipelines.grids import whole_run
from samplers.pipelines.options import call_options, estimated_rows
from samplers.pipelines.prompts import any_prompt
from samplers.pipelines.sampler import CallingSampler
from samplers.pipelines.view import as_pipeline, parameters
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Deterministic, Transitions, legs

SEEDS_ONLY = "a seed of a whole call"


@dataclass(frozen=True)
class SeedSpace(NoiseSpace):
    """A space of seeds: `fresh` alone makes candidates, and its x says nothing but which seed it is."""

    reason: str = SEEDS_ONLY

    def neighbour(self, state: State, seeds: Sequence[int], cosine: float) -> State:
        """Refuse."""
        self._refuse("neighbour")

    def pcn(self, state: State, seeds: Sequence[int], beta: float) -> State:
        """Refuse."""
        self._refuse("pcn")

    def mean(self, parents: Sequence[State], weights: Sequence[float] | None = None) -> State:
        """Refuse."""
        self._refuse("mean")

    def crossover(
        self, first: State, second: State, seeds: Sequence[int], by: str = "region", share: float = 0.5
    ) -> State:
        """Refuse."""
        self._refuse("crossover")

    def renoise(self, state: State, to: int, seeds: Sequence[int]) -> State:
        """Refuse."""
        self._refuse("renoise")

    def branch(self, state: State, seeds: Sequence[int]) -> State:
        """Refuse."""
        self._refuse("branch")

    def _refuse(self, move: str) -> NoReturn:
        raise ValueError(f"{move} needs noise that can be handed in, and a candidate here is a seed: {self.reason}")


class WholeCallSampler(CallingSampler):
    """Runs a pipeline as it is, one call for each candidate: `pipe(generator=torch.Generator().manual_seed(seed))`.

    For pipelines that cannot be handed noise; random search is what they allow. The user's pipeline stays as it
    is. One NFE is one step of its scheduler.

    Example:
        >>> sampler = WholeCallSampler(pipe, steps=30)
        >>> seeds = sampler.space().fresh([0, 1, 2], sampler.condition("a red cube"))
        >>> images = sampler.decode(sampler.run(seeds, sampler.space().end).final)
    """

    can_stop = False
    can_move = False
    can_mix = False

    def __init__(self, pipe: Any, *, reason: str = SEEDS_ONLY, **options: Any) -> None:
        """Wrap `pipe`; nothing is run or moved yet.

        Args:
            pipe: a `DiffusionPipeline` object.
            reason: why it is not searched in other ways, for messages.
            options: as of `PipelineSampler`: steps, guidance, guidance_argument, negative_prompt, height, width,
                and whatever else the pipeline's call takes.

        Raises:
            TypeError: `pipe` is no pipeline, or does not take one of the options.
            ValueError: an option the sampler owns, or a pipeline without a denoiser.
        """
        pipe = as_pipeline(pipe)
        super().__init__(PipelineCalls(pipe, call_options(pipe, **options), whole_run))
        self._spaces: dict[int | None, SeedSpace] = {}
        self.limitation = reason
        self.rows_per_evaluation = estimated_rows(pipe, self._calls.options)

    def space(self, steps: int | None = None, levels: Sequence[float] = (), points: Sequence[int] = ()) -> NoiseSpace:
        """The space of seeds; a call that ends at its first denoiser evaluation tells how many there are."""
        self._check_whole(levels, points)
        if steps not in self._spaces:
            options = self._calls.with_steps(steps)
            count = count_steps(self._calls, options, self._prompts[0] if self._prompts else None)
            grid = flow_matching.grid(flow_matching.uniform_sigmas(count))
            self._spaces[steps] = SeedSpace((1,), ("seed",), *grid, reason=self.limitation)
        return self._spaces[steps]

    @torch.no_grad()
    def run(self, states: State, stop: int, *, transition: Transitions = None, keep: Sequence[int] = ()) -> Run:
        """Call the pipeline once per row; x at the end are the images. See `Sampler.run`."""
        steps, space = self._space_of(states)
        prompts = self._checked(space, states, stop, transition, keep)
        if stop == states.step:
            return Run(states, {k: states for k in keep}, 0)
        before, options = self.denoiser_rows, self._calls.with_steps(steps)
        images = torch.cat([self._call(states[i], prompts[i], options) for i in range(len(states))])
        final = arrived(states, space, stop, images, None, legs(Deterministic(), 0, stop))
        rows = self.denoiser_rows - before
        self.rows_per_evaluation = math.ceil(rows / (len(states) * stop))
        points = {0: states, stop: final}
        return Run(final, {k: points[k] for k in keep}, rows)

    def decode(self, states: State) -> Float[Tensor, " batch *frames 3 height width"]:
        """The images that the calls gave; ValueError before the end."""
        return clean_latent(states, self._space_of(states)[1])

    def describe(self) -> dict[str, Any]:
        """Everything that changes results, as plain JSON; reads a sample of the weights."""
        own = {"sampler": type(self).__name__, "rule": "kept", "limitation": self.limitation}
        return own | self._calls.describe(self.space())

    def _call(self, row: State, prompt: str, options: dict[str, Any]) -> Tensor:
        seed = row.recipes[0].seed
        if seed is None:
            raise ValueError(f"a candidate here is a seed ({self.limitation}), got the recipe {row.recipes[0]}")
        calls = self._calls
        generator = torch.Generator().manual_seed(seed)
        pixels = {"output_type": calls.picture_type(options)} if "output_type" in parameters(calls.pipe) else {}
        with undisturbed(row.recipes):
            output = calls.call(calls.own_scheduler(), [prompt], options=options | pixels, generators=generator)
        return as_images(output, 1).cpu()

    def _space_of(self, states: State) -> tuple[int | None, NoiseSpace]:
        """The steps asked for and the space of the states; of the default where their grid is unknown."""
        known = ((steps, space) for steps, space in self._spaces.items() if space.id == states.grid)
        return next(known, (None, self.space()))


class Reached(BaseException):
    """The first denoiser evaluation; a BaseException, so that no pipeline swallows it. Never leaves this file."""


def count_steps(calls: PipelineCalls, options: dict[str, Any], prompt: str | None) -> int:
    """Evaluations of one call: what the pipeline itself counted, else the timesteps that it set its scheduler.

    A pipeline that did neither is believed to take `num_inference_steps`: what an earlier call left on the user's
    pipeline and scheduler says nothing. Raises RuntimeError in the middle of another search's call.
    """
    views: list[Any] = []
    scheduler = calls.own_scheduler()
    before = getattr(scheduler, "timesteps", None)

    def prepare(view: Any) -> None:
        vars(view).pop("_num_timesteps", None)
        views.append(view)

    me = threading.get_ident()

    def stop(module: Any, args: Any, kwargs: Any) -> None:
        if threading.get_ident() == me:  # a plain call in another thread claims nothing
            raise Reached

    with ExitStack() as hooks:
        hooks.enter_context(
            denoisers.claimed(calls.modules, calls, calling=True)
        )  # first: `stop` would end another's forwards
        for module in calls.modules:
            hooks.callback(module.register_forward_pre_hook(stop, with_kwargs=True, prepend=True).remove)
        hooks.enter_context(torch.random.fork_rng())
        try:
            calls.call(scheduler, [any_prompt(calls.pipe) if prompt is None else prompt], options, prepare=prepare)
        except Reached:
            pass
    counted = getattr(views[0], "_num_timesteps", None)
    if isinstance(counted, int) and counted > 0:
        return counted
    timesteps = getattr(scheduler, "timesteps", None)
    if timesteps is not None and timesteps is not before:
        return len(timesteps)
    default = parameters(calls.pipe).get("num_inference_steps")
    return int(options.get("num_inference_steps") or (default.default if default else 1))
