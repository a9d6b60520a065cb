"""`check`: what a search can do with a pipeline, shown on the pipeline itself."""

import html
import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np
import torch

from noise_search.models import arguments_of, open_pipeline
from noise_search.settings import ModelOptions, ModelSettings, spelt
from noise_search.words import counted, table
from samplers.base import Run, Sampler
from samplers.pipelines.choose import sampler_for
from samplers.pipelines.claims import Claims, short, show
from samplers.pipelines.sampler import PipelineSampler
from samplers.said import first_line
from samplers.space import NoiseSpace
from samplers.state import State

LEVELS = ("everything", "whole runs", "seeds")
WORKS = dict(zip(LEVELS, ("all algorithms", "random and zero-order search", "random search"), strict=True))
_SIGNS = {True: "yes", False: "NO", None: "-"}
PLAIN = "a run is the plain pipeline's"
ROWS = "a candidate alone is that in a batch"
PIECES = "a run in pieces is the run in one go"
STEPS = 3
SEED = 1


@dataclass(frozen=True)
class Point:
    """One claim.

    Attributes:
        claim: in words.
        holds: None where there is nothing to claim.
        seen: what was measured, or why there is nothing.
        meaning: for whoever searches.
    """

    claim: str
    holds: bool | None
    seen: str
    meaning: str


@dataclass(frozen=True)
class PipelineCheck:
    """What `check` found out.

    Attributes:
        model: its name.
        pipeline: its class.
        level: "everything", "whole runs" or "seeds".
        rows: whether candidates may share a call.
        why: what limits it, "" for nothing.
        points: the claims.
        nfe: denoiser evaluations that it took.
        seconds: so long.
    """

    model: str
    pipeline: str
    level: str
    rows: bool
    why: str
    points: tuple[Point, ...]
    nfe: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether no claim failed."""
        return all(one.holds is not False for one in self.points)

    @property
    def works(self) -> str:
        """What still works, in words."""
        return WORKS[self.level] + ("" if self.rows else ", each candidate alone")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "ok": self.ok, "works": self.works}

    def __str__(self) -> str:
        rows = [[one.claim, _SIGNS[one.holds], one.seen, one.meaning] for one in self.points]
        told = [
            f"{self.model} ({self.pipeline}): {self.level}; {self.works} can be used",
            *([f"because {self.why}"] if self.why else []),
            table([["claim", "holds", "seen", "so"], *rows], "<<<<"),
            f"{self.nfe} NFE, {self.seconds:.1f} s",
        ]
        return "\n".join(told)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


@spelt
def check(
    model: Any = "shapes-flow",
    *,
    prompt: str = "a photo",
    model_options: dict[str, Any] | None = None,
    **settings: Unpack[ModelOptions],
) -> PipelineCheck:
    """Show what a search can do with a pipeline: by a few steps of it, compared with the pipeline's own call.

    Shown is whether a whole run is the plain pipeline's at its seed; whether a candidate alone is the candidate in a
    batch of two and three; whether a run that is stopped, forked, resumed or re-noised is the run in one go; whether
    denoiser rows are counted as hooks count them; whether the pipeline, its scheduler, hooks and the random state are
    left as they were; and whether images are finite in the dtype as loaded.

    Args:
        model: as of `search`: a pipeline object, a directory, a hub id, an embedded model's name.
        prompt: a text, or a class label.
        model_options: further arguments of the pipeline's call.
        settings: of the model, as of `search`.

    Raises:
        TypeError: a `Sampler` object, whose claims are its own.
        ValueError: a model that can't be opened, or options that it can't take.
        Exception: what the plain pipeline raises when it is called.

    Example:
        print(noise_search.check(pipe, prompt="a red cube", guidance=5.0))
    """
    if isinstance(model, Sampler):
        raise TypeError(f"a {type(model).__name__} is no pipeline; give the pipeline that it runs")
    asked = ModelSettings(**settings, options=model_options or {})
    started = time.perf_counter()
    name, pipe, card, _ = open_pipeline(model, asked)
    looked: list[Claims] = []

    def shown(sampler: PipelineSampler) -> Claims:
        looked.append(show(sampler, prompt, (2, 3)))
        return looked[-1]

    before = _state(pipe)
    with _quiet():
        sampler = sampler_for(pipe, first_prompt=prompt, shown=shown, **arguments_of(asked, card))
    with sampler:
        points = [*_plain(looked), _rows(looked)]
        spent = sum(one.nfe for one in looked)
        counts: list[int] = []
        if isinstance(sampler, PipelineSampler):
            found, used, images = _pieces(sampler, prompt, counts, looked[-1].steps is not None)
        else:
            found, used, images = _whole(sampler, prompt, counts)
        points += found
    changed = sorted(k for k, v in _state(pipe).items() if before.get(k) != v)
    kept = "as before" if not changed else f"changed: {', '.join(changed)}"
    points.append(Point("the pipeline is left as it was", not changed, kept, "it can be used on as before"))
    finite = bool(images.isfinite().all())
    points.append(Point("images are finite", finite, str(_dtypes(pipe)), "nothing is lost to overflows"))
    stops = sampler.can_stop and not any(one.holds is False for one in points if one.claim == PIECES)
    level = LEVELS[0] if stops else LEVELS[1] if sampler.can_move else LEVELS[2]
    together = bool(getattr(sampler, "rows_together", False))
    seconds = time.perf_counter() - started
    return PipelineCheck(
        name, type(pipe).__name__, level, together, sampler.limitation, tuple(points), spent + used, seconds
    )


def _plain(looked: Sequence[Claims]) -> list[Point]:
    """Of each sampler that was tried, whether its run is the plain pipeline's."""
    claim, meaning = PLAIN, "its seed can be given to the pipeline itself"
    found = []
    for one in looked:
        if one.failed:
            found.append(Point(claim, False, one.failed, "noise isn't handed in"))
        elif one.is_plain:
            found.append(Point(claim, True, f"{one.plain:.1e} apart", meaning))
        elif one.repeats is False:
            found.append(Point(claim, None, "the pipeline itself doesn't repeat its images", "no seed is claimed"))
        else:
            seen = "can't be compared" if one.plain is None else f"{one.plain:.1e} apart"
            found.append(Point(claim, False, seen, "noise isn't handed in"))
    return list(dict.fromkeys(found)) or [Point(claim, True, "candidates are its own calls", meaning)]


def _rows(looked: Sequence[Claims]) -> Point:
    claim = ROWS
    if not looked or not looked[-1].drives:
        return Point(claim, None, "each candidate is a call", "no batches")
    rows = looked[-1].rows
    if rows is None:
        return Point(claim, False, "no batch could be run", "each candidate runs alone")
    together = looked[-1].rows_together
    return Point(claim, together, f"{rows:.1e} apart", "batches are used" if together else "each candidate runs alone")


def _pieces(
    sampler: PipelineSampler, prompt: str, counts: list[int], short_enough: bool
) -> tuple[list[Point], int, torch.Tensor]:
    """Stop, fork, resume and re-noise, if it can; rows counted at the same time. Also NFE spent, and an image."""
    steps = short(sampler, STEPS) if short_enough else None
    space = sampler.space(steps=steps)
    noise, end = space.fresh([SEED], sampler.condition(prompt)), space.end
    told, nfe = 0, 0

    def run(states: State, stop: int, keep: Sequence[int] = ()) -> Any:
        nonlocal told, nfe
        done = sampler.run(states, stop, keep=keep)
        told, nfe = told + done.denoiser_rows, nfe + len(states) * (stop - states.step)
        return done

    with _hooked(sampler, counts):
        keep = [1, 2] if sampler.can_stop and end > 2 else []
        whole = run(noise, end, keep)
        if keep:
            found = _resumed(space, whole, run, torch.finfo(_loop_dtype(sampler)).eps * 1000)
        else:
            why = sampler.limitation or f"{counted(end, 'step')} are too few to stop on the way"
            found = Point(PIECES, None, why, "whole runs only")
    counted_rows = sum(counts)
    seen = f"{counted_rows} by hooks, {told} told, {nfe} NFE"
    rows = Point("denoiser rows are counted", counted_rows == told, seen, "budgets are exact")
    return [found, rows], nfe, sampler.decode(whole.final)


def _resumed(space: NoiseSpace, whole: Run, run: Callable[..., Run], exact: float) -> Point:
    """Whether runs that were forked, resumed and re-noised end where those in one go do."""
    end = space.end
    try:
        forked = run(whole.kept[1][[0, 0]], end).final
        resumed = run(whole.kept[2], end).final
        back = space.renoise(whole.kept[2], 1, [SEED])
        once = run(back, end).final
        twice = run(run(back, 2).final, end).final
    except Exception as error:
        return Point(PIECES, False, first_line(error), "whole runs only")
    scale = float(whole.final.x.abs().max()) or 1.0
    pairs = [
        (forked.x[:1], whole.final.x),
        (forked.x[1:], whole.final.x),
        (resumed.x, whole.final.x),
        (twice.x, once.x),
    ]
    gaps = [float((a - b).abs().max()) / scale for a, b in pairs]
    worst = max(gaps) if all(map(math.isfinite, gaps)) else math.nan
    meaning = "algorithms may stop, fork, resume and re-noise" if worst <= exact else "whole runs only"
    return Point(PIECES, worst <= exact, f"{worst:.1e} apart", meaning)


def _whole(sampler: Sampler, prompt: str, counts: list[int]) -> tuple[list[Point], int, torch.Tensor]:
    """One whole call of few steps."""
    try:
        space = sampler.space(steps=2)
    except ValueError:
        space = sampler.space()
    with _hooked(sampler, counts):
        done = sampler.run(space.fresh([SEED], sampler.condition(prompt)), space.end)
    found = Point(PIECES, None, sampler.limitation, "whole runs only")
    seen = f"{sum(counts)} by hooks, {done.denoiser_rows} told, {space.end} NFE"
    rows = Point("denoiser rows are counted", sum(counts) == done.denoiser_rows, seen, "budgets are exact")
    return [found, rows], space.end, sampler.decode(done.final)


@contextmanager
def _hooked(sampler: Any, counts: list[int]) -> Any:
    """The rows that denoisers give back, counted by hooks that the sampler knows nothing of."""

    def rows(output: Any) -> int:
        while not isinstance(output, torch.Tensor):
            if isinstance(output, list) and output and isinstance(output[0], torch.Tensor):
                return len(output)
            output = output[0]
        return len(output)

    with ExitStack() as hooks:
        for module in sampler._calls.modules:
            hooks.callback(module.register_forward_hook(lambda m, a, output: counts.append(rows(output))).remove)
        yield


@contextmanager
def _quiet() -> Any:
    """What the sampler warns of stands in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _loop_dtype(sampler: PipelineSampler) -> torch.dtype:
    """In which the pipeline's loop computes."""
    dtype: torch.dtype = sampler.look().layout.dtype
    return dtype


def _dtypes(pipe: Any) -> str:
    """The dtypes of a pipeline's modules."""
    modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    return ", ".join(sorted({str(p.dtype).removeprefix("torch.") for m in modules for p in m.parameters()}))


def _state(pipe: Any) -> dict[str, Any]:
    """Everything of a pipeline that a careless wrapper changes, and the random state."""
    modules = {k: v for k, v in pipe.components.items() if isinstance(v, torch.nn.Module)}
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks")
    scheduler = getattr(pipe, "scheduler", None)
    found: dict[str, Any] = {f"attribute {k}": id(v) for k, v in vars(pipe).items()}
    found |= {f"scheduler's {k}": repr(v) for k, v in vars(scheduler).items()} if scheduler is not None else {}
    for name, module in modules.items():
        # Transformers' own come with the first call of an encoder, and stay.
        found[f"hooks of {name}"] = [
            [key for key, hook in getattr(m, h).items() if not str(hook.__module__).startswith("transformers.")]
            for m in module.modules()
            for h in hooks
        ]
        found[f"training mode of {name}"] = [m.training for m in module.modules()]
        found[f"attention processors of {name}"] = [id(p) for p in getattr(module, "attn_processors", {}).values()]
        found[f"dtype of {name}"] = [str(p.dtype) for p in module.parameters()]
    found["random state of torch"] = torch.get_rng_state().numpy().tobytes()
    return found | {"random state of numpy": repr(np.random.get_state())}
