"""`Sampler`: what a search needs of a diffusion model, and nothing else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.rule import Batch
from samplers.space import NoiseSpace
from samplers.state import State
from samplers.transition import Leg, Transitions


class NotDrivable(ValueError):
    """A pipeline or scheduler that a sampler cannot take grid point by grid point.

    Attributes:
        reason: why, in a few words.
        remedy: what can still be done.
        keep: whether `scheduler="keep"` can run it whole with noise handed in; else only whole calls from a
            seed are possible (`WholeCallSampler`).
    """

    def __init__(self, reason: str, remedy: str = "", *, keep: bool = False) -> None:
        """Say why, and what to do instead."""
        self.reason, self.keep = reason, keep
        self.remedy = remedy or (
            "pass scheduler='keep' for whole runs" if keep else "WholeCallSampler(pipe) searches over its seeds"
        )
        super().__init__(f"{reason}: {self.remedy}")


@dataclass(frozen=True)
class Run:
    """What `Sampler.run` returns.

    Attributes:
        final: the rows at `stop`, in the order given.
        kept: the rows at each grid point asked for on the way.
        denoiser_rows: rows that went through denoiser modules during the call, as forward hooks would count
            them (guidance that doubles the batch, or calls twice, doubles them).
    """

    final: State
    kept: Mapping[int, State] = field(default_factory=lambda: MappingProxyType({}))
    denoiser_rows: int = 0


class Sampler(ABC):
    """A diffusion or flow-matching model over its grids: noise in, states and images out.

    Attributes:
        can_stop: False where only whole runs from 0 to the end are possible.
        can_move: False where a noise is a seed alone, and cannot be moved or handed in.
        can_mix: False where the steps are those of the model's own scheduler, and take no transition.
        limitation: why, in a few words; "" where nothing is limited.
        rows_per_evaluation: denoiser rows per NFE (2 with guidance); estimated until the first run.
        text_encodings: distinct prompts encoded so far.
        denoiser_rows: rows that went through denoiser modules so far, those of runs that failed included.
        compile_seconds: what compiling the denoiser took so far.
        plain_seeds: whether the plain pipeline, given the seed of a row from `fresh`, draws the row's picture.
        asked_steps: what the model is told for its number of steps; those of its grid where None.
        note: which scheduler runs and why, in a line; "" where there was no choice.
        own_steps: whether its steps are those of the model's own scheduler, so that a state on the way is one of the
            plain trajectory.
        look_price: what decoding the x0 prediction of a row costs, in evaluations of a row, guidance included:
            declared, or from FLOPs, never timed; None where nobody knows. Scoring isn't in it.
        on_step: called before each denoiser evaluation, when `denoiser_rows` counts those that are done; None.
        options: arguments of the model's own call as its user gave them, such as the image that it edits.
    """

    can_stop: bool
    can_move: bool = True
    can_mix: bool = True
    limitation: str = ""
    rows_per_evaluation: int
    text_encodings: int
    denoiser_rows: int = 0
    compile_seconds: float = 0.0
    plain_seeds: bool = True
    asked_steps: int | None = None
    note: str = ""
    own_steps: bool = True
    look_price: float | None = None
    on_step: Callable[[], None] | None = None
    options: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def space(self, steps: int | None = None, levels: Sequence[float] = (), points: Sequence[int] = ()) -> NoiseSpace:
        """The noise space: row shape and grid; `run` and `decode` take states of any grid handed out here.

        `steps` gives the grid of another number of steps (cheap drafts), `levels` the same grid with extra
        points at these noise levels sigma / (alpha + sigma), `points` these of its points alone, the first among
        them, and its end: the model is evaluated there, and what it said holds until the next (a static step
        cache). Without any it is the default grid. All share prompts and counters, and `NoiseSpace.adopt` carries
        a noise from one to another. Raises ValueError where there is no such grid.
        """

    @abstractmethod
    def condition(self, prompt: str) -> int:
        """The index of a prompt, for `State.conditions`; each distinct prompt is encoded once per sampler."""

    @abstractmethod
    def run(self, states: State, stop: int, *, transition: Transitions = None, keep: Sequence[int] = ()) -> Run:
        """Advance exactly these rows, as one batch, to grid point `stop`.

        `transition` says how each step is taken: one for all, or a sequence with one for each; None is the sampler's
        own. `keep` names grid points between the state's step and `stop` whose states are returned. Costs what
        `NoiseSpace.cost` says per row. The states given are not changed. Raises ValueError for states of another
        grid, points out of order or within a transition, or a number of transitions that isn't that of the steps.
        """

    @abstractmethod
    def decode(self, states: State) -> Float[Tensor, " batch *frames 3 height width"]:
        """Images or clips, float32 in [0, 1]: of x at the end, of x0 before it; ValueError where there is none."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain JSON: everything that changes results."""

    def look_price_by(self, decoder: torch.nn.Module) -> float | None:
        """`look_price` with another decoder, whose `decode` takes latents as the noise space lays them out."""
        return None

    def close(self) -> None:  # noqa: B027  (a sampler that holds nothing has nothing to free)
        """Free what the sampler holds at the end of a search; a later call starts afresh."""

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_TEXTS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "can't allocate memory",
    "NVML_SUCCESS == r INTERNAL ASSERT",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the device's memory is exhausted, in any of the texts that frameworks use."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def row_prompts(known: Sequence[str], states: State) -> list[str]:
    """One prompt per row. Raises ValueError for conditions that `Sampler.condition` did not return."""
    unknown = sorted({c for c in states.conditions if not 0 <= c < len(known)})
    if unknown:
        raise ValueError(f"conditions {unknown} are not indices that condition() returned ({len(known)} so far)")
    return [known[c] for c in states.conditions]


def clean_latent(states: State, space: NoiseSpace) -> Batch:
    """What there is to decode: x at the end, x0 before it. Raises ValueError where there is none."""
    _check_grid(states, space)
    if states.step == space.end:
        return states.x
    if states.x0 is None:
        raise ValueError(f"nothing to decode at grid point {states.step}: no x0 prediction yet; run at least one step")
    return states.x0


def check_run(space: NoiseSpace, states: State, stop: int, keep: Sequence[int]) -> None:
    """Raise ValueError unless `run(states, stop, keep=keep)` is well formed over `space`."""
    _check_grid(states, space)
    if len(states) == 0:
        raise ValueError("run needs at least one row, got none")
    if not states.step <= stop <= space.end:
        raise ValueError(f"stop must be in [{states.step}, {space.end}] (the states' step, the end), got {stop}")
    outside = [k for k in keep if not states.step <= k <= stop]
    if outside:
        raise ValueError(f"keep must lie in [{states.step}, {stop}] (the states' step, stop), got {outside}")


def _check_grid(states: State, space: NoiseSpace) -> None:
    if states.grid != space.id:
        raise ValueError(f"the states belong to grid {states.grid}, the sampler runs {space.id}: use sampler.space()")


def arrived(states: State, space: NoiseSpace, step: int, x: Tensor, x0: Tensor | None, run: Sequence[Leg]) -> State:
    """`states` after a run to `step`, their recipes included."""
    at, recipes = states.step, states.recipes
    for one, same in groupby((leg for leg in run if leg.stop <= step), key=lambda leg: leg.transition):
        *_, last = same
        recipes = tuple(r.then_run(at, last.stop, space.id, **one.recorded) for r in recipes)
        at = last.stop
    return replace(states, x=x, x0=x0, step=step, recipes=recipes)


def joined(parts: list[Run], groups: list[list[int]]) -> Run:
    """Runs of groups of rows, as one run in the order of the rows."""
    order = [row for group in groups for row in group]
    back = sorted(range(len(order)), key=order.__getitem__)
    kept = {k: State.cat([p.kept[k] for p in parts])[back] for k in parts[0].kept}
    return Run(State.cat([p.final for p in parts])[back], MappingProxyType(kept), sum(p.denoiser_rows for p in parts))
