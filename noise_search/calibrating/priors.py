"""`learn_prior()`: what seeds are worth over prompts, learned from random candidates of the same seeds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np

from noise_search.algorithms.base import Job, Plan, Problem, Terms
from noise_search.algorithms.knowledge import SeedPrior
from noise_search.arguments import as_seed, check_counts, check_flags
from noise_search.calibrating.calibrate import prompt_texts
from noise_search.disk.files import check_writable, write_atomically
from noise_search.engine.driver import search
from noise_search.engine.setup import VerifierLike, opened
from noise_search.prompt_sets import PromptSet
from noise_search.settings import ModelOptions, ModelSettings, spelt

_LEAST_SEEDS = 16
"""Of fewer seeds halves of the prompts agree too often by chance; see `SeedPrior.TRUSTED`."""
_ROUND = 64
"""Noises that wait together, as of random search."""


@spelt
def learn_prior(
    model: Any,
    verifier: VerifierLike,
    *,
    prompts: str | Path | Sequence[Any] | PromptSet = "shapes",
    limit: int | None = 12,
    per_family: int | None = None,
    seeds: int | Sequence[int] = 64,
    out: str | Path | None = None,
    overwrite: bool = False,
    model_options: dict[str, Any] | None = None,
    batch_size: int | None = None,
    progress: bool = True,
    **settings: Unpack[ModelOptions],
) -> SeedPrior:
    """Learn which seeds a verifier likes whatever the prompt, for searches of other prompts to try first.

    Every prompt is run with the same seeds, by random search. A seed's value is its mean z-score within the prompts.
    How far the prompts agree is `reliability`; `search(prior=...)` uses a prior only where that is .4 or more. It takes
    one trajectory for each prompt and seed, which is said before the start and kept in `nfe`.

    Args:
        model: as of `search`.
        verifier: one, as of `search`. A prior is likely to be worth it where the prompt hardly counts, as of
            "aesthetic".
        prompts: texts, a file of them, a prompt set or the name of one, such as will be searched; of "shapes" and
            "shapes-hard" it is their validation prompts, so that nothing is learned from those of evaluations.
        limit: how many prompts at most, as equally many of each family as there are; None for all.
        per_family: how many of each family at most.
        seeds: how many, from 0 on, or the seeds; at least 16.
        out: a file to write it to, as JSON.
        overwrite: whether what is at `out` may be replaced.
        model_options, batch_size, progress: as of `search`.
        settings: of the model, as of `search`. The prior is of these and their number of steps alone; for algorithms
            that stop on the way, of a pipeline whose scheduler isn't first-order, give `scheduler="first-order"`.

    Raises:
        ValueError: something that was asked for doesn't exist or can't work, or `out` is there already; nothing has
            been computed then.
        Exception: what ended the search early.

    Example:
        prior = noise_search.learn_prior(pipe, "aesthetic", prompts="prompts.txt", out="prior.json")
        noise_search.search("a red cube", model=pipe, verifier="aesthetic", prior=prior)
    """
    check_counts(limit=limit, per_family=per_family)
    check_flags(progress=progress, overwrite=overwrite)
    place = None if out is None else _free(Path(out), overwrite)
    algorithm = SharedSeeds(_seeds(seeds))
    texts = prompt_texts(prompts, limit, per_family, "a prior")
    settled: ModelOptions = {"eta": 0.0, "scheduler": "auto", **settings}
    asked = ModelSettings(**settled, options=model_options or {})
    loaded, aggregator, _ = opened(model, asked, texts[0], [algorithm], verifier, "mean-z", ())
    if len(aggregator.scores) != 1:
        raise ValueError(f"verifier {aggregator.name!r} combines several; a prior is of one: learn one of each")
    with loaded.sampler as sampler:
        steps = sampler.space().end
    results = search(
        texts,
        model=model,
        algorithm=algorithm,
        verifier=aggregator,
        nfe=len(algorithm.given) * steps,
        baseline=False,
        model_options=model_options,
        batch_size=batch_size,
        top_k=1,
        on_interrupt="raise",
        progress=progress,
        **settled,
    )
    if (error := next((one.error for one in results if one.error is not None), None)) is not None:
        raise error
    (key,) = (one.key for one in aggregator.scores)
    scores = {
        text: {one.seed: one.scores[key] for one in result.candidates if one.seed is not None and one.failure is None}
        for text, result in zip(texts, results, strict=True)
    }
    nfe = sum(one.ledger.nfe for one in results)
    prior = SeedPrior.learned(loaded.facts.identity, key, steps, scores, nfe)
    if place is not None:
        content = json.dumps(prior.to_json(), indent=1, allow_nan=False)
        write_atomically(place, f"{content}\n".encode())
    return prior


@dataclass(frozen=True)
class SharedSeeds:
    """Runs the noises of these seeds to the end, whatever the search's own seed."""

    name: ClassVar[str] = "prior"
    whole_calls: ClassVar[bool] = True
    baseline: ClassVar[bool] = False

    given: tuple[int, ...]

    def plan(self, problem: Problem) -> Plan:
        """Yield them in rounds."""
        for at in range(0, len(self.given), _ROUND):
            yield Job(problem.fresh(seeds=self.given[at : at + _ROUND]), problem.space.end)

    def describe(self, terms: Terms) -> dict[str, Any]:
        """What it will do, as plain JSON."""
        return {"seeds": len(self.given), "steps": terms.space.end}


def _seeds(asked: Any) -> tuple[int, ...]:
    if isinstance(asked, int | np.integer) and not isinstance(asked, bool):
        check_counts(_LEAST_SEEDS, seeds=asked)
        return tuple(range(int(asked)))
    if not isinstance(asked, Iterable) or isinstance(asked, str):
        raise TypeError(f"seeds={asked!r:.40} must be a whole number, how many, or several seeds")
    found = tuple(dict.fromkeys(as_seed(one) for one in asked))
    if len(found) < _LEAST_SEEDS:
        raise ValueError(
            f"seeds has {len(found)} different ones, of which prompts agree by chance too often: give at least "
            f"{_LEAST_SEEDS}, 64 or more where you can"
        )
    return found


def _free(file: Path, overwrite: bool) -> Path:
    if file.exists() and not overwrite:
        raise ValueError(f"{str(file)!r} is there already: give another file, or overwrite=True")
    check_writable(file.parent)
    return file
