"""What is claimed of a pipeline, shown on it: that a run is the plain one, and a row alone the row in a batch.

Two steps show it. What is compared are images: whatever a pipeline does between, that is what its user sees.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from samplers.base import NotDrivable, is_out_of_memory
from samplers.pipelines import denoisers
from samplers.pipelines.calls import PipelineCalls, as_images
from samplers.pipelines.prompts import asked, asking
from samplers.pipelines.sampler import PipelineSampler
from samplers.pipelines.view import call_view, make_view, parameters
from samplers.said import first_line
from samplers.space import NoiseSpace
from samplers.state import State

SEEDS = (1, 2, 3)
STEPS = 2

EXACT = 5e-5
"""Largest difference of equal images in [0, 1], of float32 on a CPU."""

ROUNDED = 1e-2
"""Elsewhere, as kernels are chosen by the size of a batch: the largest in float32, the mean in half precision."""


@dataclass(frozen=True)
class Claims:
    """What was found out about a sampler.

    Attributes:
        plain: the difference of a run's image to the plain pipeline's at its seed; None where they can't be compared.
        rows: the largest difference of a row in a batch to the row alone; None where no batch ran, or wasn't looked at.
        repeats: whether the plain pipeline gives the same image twice; None where it wasn't asked.
        tolerance: the difference of what is equal.
        failed: the error of the sampler's run, "" for none.
        nfe: denoiser evaluations that it took.
        steps: of the calls that were compared; None for those of the options.
        pieces: whether runs may stop and go on, where that is known.
    """

    plain: float | None
    rows: float | None
    repeats: bool | None
    tolerance: float
    failed: str = ""
    nfe: int = 0
    steps: int | None = None
    pieces: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether the run is the plain pipeline's."""
        return self.plain is not None and self.plain <= self.tolerance

    @property
    def drives(self) -> bool:
        """Whether the sampler can be trusted; what doesn't repeat itself is no witness against it."""
        return not self.failed and (self.is_plain or self.repeats is False)

    @property
    def rows_together(self) -> bool:
        """Whether rows may share a batch."""
        return self.rows is not None and self.rows <= self.tolerance


def show(sampler: PipelineSampler, prompt: str, sizes: Sequence[int] = (2,)) -> Claims:
    """Compare two steps of a sampler with the plain pipeline, and rows alone with rows in batches.

    A sampler whose steps aren't those of the pipeline's own scheduler is compared as `kept`: what it hands in, and how
    it decodes, is the same.

    Args:
        sampler: of the pipeline.
        prompt: of the first row and the plain pipeline; the others have another.
        sizes: of the batches, 3 at most.

    Raises whatever the plain pipeline raises.
    """
    looked = sampler.kept() if sampler.replaced else sampler
    calls, seed = looked._calls, SEEDS[0]
    before = calls.denoiser_rows
    steps = short(looked)
    try:
        expected = plain_image(calls, prompt, calls.with_steps(steps), seed)
    except Exception:  # some need more steps than two, by other options
        steps = None
        expected = plain_image(calls, prompt, calls.options, seed)
    options = calls.with_steps(steps)
    tolerance, apart = measure(calls)
    plain = rows = repeats = None
    failed = ""
    try:
        space = looked.space(steps=steps)
        first = _alone(looked, space, seed, prompt)
        plain = apart(first, expected)
        if plain is None or plain > tolerance:
            again = apart(plain_image(calls, prompt, options, seed, drawn=1), expected)
            repeats = again is not None and again <= tolerance
        if not repeats:
            rows = _rows(looked, space, prompt, first, sizes, apart)
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, denoisers.Busy):
            raise
        failed = error.reason if isinstance(error, NotDrivable) else first_line(error)
    spent = calls.denoiser_rows - before
    if looked is not sampler:
        sampler._calls.denoiser_rows += spent
    nfe = -(-spent // max(1, looked.rows_per_evaluation))
    return Claims(plain, rows, repeats, tolerance, failed, nfe, steps)


def _alone(sampler: PipelineSampler, space: NoiseSpace, seed: int, prompt: str) -> Tensor:
    """The image of one run of one row."""
    return sampler.decode(sampler.run(space.fresh([seed], sampler.condition(prompt)), space.end).final)


def _rows(
    sampler: PipelineSampler,
    space: NoiseSpace,
    prompt: str,
    first: Tensor,
    sizes: Sequence[int],
    apart: Callable[[Tensor, Tensor], float | None],
) -> float | None:
    """How far rows in batches of these sizes are from the rows alone, of which `first` is one; None where none runs."""

    def alone(prompts: list[str]) -> list[Tensor]:
        return [first, *(_alone(sampler, space, s, p) for s, p in zip(SEEDS[1:], prompts[1:], strict=False))]

    try:
        try:
            prompts = [prompt, _other(sampler), prompt][: max(sizes)]
            expected = alone(prompts)
        except ValueError:  # a prompt of another form than texts
            prompts = [prompt] * max(sizes)
            expected = alone(prompts)
        gaps = []
        for size in sizes:
            noises = [space.fresh([s], sampler.condition(p)) for s, p in zip(SEEDS[:size], prompts[:size], strict=True)]
            images = sampler.decode(sampler.run(State.cat(noises), space.end).final)
            gaps += [apart(images[row : row + 1], expected[row]) for row in range(size)]
    except denoisers.Busy:
        raise
    except Exception:  # of whatever kind: a batch that runs out of memory is none either
        return None
    found = [gap for gap in gaps if gap is not None]
    return max(found) if len(found) == len(gaps) else None


def short(sampler: PipelineSampler, steps: int = STEPS) -> int | None:
    """The number of steps to ask for so that so many are run; None where the options fix them."""
    calls = sampler._calls
    strength = calls.options.get("strength")
    default = parameters(calls.pipe).get("strength")
    share = strength if strength is not None else default.default if default is not None else 1.0
    count = steps if not isinstance(share, int | float) or not 0 < share < 1 else math.ceil(steps / share)
    try:
        calls.with_steps(count)
    except ValueError:
        return None
    return count


def measure(calls: PipelineCalls) -> tuple[float, Callable[[Tensor, Tensor], float | None]]:
    """The tolerance for images of a pipeline, and their difference in its measure."""
    dtypes = {p.dtype for m in calls.modules for p in m.parameters()}
    full = dtypes <= {torch.float32, torch.float64}
    if full and calls.device.type == "cpu":
        return EXACT, partial(difference, largest=True)
    return ROUNDED, partial(difference, largest=full)


def difference(left: Tensor, right: Tensor, largest: bool) -> float | None:
    """The largest or mean difference of two batches of images; None for other shapes, or pixels that aren't finite."""
    if left.shape != right.shape:
        return None
    apart = (left.float().cpu() - right.float().cpu()).abs()
    found = float(apart.max() if largest else apart.mean())
    return found if math.isfinite(found) else None


def plain_image(calls: PipelineCalls, prompt: str, options: dict[str, Any], seed: int, drawn: int = 0) -> Tensor:
    """What the pipeline itself gives for a prompt and a seed: its own call, with nothing of ours in it.

    `drawn` seeds the global generators, which a repeatable picture doesn't depend on.
    """
    pipe, known = calls.pipe, parameters(calls.pipe)
    view = make_view(pipe, calls.own_scheduler())
    call = options | asked(pipe, [prompt], options)
    if "generator" in known:
        call["generator"] = torch.Generator().manual_seed(seed)
    if "output_type" in known:
        call["output_type"] = calls.picture_type(options)
    with ExitStack() as around:
        around.enter_context(torch.no_grad())
        around.enter_context(torch.random.fork_rng())
        around.enter_context(denoisers.claimed(calls.modules, calls, calling=True))
        around.enter_context(denoisers.processors_restored(calls.modules))
        around.enter_context(denoisers.counted(calls.modules, calls.count))
        torch.manual_seed(drawn)
        return as_images(call_view(view, call), 1)


def _other(sampler: PipelineSampler) -> str:
    """A second prompt, for a second row."""
    return "1" if asking(sampler._calls.pipe) == "class_labels" else "a photo"
