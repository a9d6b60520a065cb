"""`DenoiserSampler`: a sampler over any callable, for research models and closed-form tests."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.base import Run, Sampler, arrived, check_run, clean_latent, row_prompts
from samplers.crossing import crossing, curve_of
from samplers.ddim import DDIM
from samplers.flow_matching import FlowMatching
from samplers.rule import Point, StepRule
from samplers.space import SAME, NoiseSpace, check_levels, check_points, sent, step_noise
from samplers.state import State
from samplers.transition import Ancestral, Transitions, legs

Denoise = Callable[[Tensor, float, float, list[str]], Tensor]
SpaceMaker = Callable[[int | None, tuple[float, ...]], NoiseSpace]
DenoiserPrediction = Literal["x0", "sample", "epsilon", "v_prediction", "velocity"]


class DenoiserSampler(Sampler):
    """Samples from `fn(x, alpha, sigma, prompts) -> model output` over a given noise space.

    Example:
        >>> space = NoiseSpace((3, 8, 8), ("channel", "height", "width"), *flow_matching.grid([1.0, 0.5]))
        >>> sampler = DenoiserSampler(lambda x, alpha, sigma, prompts: 0 * x, space, prediction="x0")
        >>> run = sampler.run(space.fresh([0, 1], sampler.condition("grey")), space.end)
        >>> sampler.decode(run.final).mean()
        tensor(0.5000)
    """

    can_stop = True
    rows_per_evaluation = 1

    def __init__(
        self,
        fn: Denoise,
        space: NoiseSpace | SpaceMaker,
        *,
        prediction: DenoiserPrediction = "x0",
        rule: StepRule | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        eta: float = 0.0,
        name: str = "denoiser",
        look_price: float | None = None,
    ) -> None:
        """Wrap `fn`.

        Args:
            fn: the denoiser; x is float32 on the device of the states, one prompt per row.
            space: the noise space, or a function (steps, levels) -> NoiseSpace for a sampler of several
                grids; it gets (None, ()) for the default one.
            prediction: what `fn` returns; "x0" and "sample" are the same.
            rule: the step rule, in place of the one that `prediction` implies.
            decode: from clean x to images; where None, x of shape [3, height, width] is read as images in
                [-1, 1].
            eta: DDIM's eta for runs without a transition: 0 deterministic, 1 ancestral.
            name: recorded by `describe`.
            look_price: what `decode` costs, in calls of `fn` for a row; None where that isn't known.

        Raises:
            ValueError: a look_price below 0, or an eta outside [0, 1].
        """
        if look_price is not None and not look_price >= 0:
            raise ValueError(f"look_price is {look_price}; expected evaluations, 0 or more, or None where nobody knows")
        self.look_price = look_price
        self._fn, self._decode, self._own, self._name = fn, decode, Ancestral(eta), name
        self._prompts: list[str] = []
        self._rule = rule or _rule(prediction)
        self._make = only(space) if isinstance(space, NoiseSpace) else space
        self._spaces: dict[str, NoiseSpace] = {}
        self._default = self.space()

    @property
    def text_encodings(self) -> int:  # type: ignore[override]
        """Distinct prompts seen."""
        return len(self._prompts)

    def space(self, steps: int | None = None, levels: Sequence[float] = (), points: Sequence[int] = ()) -> NoiseSpace:
        """The noise space given, or the one that the function given makes; see `Sampler.space`."""
        found = self._make(steps, check_levels(levels))
        if points:
            at = (*check_points(points, found.end), found.end)
            found = replace(found, alphas=tuple(found.alphas[i] for i in at), sigmas=tuple(found.sigmas[i] for i in at))
        self._rule.check(Point(found.alphas[0], found.sigmas[0]))
        return self._spaces.setdefault(found.id, found)

    def condition(self, prompt: str) -> int:
        """The index of a prompt."""
        if prompt not in self._prompts:
            self._prompts.append(prompt)
        return self._prompts.index(prompt)

    @torch.no_grad()
    def run(self, states: State, stop: int, *, transition: Transitions = None, keep: Sequence[int] = ()) -> Run:
        """Advance the rows to `stop`; see `Sampler.run`."""
        space = self._space_of(states)
        check_run(space, states, stop, keep)
        run = legs(self._own if transition is None else transition, states.step, stop, keep)
        x, x0, points = states.x, states.x0, {states.step: states}
        prompts = row_prompts(self._prompts or [""], states)  # without prompts, any condition 0
        streams = [recipe.stream for recipe in states.recipes]
        for leg in run:
            here, there = (Point(space.alphas[i], space.sigmas[i]) for i in (leg.start, leg.stop))
            taken = crossing(self._rule, leg, here, there, curve_of(space.alphas, space.sigmas))
            z = sent(step_noise(streams, leg.start, space.shape), x.device).to(x.dtype) if taken.rho < 1 else None
            for point in taken.points:
                if self.on_step is not None:
                    self.on_step()
                self.denoiser_rows += len(x)
                output = self._fn(x, point.alpha, point.sigma, prompts)
                x, x0 = taken.step(x, output, z)
            if leg.stop in (*keep, stop):
                points[leg.stop] = arrived(states, space, leg.stop, x, x0, run)
        rows = len(states) * sum(leg.evaluations for leg in run)
        return Run(points[stop], {k: points[k] for k in keep}, rows)

    @torch.no_grad()
    def decode(self, states: State) -> Float[Tensor, " batch *frames 3 height width"]:
        """Images of x at the end, of x0 before it."""
        latent = clean_latent(states, self._space_of(states))
        if self._decode is not None:
            return self._decode(latent)
        if latent.ndim != 4 or latent.shape[1] != 3:
            raise ValueError(
                f"cannot show rows of shape {self._default.shape} as images: pass decode= to DenoiserSampler"
            )
        return (latent / 2 + 0.5).clamp(0, 1)

    def describe(self) -> dict[str, Any]:
        """Name, rule, default grid and eta; the weights behind `fn` are the caller's to name."""
        return {
            "sampler": type(self).__name__,
            "name": self._name,
            "rule": repr(self._rule),
            "grid": self._default.id,
            "steps": self._default.end,
            "shape": list(self._default.shape),
            "eta": float(self._own.eta),
        }

    def _space_of(self, states: State) -> NoiseSpace:
        return self._spaces.get(states.grid, self._default)


def only(space: NoiseSpace) -> SpaceMaker:
    """A maker that hands out `space` alone; ValueError where it has not the steps or levels asked for."""

    def make(steps: int | None, levels: tuple[float, ...]) -> NoiseSpace:
        present = [space.noise_level(i) for i in range(space.end + 1)]
        absent = [v for v in levels if all(abs(p - v) > SAME for p in present)]
        if steps not in (None, space.end) or absent:
            asked = f"levels {absent}" if absent else f"{steps} steps"
            raise ValueError(
                f"this sampler has one grid of {space.end} steps, asked for {asked}: pass DenoiserSampler a "
                "function (steps, levels) -> NoiseSpace for its space"
            )
        return space

    return make


def _rule(prediction: DenoiserPrediction) -> StepRule:
    if prediction == "velocity":
        return FlowMatching()
    return DDIM("sample" if prediction == "x0" else prediction)
