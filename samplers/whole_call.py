"""`WholeCallSampler`: candidates that are seeds of whole calls, for pipelines that take no noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from samplers import flow_matching
from samplers.base import Run, arrived, check_run
from samplers.calling import CallingSampler
from samplers.calls import PipelineCalls
from samplers.denoiser import clean_latent
from samplers.grids import whole_run
from samplers.guidance import estimated_rows
from samplers.images import as_images
from samplers.modular import as_pipeline
from samplers.options import call_options
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.steps_probe import count_steps
from samplers.view import parameters
from samplers.whole import check_whole, undisturbed

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
        super().__init__(PipelineCalls(pipe, call_options(pipe, options), whole_run))
        self._spaces: dict[int | None, SeedSpace] = {}
        self.limitation = reason
        self.rows_per_evaluation = estimated_rows(pipe, self._calls.options)

    def space(self, steps: int | None = None, levels: Sequence[float] = ()) -> NoiseSpace:
        """The space of seeds; a call that ends at its first denoiser evaluation tells how many there are."""
        if levels:
            raise ValueError(f"levels are points to stop at, and {self.limitation} allows whole runs only")
        if steps not in self._spaces:
            options = self._calls.with_steps(steps)
            count = count_steps(self._calls, options, self._prompts[0] if self._prompts else None)
            grid = flow_matching.grid(flow_matching.uniform_sigmas(count))
            self._spaces[steps] = SeedSpace((1,), ("seed",), *grid, reason=self.limitation)
        return self._spaces[steps]

    @torch.no_grad()
    def run(self, states: State, stop: int, *, rho: float | None = None, keep: Sequence[int] = ()) -> Run:
        """Call the pipeline once per row; x at the end are the images. See `Sampler.run`."""
        steps, space = self._space_of(states)
        check_run(space, states, stop, rho, keep)
        check_whole(self.limitation, (states.step, stop, space.end), keep)
        if rho is not None:
            raise ValueError(f"rho = {rho} needs the sampler's own steps, and {self.limitation}: leave it None")
        prompts = self._prompts_of(states)
        if stop == states.step:
            return Run(states, {k: states for k in keep}, 0)
        before, options = self.denoiser_rows, self._calls.with_steps(steps)
        images = torch.cat([self._call(states[i], prompts[i], options) for i in range(len(states))])
        final = arrived(states, space, stop, images, None, (None, 0.0))
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
        pixels = {"output_type": "pt"} if "output_type" in parameters(calls.pipe) else {}
        with undisturbed(row.recipes):
            output = calls.call(calls.own_scheduler(), [prompt], options=options | pixels, generators=generator)
        return as_images(output).cpu()

    def _space_of(self, states: State) -> tuple[int | None, NoiseSpace]:
        """The steps asked for and the space of the states; of the default where their grid is unknown."""
        known = ((steps, space) for steps, space in self._spaces.items() if space.id == states.grid)
        return next(known, (None, self.space()))
