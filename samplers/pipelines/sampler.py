"""`PipelineSampler`: a sampler over any diffusers pipeline, with no code per model family."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.base import Run, Sampler, check_run, clean_latent, joined, row_prompts
from samplers.pipelines import compiling, fingerprints, grids, prices
from samplers.pipelines.batch import CHANGING, BatchCall, undisturbed
from samplers.pipelines.calls import PipelineCalls, as_images
from samplers.pipelines.layout import Handed
from samplers.pipelines.options import (
    call_options,
    check_drivable,
    estimated_rows,
    index_keyed_options,
    warn_of_overrides,
)
from samplers.pipelines.probe import Probed, Probes
from samplers.pipelines.prompts import UnequalPrompts, any_prompt, check_prompt
from samplers.pipelines.view import as_pipeline
from samplers.said import warn
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Ancestral, Glass, Transitions, legs

KEPT = "scheduler='keep'"


class CallingSampler(Sampler):
    """A sampler over calls of a diffusers pipeline; how rows are run is the subclass's."""

    def __init__(self, calls: PipelineCalls) -> None:
        self._calls = calls
        self._prompts: list[str] = []

    @property
    def denoiser_rows(self) -> int:  # type: ignore[override]
        """Rows that went through the denoiser modules so far, those of calls that failed included."""
        return self._calls.denoiser_rows

    @property
    def compile_seconds(self) -> float:  # type: ignore[override]
        """What compiling the denoiser took so far."""
        return compiling.seconds_of(self._calls.modules)

    @property
    def on_step(self) -> Callable[[], None] | None:
        """Called before each denoiser evaluation; see `Sampler`."""
        return self._calls.on_step

    @on_step.setter
    def on_step(self, told: Callable[[], None] | None) -> None:
        self._calls.on_step = told

    @property
    def asked_steps(self) -> int | None:  # type: ignore[override]
        """The `num_inference_steps` of a call."""
        return self._calls.asked_steps

    @property
    def options(self) -> Mapping[str, Any]:  # type: ignore[override]
        """Arguments of the pipeline's call."""
        return self._calls.options

    def _check_whole(self, levels: Sequence[float], points: Sequence[int]) -> None:
        """Refuse grids with other points than the pipeline's own where only whole runs are possible."""
        if (levels or points) and not self.can_stop:
            what = "levels are points to stop at" if levels else "steps are left out of its grid"
            raise ValueError(f"{what}, and {self.limitation} allows whole runs only")

    @property
    def text_encodings(self) -> int:  # type: ignore[override]
        """How often a prompt given to `condition` was encoded: at most once each until `close`."""
        return sum(prompt in self._prompts for prompt in self._calls.memo.encoded)

    def condition(self, prompt: str) -> int:
        """The index of a prompt; it is encoded, once, when first run.

        A class-conditional pipeline takes the name of a label, or its number as text.
        """
        check_prompt(self._calls.pipe, prompt)
        if prompt not in self._prompts:
            self._prompts.append(prompt)
        return self._prompts.index(prompt)

    def close(self) -> None:
        """Release the denoiser, forget the encodings and, under model offload, free its hooks."""
        self._calls.close()

    def __enter__(self) -> "CallingSampler":
        self._calls.hold()  # so that no search of another thread can start on it
        return self

    def __exit__(self, *exception: object) -> None:
        self._calls.release()

    def _checked(
        self, space: NoiseSpace, states: State, stop: int, transition: Transitions, keep: Sequence[int]
    ) -> list[str]:
        """One prompt per row. Raises ValueError for a run that is malformed, or that this sampler doesn't do."""
        check_run(space, states, stop, keep)
        end = space.end
        ends = (states.step, stop) in ((0, end), (end, end)) and all(k in (0, end) for k in keep)
        if not self.can_stop and not ends:
            raise ValueError(
                f"{self.limitation} allows whole runs from 0 to {end} only, got {states.step} to {stop}, "
                f"keep={list(keep)}"
            )
        if transition is not None and not self.can_mix:
            raise ValueError(f"{transition} needs the sampler's own steps, and {self.limitation}: leave it None")
        return row_prompts(self._prompts, states)


class PipelineSampler(CallingSampler):
    """Drives a diffusers pipeline from any grid point to any later one, on shallow copies of it.

    The user's pipeline, scheduler, hooks and the global random state stay as they are, also after errors.
    Steps are first order: DDIM or flow matching on the grid the pipeline's own scheduler would walk. Each
    step's x is cast to the pipeline's dtype, as the plain pipeline does.

    Attributes:
        rows_together: whether the rows of a run may share calls; where a row in a batch isn't the row alone, no.

    Example:
        >>> sampler = PipelineSampler(pipe, steps=30, guidance=5.0, negative_prompt="blurry")
        >>> noise = sampler.space().fresh([0, 1, 2], sampler.condition("a red cube"))
        >>> with sampler:
        ...     images = sampler.decode(sampler.run(noise, sampler.space().end).final)
    """

    def __init__(
        self,
        pipe: Any,
        *,
        steps: int | None = None,
        guidance: float | int | None = None,
        guidance_argument: str | None = None,
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        scheduler: Literal["first-order", "keep"] = "first-order",
        **call_kwargs: Any,
    ) -> None:
        """Wrap `pipe`; nothing is run or moved yet.

        Args:
            pipe: a `DiffusionPipeline` object, or a `ModularPipeline` without a guider, loaded and placed as its
                user likes.
            steps: `num_inference_steps`; None for the pipeline's default, as for all that follow.
            guidance: the value of the guidance argument.
            guidance_argument: its name: "guidance_scale", or "true_cfg_scale" where the pipeline has both.
            negative_prompt: one for all prompts.
            height: of the images, in pixels.
            width: of the images, in pixels.
            eta: DDIM's eta for runs without a transition: 0 deterministic, 1 ancestral. Flow grids understand it too.
            scheduler: "first-order" replaces the user's scheduler by its first-order rule on the same grid;
                "keep" runs the user's own, whole runs only.
            call_kwargs: anything else the pipeline's call takes, passed through.

        Raises:
            TypeError: `pipe` is no pipeline, or does not take one of the arguments.
            NotDrivable: a pipeline or scheduler that cannot be taken step by step (a ValueError).
            ValueError: an option the sampler owns, an eta outside [0, 1], or a pipeline without a denoiser.
        """
        if scheduler not in ("first-order", "keep"):
            raise ValueError(f"scheduler must be 'first-order' or 'keep', got {scheduler!r}")
        self._own = Ancestral(eta)
        pipe = as_pipeline(pipe)
        options = call_options(
            pipe,
            steps=steps,
            guidance=guidance,
            guidance_argument=guidance_argument,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            **call_kwargs,
        )
        check_drivable(pipe, options, kept=scheduler == "keep")
        warn_of_overrides(pipe)
        self._keep_scheduler = scheduler == "keep"
        self.can_mix = not self._keep_scheduler
        super().__init__(PipelineCalls(pipe, options, grids.whole_run if self._keep_scheduler else grids.build))
        self._probes = Probes(self._calls)
        self._caches = fingerprints.step_caches(self._calls.modules)
        index_keyed = ", ".join(index_keyed_options(pipe, call_kwargs))
        kept = KEPT if self._keep_scheduler else ""
        self.limitation = kept or index_keyed or ("a step cache" if self._caches else "")
        self.can_stop = not self.limitation
        self.rows_together = True
        self._said = False
        self.rows_per_evaluation = estimated_rows(pipe, options)
        if self._caches:
            warn("a step cache is enabled: it may couple the rows of a batch; whole runs only")
        if not self._keep_scheduler:
            grids.check_replaceable(self._calls.scheduler)
        elif eta:
            raise ValueError(f"eta = {eta} has no effect with scheduler='keep': set up the pipeline's own")

    def space(self, steps: int | None = None, levels: Sequence[float] = (), points: Sequence[int] = ()) -> NoiseSpace:
        """The noise space; asking for a grid first runs the pipeline once without steps, to see it.

        Raises ValueError for levels and points where only whole runs are possible, for levels noisier than the
        grid's start, and for `steps` where the options give sigmas or timesteps.
        """
        self._check_whole(levels, points)
        if not self._said and (replaced := self.replaced):
            self._said = True
            warn(f"{replaced}; scheduler='keep' runs it whole, as random and zero-order search can")
        return self._probes.grid(self._first_prompt, steps, levels, points).space

    def look(self) -> Probed:
        """What a call without steps shows of the default grid; called at most once. Raises NotDrivable."""
        return self._probes.grid(self._first_prompt)

    @property
    def pipe(self) -> Any:
        """The pipeline."""
        return self._calls.pipe

    def kind(self) -> dict[str, Any]:
        """What decides how the pipeline is driven, but for its weights and prompts: its class, options, scheduler."""
        scheduler, cls = self._calls.scheduler, type(self.pipe)
        modules = self._calls.denoisers
        return {
            "pipeline": f"{cls.__module__}.{cls.__qualname__}",
            "scheduler": [type(scheduler).__name__, {k: repr(v) for k, v in scheduler.config.items()}],
            "kept": self._keep_scheduler,
            "options": self._calls.options,
            "denoisers": {name: repr(getattr(module, "config", None)) for name, module in modules.items()},
            "dtype": str(self.look().layout.dtype),
            "device": self._calls.device.type,
        }

    @property
    def replaced(self) -> str:
        """What is said where the steps aren't those of the pipeline's own scheduler; "" where they are."""
        if self._keep_scheduler or self.look().grid.own:
            return ""
        name, rule = type(self._calls.scheduler).__name__, "deterministic rule on the same grid"
        return f"{name} is replaced by its first-order {rule}, whose pictures are others"

    @property
    def own_steps(self) -> bool:  # type: ignore[override]
        """Whether the pipeline's own scheduler would make the same steps."""
        return not self.replaced

    @cached_property
    def look_price(self) -> float | None:  # type: ignore[override]
        """See `Sampler`; counted when it is first asked for, without NFE. None where nothing can be looked at."""
        # Of no prompt that is searched for: texts of other lengths would give other prices.
        return prices.look_price(self._calls, self.look(), any_prompt(self.pipe)) if self.can_stop else None

    def look_price_by(self, decoder: torch.nn.Module) -> float | None:
        """See `Sampler`."""
        return prices.look_price(self._calls, self.look(), any_prompt(self.pipe), decoder) if self.can_stop else None

    @property
    def plain_seeds(self) -> bool:  # type: ignore[override]
        """Whether the plain pipeline, given the seed of a row from `fresh`, draws the row's picture."""
        drawn = self._calls.draws or self._calls.draws_before
        return self.look().layout.before is not None and not self.replaced and not drawn

    def kept(self) -> "PipelineSampler":
        """The same with the pipeline's own scheduler; they share what was encoded."""
        kept = PipelineSampler(self._calls.pipe, scheduler="keep", **self._calls.options)
        kept._calls.memo, kept._prompts = self._calls.memo, self._prompts
        return kept

    @torch.no_grad()
    def run(self, states: State, stop: int, *, transition: Transitions = None, keep: Sequence[int] = ()) -> Run:
        """Advance the rows to `stop`; see `Sampler.run`.

        Rows whose prompts have encodings of unequal shapes run in groups. Raises ValueError for a partial run
        where `can_stop` is False, RuntimeError in the middle of another search's call.
        """
        probed = self._probed(states)
        prompts = self._checked(probed.space, states, stop, transition, keep)
        run = legs(self._own if transition is None else transition, states.step, stop, keep)
        if any(isinstance(leg.transition, Glass) for leg in run):
            self._check_off_grid()
        if stop == states.step:
            return Run(states, {k: states for k in keep}, 0)
        if len(states) > 1 and not self.rows_together:
            alone = [[row] for row in range(len(states))]
            return joined([self.run(states[g], stop, transition=transition, keep=keep) for g in alone], alone)
        if self._keep_scheduler and len(states) > 1 and self._calls.draws is not False:
            # A scheduler that draws from the global generator gives a row its own noise only alone; one row tells.
            rows = list(range(len(states)))
            groups = [[row] for row in rows] if self._calls.draws else [rows[:1], rows[1:]]
            return joined([self.run(states[g], stop, keep=keep) for g in groups], groups)
        try:
            kept = self._keep_scheduler
            result = BatchCall(self._calls, probed, states, prompts, stop, keep, run, kept).run()
        except UnequalPrompts as unequal:
            groups = unequal.groups
            result = joined([self.run(states[g], stop, transition=transition, keep=keep) for g in groups], groups)
        nfe = len(states) * sum(leg.evaluations for leg in run)
        self.rows_per_evaluation = -(-result.denoiser_rows // nfe)
        return result

    @torch.no_grad()
    def decode(self, states: State) -> Float[Tensor, " batch *frames 3 height width"]:
        """Images, or clips, of x at the end, of x0 before it, by the pipeline's own decoder: a call without steps."""
        if len(states) > 1 and not self.rows_together:
            return torch.cat([self.decode(states[row]) for row in range(len(states))])
        probed = self._probed(states)
        latent = clean_latent(states, probed.space)
        prompts = row_prompts(self._prompts, states)[:1] * len(states)  # without steps any prompt will do
        handed = Handed(probed.layout, latent)
        options = probed.options | {"output_type": self._calls.picture_type(probed.options)}
        with undisturbed(states.recipes) if self._calls.draws_before else nullcontext():
            output = self._calls.call(self._calls.standing(), prompts, options, handed=handed)
        return as_images(output, len(states))

    def describe(self) -> dict[str, Any]:
        """Everything that changes results on the default grid, as plain JSON; reads a sample of the weights."""
        probed = self.look()
        own = {
            "sampler": type(self).__name__,
            "rule": "kept" if self._keep_scheduler else repr(probed.grid.rule),
            "eta": float(self._own.eta),
            "dtype": str(probed.layout.dtype).removeprefix("torch."),
        }
        return own | self._calls.describe(probed.space)

    def _check_off_grid(self) -> None:
        """Refuse `Glass`, whose evaluations aren't steps, where something counts steps or changes x between them."""
        changing = ", ".join(sorted(CHANGING & self._calls.options.keys()))
        if changing or not self.can_stop:
            why = f"{changing} changes x between them" if changing else f"{self.limitation} counts steps"
            raise ValueError(f"Glass evaluates the model off the steps of its grid, and {why}: take Mix or Ancestral")

    @property
    def _first_prompt(self) -> str:
        return self._prompts[0] if self._prompts else any_prompt(self._calls.pipe)

    def _probed(self, states: State) -> Probed:
        """Of the grid of the states; of the default grid, which then refuses them, where it is unknown."""
        return self._probes.known(states.grid) or self.look()
