"""`bench()`: where an algorithm stands against best-of-N, on the task whose random candidates are shipped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.arguments import check_counts, first_seed
from noise_search.comparison.cells import RANDOM
from noise_search.comparison.compare import compare
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.standard_pools import StandardPools
from noise_search.comparison.store import check_directory
from noise_search.engine.driver import search
from noise_search.engine.interrupts import OnInterrupt
from noise_search.engine.workers.asked import WorkersLike
from noise_search.prompt_sets import load
from noise_search.resolve import Knowledge, resolve_algorithm
from noise_search.settings import spelt
from noise_search.tracking import LogLike
from noise_search.words import unknown

TASK, ORACLE = "shapes-hard", "oracle"
_TRIED = 8
"""Candidates that are made again, to see whether the shipped ones hold here, and how long one takes."""
_NEAR = 0.1
"""Largest median difference between shipped scores and scores here, in standard deviations of the prompt's pool."""


@spelt
def bench(
    algorithm: str | SearchAlgorithm | Sequence[str | SearchAlgorithm] | Mapping[str, str | SearchAlgorithm],
    *,
    model: str = "shapes-flow",
    budgets: Sequence[int] = (8, 16, 48),
    verifier: str = "vlm",
    split: str = "evaluation",
    per_family: int | None = None,
    judges: Sequence[str] = ("oracle",),
    out: str | Path | None = None,
    overwrite: bool = False,
    calibration: Knowledge = None,
    batch_size: int | None = None,
    workers: WorkersLike = None,
    device: str | torch.device | None = None,
    log: LogLike | None = None,
    on_interrupt: OnInterrupt | None = None,
    progress: bool = True,
) -> Comparison:
    """How many random candidates an algorithm is worth, on prompts that one sample rarely gets right.

    The prompts are `prompt_sets.load("shapes-hard", split=...)`, the budgets count whole trajectories. Random search
    isn't run: 256 candidates of every prompt are shipped with their scores, so that its curve goes far beyond the
    budgets. The algorithm begins from the same noises. 8 candidates are made again first, to see that the shipped
    scores hold here and to time one.

    Args:
        algorithm: a name or an object; or several, as `compare()` takes them.
        model: "shapes-flow" or "shapes-ddim".
        budgets: in candidates, each of its own run where the algorithm isn't `anytime`; at most 256.
        verifier: that is searched by: "vlm", "aesthetic", "clip" or "consistency".
        split: "evaluation", 60 prompts; "validation", 24 others to choose an algorithm's settings by.
        per_family: so many prompts of each family at most, for a quick look.
        judges: held out: "oracle", and the verifiers' names.
        calibration: as in `search()`.
        out, overwrite, batch_size, workers, device, log, on_interrupt, progress: as in `compare()`.

    Returns:
        The comparison with random search: `multipliers()` has what each algorithm is worth, `differences("oracle")`
        whether its images are right more often.

    Raises:
        ValueError: something that was asked for doesn't exist or can't work; or the shipped scores don't hold here.

    Example:
        print(noise_search.bench(MySearch(), budgets=(8, 16)))
    """
    if out is not None:
        check_directory(Path(out), overwrite)
    asked: Any = algorithm
    if isinstance(algorithm, str) or not isinstance(algorithm, Sequence | Mapping):
        asked = [algorithm]
    for one in asked.values() if isinstance(asked, Mapping) else asked:
        resolve_algorithm(one)
    pools = StandardPools.load(model, split)
    prompts = load(TASK, split=split, per_family=per_family)
    for name, known in ((verifier, pools.keys), *((one, (*pools.keys, ORACLE)) for one in judges)):
        if name not in known:
            raise unknown("verifier with shipped scores", str(name), known)
    for budget in budgets:
        check_counts(budgets=budget)
        if budget > pools.count:
            raise ValueError(f"budgets={budget} is more than the {pools.count} random candidates that are shipped")
    allowed = [int(one) * pools.steps for one in budgets]
    seconds = _seconds(pools, prompts.texts[0], verifier, batch_size, device)
    return compare(
        prompts,
        model=model,
        algorithms=asked,
        budgets=allowed,
        verifier=verifier,
        judges=judges,
        known=pools.records(prompts.texts, allowed, verifier, judges, seconds),
        out=out,
        overwrite=overwrite,
        diagnosed=0,
        calibration=calibration,
        batch_size=batch_size,
        workers=workers,
        device=device,
        log=log,
        on_interrupt=on_interrupt,
        progress=progress,
    )


def _seconds(pools: StandardPools, prompt: str, verifier: str, batch_size: int | None, device: Any) -> float:
    """How long one candidate takes here, by making the first ones of a prompt again.

    Raises:
        ValueError: their scores aren't those that are shipped.
    """
    asked: dict[str, Any] = {"model": pools.model, "verifier": verifier, "batch_size": batch_size, "device": device}
    asked["algorithm"] = RANDOM
    search(prompt, candidates=1, progress=False, **asked)  # the first search loads and warms up
    made = search(prompt, candidates=_TRIED, seed=first_seed(prompt), progress=False, **asked)
    shipped = pools.scores[verifier][pools.prompts.index(prompt)]
    here = np.array([next(iter(one.scores.values())) for one in made.candidates])
    apart = float(np.median(np.abs(here - shipped[:_TRIED])))
    if not apart <= _NEAR * shipped.std():
        raise ValueError(
            f"{verifier} of the first {_TRIED} noises of {prompt!r} differs from the shipped scores by {apart:.3g} "
            f"(median), where at most {_NEAR * shipped.std():.3g} was expected: the model or verifier here isn't the "
            "task's; use compare(), which runs random search"
        )
    return float(sum(made.ledger.seconds.values())) / _TRIED
