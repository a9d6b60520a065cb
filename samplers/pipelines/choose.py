"""The sampler that makes the most of a pipeline."""

import warnings
from typing import Any, Literal

from samplers.base import NotDrivable, Sampler
from samplers.pipelines.sampler import PipelineSampler
from samplers.pipelines.whole_call import WholeCallSampler

STOPPING = "algorithms that stop inside trajectories don't"


def sampler_for(
    pipe: Any,
    *,
    scheduler: Literal["first-order", "keep"] = "first-order",
    eta: float = 0.0,
    first_prompt: str | None = None,
    **options: Any,
) -> Sampler:
    """A `PipelineSampler` where possible; else its whole runs, else a `WholeCallSampler`.

    Less than everything is said in one warning, and is `limitation` of the sampler. The pipeline is called once
    without steps, as only that shows whether noise can be handed in.

    Args:
        pipe: a `DiffusionPipeline` object.
        scheduler: of `PipelineSampler`.
        eta: of `PipelineSampler`.
        first_prompt: one that will be run, to look with; without it an empty one is encoded besides.
        options: of `PipelineSampler`.

    Raises:
        TypeError: `pipe` is no pipeline, or does not take one of the options.
        ValueError: an option that the sampler owns, or that has no effect in what is left.
        RuntimeError: called in the middle of another search's call.
    """
    try:
        return _stepping(pipe, scheduler, eta, first_prompt, options)
    except NotDrivable as refusal:
        reason, keep = refusal.reason, refusal.keep
    if keep:
        try:
            sampler = _stepping(pipe, "keep", eta, first_prompt, options)
        except NotDrivable as refusal:
            reason = f"{reason}, and {refusal.reason}"
        else:
            sampler.limitation = reason
            _warn(f"{reason}: running it whole; random and zero-order search work, {STOPPING}")
            return sampler
    if eta:
        raise ValueError(f"eta = {eta} has no effect, because {reason}: leave it 0")
    whole = WholeCallSampler(pipe, reason=reason, **options)
    _warn(f"{reason}: searching over seeds of whole calls; random search works, moving noises and {STOPPING}")
    return whole


def _stepping(
    pipe: Any, scheduler: Any, eta: float, first_prompt: str | None, options: dict[str, Any]
) -> PipelineSampler:
    """A sampler that has seen its default grid, and keeps what it saw and encoded. Raises NotDrivable."""
    sampler = PipelineSampler(pipe, scheduler=scheduler, eta=eta, **options)
    if first_prompt is not None:
        sampler.condition(first_prompt)
    try:
        sampler.space()
    except NotDrivable:  # of no other error: what an outer search holds is not ours to free
        sampler.close()
        raise
    return sampler


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)
