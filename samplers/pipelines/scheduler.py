"""`SearchScheduler`: what a pipeline gets for a scheduler, to walk any slice of its grid by our rules."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from samplers.base import NotDrivable
from samplers.crossing import Crossing, crossing, curve_of
from samplers.pipelines.grids import Builder, Grid, build, told_between, whole_run
from samplers.rule import Point
from samplers.space import sent
from samplers.transition import Deterministic, Leg, legs

COPIES = "this pipeline copies its scheduler to step several tensors at once, which cannot be stopped or forked yet"


@dataclass
class Walk:
    """One slice of a grid to walk, and what was seen on the way.

    Attributes:
        start: the first grid point.
        stop: the last; equal to `start` for a call without steps (to probe, or to decode).
        injected: the x handed to the pipeline, in the layout and dtype of its loop; compared at the first
            step.
        legs: the transitions that make up the slice; () for the ODE.
        noise: the fresh noise of one that starts at a grid point, in the layout of the loop, float32.
        keep: grid points whose x and x0 are recorded.
        seen: grid point -> (x, x0), float32, in the layout of the loop.
        grid: set once the pipeline has asked for timesteps.
        asked: with which arguments.
        pure: which rows are pure noise, to be added to the pipeline's image latents; None for none.
        pack: from the drawn layout to the loop's.
        noised: whether the pipeline has added the noise handed in to its image, or has none to add it to.
    """

    start: int
    stop: int
    injected: Tensor | None = None
    legs: tuple[Leg, ...] = ()
    noise: Callable[[int], Tensor] | None = None
    keep: frozenset[int] = frozenset()
    seen: dict[int, tuple[Tensor, Tensor | None]] = field(default_factory=dict)
    grid: Grid | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    pure: Tensor | None = None
    pack: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    noised: bool = False


class StepOutput(dict[str, Any]):
    """What `step` returns with `return_dict=True`: fields by name, by attribute or by position."""

    def __getattr__(self, name: str) -> Any:
        """A field by name."""
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __getitem__(self, key: Any) -> Any:
        """A field by name or position."""
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)


class SearchScheduler:
    """A one-step scheduler over a slice of the user's grid: no scale, no history; it records what passes.

    Everything a pipeline may ask that is not listed here (`config`, `alphas_cumprod`, ...) is read from a
    copy of the user's own scheduler.
    """

    order = 1
    init_noise_sigma = 1.0

    def __init__(self, user: Any, walk: Walk, builder: Builder = build) -> None:
        self._user, self.walk, self._build = user, walk, builder
        self.config = user.config
        self._crossings: list[tuple[Leg, Crossing]] = []  # those that aren't done
        self._x0: Tensor | None = None
        self.num_inference_steps: int | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The user's class: pipelines choose paths by `isinstance` of their scheduler (HiDream, EasyAnimate)."""
        return type(self._user)

    def __getattr__(self, name: str) -> Any:
        """What is not here, from the copy of the user's scheduler."""
        if name.startswith("__") or name == "_user":
            raise AttributeError(name)
        return getattr(self._user, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SearchScheduler":
        """Refuse to be copied, as a copy's steps would not be seen; but where the user's own steps are kept."""
        if self._build is whole_run:
            return SearchScheduler(self._user, Walk(0, 0), whole_run)
        raise NotDrivable(COPIES, keep=True)

    def __len__(self) -> int:
        """The number of training timesteps, as diffusers' schedulers answer."""
        return int(self.config.num_train_timesteps)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the whole grid as the user's scheduler would, then slice it."""
        asked = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas, "mu": mu}
        self.walk.asked = asked
        self.walk.grid = grid = self._build(self._user, asked)
        curve = curve_of(grid.alphas, grid.sigmas)
        self._crossings = [
            (leg, crossing(grid.rule, leg, _point(grid, leg.start), _point(grid, leg.stop), curve))
            for leg in self.walk.legs or legs(Deterministic(), self.walk.start, self.walk.stop)
        ]
        self._x0 = None
        told = [grid.timesteps[:0]]
        for leg, one in self._crossings:
            told += [grid.timesteps[leg.start : leg.start + 1], told_between(grid, one.points[1:], self._user)]
        self.timesteps = torch.cat(told).to(device)
        passed = [point.sigma for _, one in self._crossings for point in one.points]
        self.sigmas = torch.tensor([*passed, grid.sigmas[self.walk.stop]])  # on the CPU: loops read single entries
        self.num_inference_steps = len(passed)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Nothing: the slice starts where the walk does."""

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The sample as it is: x is variance-preserving."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """Image latents with noise, by the grid's own scales (the user's scheduler may add it to VE latents).

        The first time in a call this is how x enters: pure noise is added to the image at the walk's start; a
        row that is past that is handed in as `noise`, and stays as it is.
        """
        walk, grid = self.walk, self.walk.grid
        assert grid is not None
        if walk.noised:  # later blending, at the timestep asked for
            asked = torch.as_tensor(timesteps).flatten()[0].to(grid.timesteps)
            point = _point(grid, int((grid.timesteps - asked).abs().argmin()))
            return (point.alpha * original_samples.float() + point.sigma * noise.float()).to(noise.dtype)
        walk.noised = True
        if walk.pure is None:
            return noise
        alpha, sigma = _point(grid, walk.start)
        pure = walk.pure.to(noise.device).reshape(-1, *[1] * (noise.ndim - 1))
        mixed = (alpha * original_samples.float() + sigma * noise.float()).to(noise.dtype)
        mixed = torch.where(pure, mixed, noise)
        walk.injected = walk.pack(mixed)
        return mixed

    def scale_noise(self, sample: Tensor, timestep: Any = None, noise: Tensor | None = None) -> Tensor:
        """`add_noise`, as flow-matching schedulers name it."""
        assert noise is not None
        return self.add_noise(sample, noise, timestep)

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        generator: Any = None,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> Any:
        """One step of the walk's rule, computed in float32 and returned in the dtype of `sample`.

        `eta` and `generator` are accepted because pipelines pass them; the walk's own transitions and noise count.
        """
        prev, x0 = self._advance(model_output, sample)
        prev, x0 = prev.to(sample.dtype), x0.to(sample.dtype)
        if not return_dict:
            return prev, x0
        return StepOutput(prev_sample=prev, pred_original_sample=x0, denoised=x0)

    def _advance(self, model_output: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        walk = self.walk
        leg, taken = self._crossings[0]
        rows = len(sample) if walk.injected is None else len(walk.injected)
        halves = 2 if len(sample) == 2 * rows else 1  # some pipelines keep both guidance halves; they are equal
        if model_output.shape[1] == 2 * sample.shape[1]:  # the second half of the channels is a learned variance
            model_output = model_output[:, : sample.shape[1]]
        x, output = sample[:rows].float(), model_output[:rows].float()
        if not taken.begun:
            self._arrive(leg.start, sample[:rows])
        fresh = taken.rho < 1 and not taken.begun
        z = sent(walk.noise(leg.start), x.device) if fresh and walk.noise is not None else None
        following, x0 = taken.step(x, output, z)
        if taken.done:
            del self._crossings[0]
            self._x0 = x0
            if leg.stop == walk.stop:
                walk.seen[leg.stop] = (following.to(sample.dtype).float().clone(), x0)
        return torch.cat([following] * halves), torch.cat([x0] * halves)

    def _arrive(self, at: int, sample: Tensor) -> None:
        """Check x at the first step; record it where asked, as the loop holds it now."""
        walk = self.walk
        if at == walk.start and walk.injected is not None:
            check_injected(sample, walk.injected)
        elif at in walk.keep and self._x0 is not None:
            walk.seen[at] = (sample.float().clone(), self._x0)


def check_injected(sample: Tensor, injected: Tensor, scale: float = 1.0) -> None:
    """Raise NotDrivable unless the loop starts from the x that was handed to the pipeline."""
    expected = (injected * scale).to(sample.dtype)
    if sample.shape != injected.shape or not torch.equal(sample.nan_to_num(), expected.nan_to_num()):
        raise NotDrivable(
            f"the pipeline changed the latents it was given (shape {tuple(injected.shape)}) before its first "
            f"step (shape {tuple(sample.shape)})"
        )


def _point(grid: Grid, at: int) -> Point:
    return Point(grid.alphas[at], grid.sigmas[at])
