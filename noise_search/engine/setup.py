"""What a search refuses, and its grids, budget and description, before anything is computed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noise_search.algorithms.auto import Auto
from noise_search.algorithms.base import SearchAlgorithm, Terms
from noise_search.algorithms.drafts import RENDERS, Drafted, DraftSteps, check_drafts, grid_of
from noise_search.algorithms.halving import Halving
from noise_search.algorithms.random_search import RandomSearch
from noise_search.arguments import as_nfe, check_counts
from noise_search.engine.interrupts import OnInterrupt
from noise_search.engine.run import KeepImages
from noise_search.engine.scoring import check_frames
from noise_search.engine.shares import Share
from noise_search.engine.sources import NEEDS, Source, edited_sources
from noise_search.engine.workers.asked import WorkersLike
from noise_search.engine.x0_predictions import Predictions, check_x0, needs_x0
from noise_search.models import LoadedModel, load_model
from noise_search.previews import Preview, PreviewLike
from noise_search.resolve import (
    Knowledge,
    Named,
    PriorLike,
    resolve_aggregator,
    resolve_calibration,
    resolve_judges,
    resolve_prior,
    verifier_facts,
)
from noise_search.results.candidate import Candidate
from noise_search.results.record import algorithm_record, grid_record
from noise_search.settings import ModelOptions, ModelSettings
from noise_search.tracking import LogLike
from noise_search.words import schedule_in_words
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier

SUPPLIED_NEEDS: frozenset[str] = frozenset({"frames", "x0"}) | NEEDS
"""What verifiers may need beyond images and prompts, as far as the driver can supply it: frames, of video models, the
x0 prediction at the verifier's noise level, of models that can stop on the way, and the images that are edited."""


VerifierLike = str | Named | Verifier | Aggregator | Callable[..., Any]


class SearchOptions(ModelOptions, total=False):
    """The keywords of `search`; see there."""

    model: Any
    algorithm: str | SearchAlgorithm
    verifier: VerifierLike | Sequence[VerifierLike]
    ensemble: str
    nfe: int | None
    candidates: int | None
    share: Share
    seed: int | Sequence[int]
    judges: Sequence[VerifierLike]
    baseline: bool
    calibration: Knowledge
    prior: PriorLike
    draft_steps: DraftSteps | None
    draft_renders: int | None
    model_options: dict[str, Any] | None
    batch_size: int | None
    deterministic: bool
    workers: WorkersLike
    preview: PreviewLike
    time_limit: float | None
    target_score: float | None
    patience: int | None
    top_k: int
    run: str | Path | None
    keep_images: KeepImages
    retry_failed: bool
    overwrite: bool
    verifier_timeout: float | None
    on_candidate: Callable[[Candidate], None] | None
    log: LogLike | None
    on_interrupt: OnInterrupt | None
    progress: bool


def check_options(
    *, batch_size: int | None = None, draft_steps: DraftSteps | None = None, draft_renders: int | None = None
) -> None:
    """Refuse options that no search can take, before a model is loaded."""
    evaluated = draft_steps if isinstance(draft_steps, Sequence) and not isinstance(draft_steps, str) else ()
    for step in evaluated:
        check_counts(least=0, draft_steps=step)
    check_counts(batch_size=batch_size, draft_steps=None if evaluated else draft_steps, draft_renders=draft_renders)
    if draft_renders is not None and draft_steps is None:
        raise ValueError(f"draft_renders={draft_renders} renders the best drafts; give draft_steps with it")


def opened(
    model: Any,
    asked: ModelSettings,
    first_prompt: str,
    algorithms: Sequence[SearchAlgorithm],
    verifier: VerifierLike | Sequence[VerifierLike],
    ensemble: str,
    judges: Sequence[VerifierLike],
) -> tuple[LoadedModel, Aggregator, tuple[Verifier, ...]]:
    """A model that does what these algorithms need, and the verifiers and judges that go by its names.

    Only with the model is known what names of verifiers mean, and so whether x0 predictions are looked at on the way.
    """
    loaded = load_model(model, asked, first_prompt, stops=not all(one.whole_calls for one in algorithms))
    aggregator = resolve_aggregator(verifier, loaded, ensemble)
    judging = resolve_judges(judges, loaded, aggregator.verifiers)
    if asked.scheduler == "auto" and not loaded.sampler.can_stop and needs_x0((*aggregator.verifiers, *judging)):
        again = load_model(model, asked, first_prompt)
        loaded = replace(again, check_nfe=loaded.check_nfe + again.check_nfe)
    return loaded, aggregator, judging


def check_search(
    algorithm: SearchAlgorithm,
    loaded: LoadedModel,
    aggregator: Aggregator,
    judges: Sequence[Verifier],
    *,
    nfe: int,
    kept: bool = False,
    draft_steps: DraftSteps | None = None,
    draft_renders: int | None = None,
) -> None:
    """All that a search refuses of an algorithm on this model with this budget, and nothing computed.

    Raises:
        ValueError: as `search()`.
    """
    check_able(algorithm, loaded, kept, aggregator.verifiers, judges)
    with loaded.sampler:
        set_up(algorithm, loaded, aggregator, judges, nfe, None, draft_steps, draft_renders)


@dataclass(frozen=True)
class Setup:
    """An algorithm on the grids of a model: what it runs, with which budget and how prompts share it, described."""

    algorithm: SearchAlgorithm
    terms: Terms
    predictions: Predictions
    sources: tuple[Source, ...]
    grids: dict[str, dict[str, Any]]
    record: dict[str, Any]
    share: Share = "equal"

    @property
    def finished(self) -> int:
        """How many candidates are sure to be finished, if none of them fails."""
        if isinstance(self.algorithm, Drafted):
            return 1 + int(self.record["schedule"]["renders"])
        return self.terms.nfe_total // self.terms.space.end if self.algorithm.whole_calls else 1

    def in_words(self, many: str = "") -> str:
        """What it costs and how that is spent, in a line; `many` says of how many prompts."""
        why = f" ({self.record['why']})" if "why" in self.record else ""
        how = schedule_in_words(self.record["schedule"])
        return f"{self.terms.nfe_total} NFE{many}, {self.record['name']}: {how}{why}"

    def prediction(self, target: float | None, chance: float = 0.8) -> dict[str, Any]:
        """The NFE of a prompt that reach a target with this chance, as plain JSON; None where they can't be told.

        By the calibration, and so {} where there is none with scores, and for what it doesn't know: other algorithms,
        halving by other options than those whose worth was measured, and noises that a prior chose.
        """
        known = self.terms.calibration
        measured = self.algorithm in (RandomSearch(), Halving()) and self.terms.prior is None
        if target is None or known is None or not measured:
            return {}
        count = known.candidates_for(target, chance)
        if isinstance(self.algorithm, Halving) and self.algorithm.shape(self.terms).rungs:
            count = known.trajectories_for(count)
        if math.isnan(count):
            return {}
        nfe = None if math.isinf(count) else int(count) * self.terms.space.end
        return {
            "prediction": {"target_score": float(target), "chance": chance, "nfe": nfe, "steps": self.terms.space.end}
        }


def set_up(
    algorithm: SearchAlgorithm,
    loaded: LoadedModel,
    aggregator: Aggregator,
    judges: Sequence[Verifier],
    nfe: int | None,
    candidates: int | None,
    draft_steps: DraftSteps | None,
    draft_renders: int | None,
    baseline: bool = True,
    calibration: Knowledge = None,
    prior: PriorLike = None,
    share: Share = "equal",
    preview: Preview | None = None,
) -> Setup:
    """Ask the sampler for its grids; ValueError where the algorithm, its drafts or the budget don't suit them."""
    verifiers = aggregator.verifiers
    levels = getattr(algorithm, "levels", ())
    space = loaded.sampler.space(levels=levels)
    if not all(space.shape):
        shape = " x ".join(map(str, space.shape))
        raise ValueError(
            f"latents of {shape} hold no image: raise height and width, {loaded.name} makes no smaller ones"
        )
    check_frames((*verifiers, *judges), space, loaded.name)
    budget = as_nfe(nfe, candidates, space.end)
    asked = {steps: grid_of(steps) for steps in getattr(algorithm, "grids", ())}
    if draft_steps is not None:
        draft = loaded.sampler.space(**grid_of(draft_steps))
        check_drafts(algorithm, space, draft, budget)
        algorithm = RandomSearch() if isinstance(algorithm, Auto) else algorithm  # drafts are whole runs
        algorithm, asked = Drafted(algorithm, draft.end, draft_renders or RENDERS), {draft.end: grid_of(draft_steps)}
    why = {}
    if share != "equal" and isinstance(algorithm, Auto):
        algorithm, why["why"] = RandomSearch(), "prompts that share a budget can't plan for it"
    further = {steps: loaded.sampler.space(**how) for steps, how in asked.items()}
    grids = grid_record(space, levels)
    for steps, grid in further.items():
        grids |= grid_record(grid, **asked[steps])
    known = resolve_calibration(calibration, loaded.facts, space.end, aggregator)
    facts = loaded.facts
    if known is None and (not algorithm.whole_calls or isinstance(algorithm, Auto)):  # prices matter, and take counting
        facts = loaded.priced if preview is None else replace(facts, look_price=preview.price)
    terms = Terms(
        space,
        budget,
        baseline and getattr(algorithm, "baseline", True),
        facts,
        verifier_facts(aggregator),
        known,
        resolve_prior(prior, loaded.facts, space.end, aggregator),
        further,
    )
    if isinstance(algorithm, Auto):
        algorithm, why["why"] = algorithm.choose(terms)
    predictions = Predictions.of(verifiers, judges, space, further.values())
    sources = edited_sources((*verifiers, *judges), loaded.sampler.options)
    return Setup(algorithm, terms, predictions, sources, grids, {**algorithm_record(algorithm, terms), **why}, share)


_WIDENING = {
    "random": "RandomSearch(round=...)",
    "zero-order": "ZeroOrderSearch(neighbours=..., chains=...)",
    "paths": "SearchOverPaths(paths=...)",
    "climb": "Climb(children=...)",
}


def widening(algorithm: SearchAlgorithm) -> str:
    """What gives an algorithm's rounds more rows, in words."""
    return " or ".join(filter(None, (_WIDENING.get(algorithm.name), "more prompts at once")))


def check_able(
    algorithm: SearchAlgorithm,
    loaded: LoadedModel,
    kept: bool,
    verifiers: Sequence[Verifier],
    judges: Sequence[Verifier],
) -> None:
    """Refuse verifiers that need more than a search supplies, and an algorithm that needs more of the model."""
    _check_needs((*verifiers, *judges))
    edited_sources((*verifiers, *judges), loaded.sampler.options)
    if not algorithm.whole_calls and not loaded.sampler.can_stop:
        raise ValueError(
            f"algorithm {algorithm.name!r} stops inside trajectories, and {loaded.name} can only run them whole "
            f"({loaded.sampler.limitation}); use algorithm='random'" + (", or scheduler='first-order'" if kept else "")
        )
    if getattr(algorithm, "moves_noise", False) and not loaded.sampler.can_move:
        raise ValueError(
            f"algorithm {algorithm.name!r} moves noises, and {loaded.name} takes none ({loaded.sampler.limitation}); "
            "use algorithm='random'"
        )
    check_x0(algorithm, loaded.sampler, verifiers, judges)


def _check_needs(verifiers: Sequence[Verifier]) -> None:
    for verifier in verifiers:
        missing = sorted(verifier.needs - SUPPLIED_NEEDS)
        if missing:
            raise ValueError(f"verifier {verifier.name!r} needs {', '.join(missing)}, which this search can't supply")
