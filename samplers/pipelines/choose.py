"""The sampler that makes the most of a pipeline."""

from collections.abc import Callable
from typing import Any, Literal

from samplers.base import NotDrivable, Sampler
from samplers.pipelines.claims import Claims
from samplers.pipelines.sampler import PipelineSampler
from samplers.pipelines.whole_call import WholeCallSampler
from samplers.said import warn

Scheduler = Literal["auto", "first-order", "keep"]
Shown = Callable[[PipelineSampler], Claims | None]
"""What is known of a sampler on its pipeline; None for what is taken on trust."""

STOPPING = "algorithms that stop inside trajectories don't"


def sampler_for(
    pipe: Any,
    *,
    scheduler: Scheduler = "auto",
    stops: bool = True,
    eta: float = 0.0,
    first_prompt: str | None = None,
    shown: Shown = lambda sampler: None,
    **options: Any,
) -> Sampler:
    """A `PipelineSampler` where possible; else its whole runs, else a `WholeCallSampler`.

    Less than everything is said in one warning, and is `limitation` of the sampler. The pipeline is called once
    without steps, as only that shows whether noise can be handed in.

    Args:
        pipe: a `DiffusionPipeline` object.
        scheduler: of `PipelineSampler`; "auto" runs the pipeline's own where that makes no difference or whole runs
            are enough, and first-order steps where states on the way are needed.
        stops: whether states on the way are needed.
        eta: of `PipelineSampler`.
        first_prompt: one that will be run, to look with; without it an empty one is encoded besides.
        shown: is asked whether a sampler does on this pipeline what it claims: one that doesn't is not used, and one
            whose rows depend on each other runs them one by one.
        options: of `PipelineSampler`.

    Raises:
        TypeError: `pipe` is no pipeline, or does not take one of the options.
        ValueError: an option that the sampler owns, or that has no effect in what is left.
        RuntimeError: called in the middle of another search's call.

    What the pipeline itself refuses, it raises.
    """
    if scheduler not in ("auto", "first-order", "keep"):
        raise ValueError(f"scheduler must be 'auto', 'first-order' or 'keep', got {scheduler!r}")
    reasons: list[str] = []
    whole_runs = scheduler == "auto" and not stops and not eta
    for how in ["keep"] if scheduler == "keep" else ["first-order", "keep"]:
        try:
            sampler = _stepping(pipe, how, eta if how == "first-order" else 0.0, first_prompt, options)
        except NotDrivable as refusal:
            reasons.append(refusal.reason)
            if not refusal.keep:
                break
            continue
        if whole_runs and sampler.replaced:
            sampler = _kept(sampler)
        known = shown(sampler)
        if known is None or known.drives:
            return _settled(sampler, known, reasons, whole_runs, eta)
        sampler.close()
        far = "" if known.plain is None else f" ({known.plain:.2g} of 1 apart)"
        reasons.append(known.failed or f"its image is not the plain pipeline's{far}")
    reason = ", and ".join(dict.fromkeys(reasons))
    if eta:
        raise ValueError(f"eta = {eta} has no effect, because {reason}: leave it 0")
    whole = WholeCallSampler(pipe, reason=reason, **options)
    if first_prompt is not None:
        whole.condition(first_prompt)
    whole.space()  # here the pipeline refuses what is no limit of ours
    warn(f"{reason}: searching over seeds of whole calls; random search works, moving noises and {STOPPING}")
    return whole


def _settled(
    sampler: PipelineSampler, known: Claims | None, reasons: list[str], whole_runs: bool, eta: float
) -> PipelineSampler:
    """The sampler that was chosen, after what has to be said of it."""
    name = type(sampler._calls.scheduler).__name__
    if reasons:
        if eta:
            raise ValueError(f"eta = {eta} has no effect, because {', and '.join(reasons)}: leave it 0")
        sampler.limitation = ", and ".join(dict.fromkeys(reasons))
        if not whole_runs:
            warn(f"{sampler.limitation}: running it whole; random and zero-order search work, {STOPPING}")
    if whole_runs and not sampler.can_stop:
        sampler.note = f"{name} as it is, since every trajectory runs whole"
    elif sampler.replaced:
        sampler.note = f"first-order steps in place of {name}'s, since states on the way are needed"
        sampler.space()  # which says so
    if known is not None and not known.pieces and sampler.can_stop:
        sampler.can_stop, sampler.limitation = False, "a run in pieces isn't the run in one go"
    if known is not None and not known.rows_together:
        sampler.rows_together = False
        far = "can't share a call" if known.rows is None else f"differ in a batch (by {known.rows:.2g} of 1)"
        warn(f"candidates of this {type(sampler._calls.pipe).__name__} {far}: each runs alone")
    return sampler


def _kept(sampler: PipelineSampler) -> PipelineSampler:
    """The same with the pipeline's own scheduler, where that can be looked at."""
    try:
        kept = sampler.kept()
        kept.look()
    except NotDrivable:
        return sampler
    return kept


def _stepping(
    pipe: Any, scheduler: Any, eta: float, first_prompt: str | None, options: dict[str, Any]
) -> PipelineSampler:
    """A sampler that has seen its default grid, and keeps what it saw and encoded. Raises NotDrivable."""
    sampler = PipelineSampler(pipe, scheduler=scheduler, eta=eta, **options)
    if first_prompt is not None:
        sampler.condition(first_prompt)
    try:
        sampler.look()
    except NotDrivable:  # of no other error: what an outer search holds is not ours to free
        sampler.close()
        raise
    return sampler
