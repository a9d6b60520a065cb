"""`calibrate()`: the one door of this room."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from noise_search.arguments import as_seed, check_counts, check_flags, first_seed
from noise_search.calibrating.measuring import (
    Branch,
    Measuring,
    Move,
    Neighbour,
    Scores,
    as_move,
    default_looks,
    default_moves,
)
from noise_search.calibrating.result import CalibrationResult
from noise_search.calibrating.statistics import calibration
from noise_search.engine.driver import search
from noise_search.engine.setup import VerifierLike, opened
from noise_search.engine.x0_predictions import needs_x0
from noise_search.models import LoadedModel
from noise_search.prompt_sets import PromptSet, as_prompt_set
from noise_search.prompt_sets.embedded import FIXED
from noise_search.settings import ModelOptions, ModelSettings, spelt
from noise_search.words import counted
from verifiers.aggregators.base import Aggregator

_LEAST_NOISES, _LEAST_PROMPTS = 4, 2


@spelt
def calibrate(
    model: Any = "shapes-flow",
    verifier: VerifierLike | Sequence[VerifierLike] = "clip",
    *,
    prompts: str | Path | Sequence[Any] | PromptSet = "shapes",
    limit: int | None = 12,
    per_family: int | None = None,
    noises: int = 16,
    looks: Sequence[int] | None = None,
    moves: Sequence[str] | None = None,
    moved: int = 4,
    seed: int = 0,
    model_options: dict[str, Any] | None = None,
    batch_size: int | None = None,
    progress: bool = True,
    **settings: Unpack[ModelOptions],
) -> CalibrationResult:
    """Measure, of a model under a verifier, what algorithms need to know to spend a budget well.

    Of every prompt `noises` trajectories are run, whose x0 predictions are scored on the way, and the first `moved` of
    them are moved. All verifiers score the same trajectories. What it will take is said before the start, and it takes
    no more: a trajectory for each noise and each neighbour, and for a branch the steps that are left. A look costs a
    decode and no NFE.

    A model that only runs whole has no x0 predictions to look at, and a verifier that compares them with finished
    images scores none: there spread and rises are measured, and neighbours where noises can be handed in.

    Args:
        model: as of `search`.
        verifier: one or several, as of `search`.
        prompts: texts, a file of them, a prompt set or the name of one; of "shapes" and "shapes-hard" it is their
            validation prompts, so that nothing is tuned to those of evaluations.
        limit: how many prompts at most, as equally many of each family as there are; None for all.
        per_family: how many of each family at most.
        noises: of each prompt, at least 4. What halving is worth at N whole trajectories takes about 2 N.
        looks: grid points whose x0 predictions are scored; None for those from 10 % of the steps on, at most 10.
        moves: "neighbour COSINE" and "branch POINT", which leaves a trajectory there by one step of fresh noise alone;
            None for a neighbour at .95 and branches at 20 and 40 % of the steps, () for none.
        moved: how many noises of each prompt are moved.
        seed: of the noises, of which each prompt has its own.
        model_options, batch_size, progress: as of `search`.
        settings: of the model, as of `search`. The calibration is of these and their number of steps alone.

    Raises:
        ValueError: something that was asked for doesn't exist or can't work; nothing has been computed then.
        Exception: what ended the search early.

    Example:
        measured = noise_search.calibrate(pipe, ["clip", "aesthetic"], prompts="prompts.txt")
        measured.save("calibration.json")
        noise_search.search("a red cube", model=pipe, algorithm="halving", calibration="calibration.json")
    """
    check_counts(moved=moved, limit=limit, per_family=per_family)
    check_counts(_LEAST_NOISES, noises=noises)
    check_flags(progress=progress)
    first = as_seed(seed)
    asked_moves = None if moves is None else _moves(moves)
    texts = prompt_texts(prompts, limit, per_family, "a calibration")
    settled: ModelOptions = {"eta": 0.0, "scheduler": "auto", **settings}
    asked = ModelSettings(**settled, options=model_options or {})
    loaded, aggregator, _ = opened(model, asked, texts[0], [Measuring(noises, looks=(1,))], verifier, "mean-z", ())
    algorithm = _measuring(loaded, aggregator, noises, looks, asked_moves, min(moved, noises))
    if algorithm.whole_calls:  # the pipeline's own scheduler will do
        loaded, aggregator, _ = opened(model, asked, texts[0], [algorithm], aggregator, "mean-z", ())
    with loaded.sampler as sampler:
        space = sampler.space()
    results = search(
        texts,
        model=model,
        algorithm=algorithm,
        verifier=aggregator,
        nfe=algorithm.nfe(space),
        seed=[first_seed(text, first) % 2**32 for text in texts],
        model_options=model_options,
        batch_size=batch_size,
        top_k=1,
        on_interrupt="raise",
        progress=progress,
        **settled,
    )
    if (error := next((one.error for one in results if one.error is not None), None)) is not None:
        raise error
    nfe = sum(one.ledger.nfe for one in results)
    found = [
        calibration(
            Scores.read(algorithm, [one.candidates for one in results], each.key),
            loaded.facts.identity,
            each,
            space.end,
            nfe,
        )
        for each in aggregator.scores
    ]
    return CalibrationResult(loaded.name, tuple(found), len(texts) * noises * len(algorithm.looks))


def prompt_texts(prompts: Any, limit: int | None, per_family: int | None, what: str) -> list[str]:
    """Distinct texts; of an embedded set its validation prompts.

    Raises:
        ValueError: too few for what is to be learned from them.
    """
    name = prompts.strip().lower() if isinstance(prompts, str) else ""
    split = {"split": "validation"} if f"{name}-validation" in FIXED else {}
    found = as_prompt_set(prompts, limit=limit, per_family=per_family, seed=0, **split)
    texts = list(dict.fromkeys(found.texts))
    if len(texts) < _LEAST_PROMPTS:
        raise ValueError(
            f"prompts={prompts!r:.60} gives {counted(len(texts), 'prompt')}, and {what} is a mean over at least "
            f"{_LEAST_PROMPTS}: give a set, a file, or more texts"
        )
    return texts


def _moves(asked: Any) -> tuple[Move, ...]:
    if isinstance(asked, str) or not isinstance(asked, Sequence):
        raise TypeError(f"moves={asked!r:.60} must be several, such as ['neighbour 0.95', 'branch 6']")
    return tuple(dict.fromkeys(map(as_move, asked)))


def _measuring(
    loaded: LoadedModel,
    aggregator: Aggregator,
    noises: int,
    looks: Sequence[int] | None,
    moves: tuple[Move, ...] | None,
    moved: int,
) -> Measuring:
    """What is measured of this model: what was asked for, else what of the usual it can do.

    Raises:
        ValueError: looks, branches or neighbours that it can't do, or that are off the grid.
    """
    with loaded.sampler as sampler:
        end = sampler.space().end
    stops = sampler.can_stop and not needs_x0(aggregator.verifiers)
    why = f"{loaded.name} only runs whole ({sampler.limitation})"
    if sampler.can_stop:
        why = f"{aggregator.name} needs finished images"
    branches = [one.start for one in moves or () if isinstance(one, Branch)]
    for name, points in (("looks", list(looks or ())), ("branches", branches)):
        if points and not stops:
            raise ValueError(f"{name} at {points}: {why}; leave them out, and spread and saturation are measured")
        for point in points:
            check_counts(**{name: point})
            if point >= end:
                raise ValueError(f"{name}={point} is off the way: give grid points from 1 to {end - 1} of {end} steps")
    if not sampler.can_move and any(isinstance(one, Neighbour) for one in moves or ()):
        raise ValueError(f"{loaded.name} takes no noises ({sampler.limitation}); leave neighbours out of moves")
    usual = default_moves(end) if moves is None else moves
    allowed = tuple(one for one in usual if (stops if isinstance(one, Branch) else sampler.can_move))
    seen = default_looks(end) if looks is None else tuple(sorted({int(one) for one in looks}))
    return Measuring(noises, seen if stops else (), allowed, moved if allowed else 0)
