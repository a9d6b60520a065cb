"""`diagnose()`: is the gain of one search real, or did it only please its verifier?"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise_search.diagnosis.checks import Heldout, heldout, noise_checks
from noise_search.diagnosis.pairs import Gain, PairScorer, spread
from noise_search.diagnosis.rebuilding import rebuild, renoised
from noise_search.diagnosis.report import Diagnosis, NoiseReport
from noise_search.diagnosis.rescoring import Rescoring, rescore
from noise_search.diagnosis.verdict import Verdict, judged
from noise_search.diagnosis.wrong_prompt import WrongPrompts, other_prompts, try_wrong
from noise_search.engine.scoring import as_images
from noise_search.image_scores import reads_prompts
from noise_search.models import ModelCard, read_card, usable_device
from noise_search.resolve import resolve_aggregator
from noise_search.results.candidate import Candidate
from noise_search.results.result import SearchResult
from noise_search.shapes import EMBEDDED_MODELS
from noise_search.words import first_line
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier, WeightsError

_NO_GAIN = "there is no gain"


def diagnose(
    result: SearchResult,
    *,
    verifier: str | Verifier | Aggregator | Callable[..., Any] | Sequence[Any] | None = None,
    model: Any = None,
    wrong_prompts: Sequence[str] | None = None,
    model_options: Mapping[str, Any] | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Hold the winner of a search against its first image: by its noise, other prompts, changed images and judges.

    Nothing is generated, so no NFE is spent; a verifier scores about 26 images. Searches give the best evidence with
    `judges=`, since only those that the search never saw can confirm a gain. What can't be tested is skipped, with the
    reason.

    Args:
        result: of a search.
        verifier: the one that was searched with; by default what its recorded name means, which can't be told of a
            function, nor of one with options.
        model: the one that was searched; embedded models are opened by themselves. Without it noises aren't checked.
        wrong_prompts: texts that ask for something else; by default 8 of the embedded world for its models, else 8
            captions of everyday scenes.
        model_options: as in `replay()`.
        device: where images are scored; a GPU when None and there is one.
        seed: of the draw of wrong prompts.

    Raises:
        TypeError: no result of one search, or an object that can't score.
        ValueError: a verifier or model that isn't the search's, or no wrong prompt.
        AllCandidatesFailed: the search has no winner.

    Example:
        print(noise_search.diagnose(noise_search.search("a red circle", judges=["oracle"])))
    """
    if not isinstance(result, SearchResult):
        raise TypeError(f"diagnose takes the SearchResult of one search, got a {type(result).__name__}")
    winner, first = result.best, result.first
    prompts = _prompts(result, wrong_prompts, seed)
    scoring = _resolve(result, verifier, device)
    own, spreads = _own(result)
    noise = _noise(result, model, model_options)
    if winner.id == first.id:
        nothing = Rescoring({}, {}, {"all": _NO_GAIN}), WrongPrompts(0.0, {}, {}, _NO_GAIN)
        judges = heldout(result, math.nan)
        return _told(result, Verdict("no gain"), (own, spreads), noise, *nothing, judges)
    judges = heldout(result, own.total if spreads.keys() == own.units.keys() else math.nan)
    rescoring, wrong = _scored_again(result, scoring, own, prompts, device)
    verdict = judged(own.total, noise.winner, rescoring, wrong, judges)
    return _told(result, verdict, (own, spreads), noise, rescoring, wrong, judges)


@dataclass(frozen=True)
class _Scoring:
    """The search's verifiers of kind "score", or why they can't be had."""

    verifiers: tuple[Verifier, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class _Declared:
    """What names are resolved for: the recorded model by its name and, if embedded, its card; it isn't loaded."""

    name: str
    card: ModelCard


def _resolve(result: SearchResult, verifier: Any, device: str | torch.device | None) -> _Scoring:
    """The verifiers given, or those that the recorded names mean, if they are the very ones of the search."""
    name = str(result.settings["model"].get("name"))
    declared = _Declared(name, read_card(EMBEDDED_MODELS[name]) if name in EMBEDDED_MODELS else ModelCard())
    recorded = [one["name"] for one in result.settings["verifier"]["verifiers"]]
    try:
        found = resolve_aggregator(recorded if verifier is None else verifier, declared).verifiers
        _check_same(result, found)
        for one in found:
            one.load(usable_device(device))
    except (ValueError, WeightsError) as error:
        if verifier is not None:
            raise
        names = ", ".join(recorded)
        return _Scoring(missing=f"{names} can't be had by name, pass verifier= ({first_line(error).split('. ')[0]})")
    return _Scoring(tuple(one for one in found if one.kind == "score"))


def _check_same(result: SearchResult, verifiers: Sequence[Verifier]) -> None:
    here, searched = sorted(one.key for one in verifiers), sorted(_kinds(result))
    if here != searched:
        raise ValueError(f"the search was made with {', '.join(searched)}, and this is {', '.join(here)}")


def _kinds(result: SearchResult) -> dict[str, str]:
    """The kind of each recorded verifier, by its key."""
    return {f"{one['name']}@{one['version']}": one["kind"] for one in result.settings["verifier"]["verifiers"]}


def _own(result: SearchResult) -> tuple[Gain, dict[str, float]]:
    """The gain as recorded, and the spreads of the finished candidates' scores that are known."""
    pool = result.components()
    scores = {key: pool.get(key, np.empty(0)) for key, kind in _kinds(result).items() if kind == "score"}
    spreads = {key: found for key, values in scores.items() if math.isfinite(found := spread(values))}
    winner, first = ({key: one.scores.get(key, math.nan) for key in scores} for one in (result.best, result.first))
    # Without a spread, its own gain is a verifier's unit, so that all of an ensemble count alike.
    units = {key: spreads.get(key) or abs(winner[key] - first[key]) or 1.0 for key in scores}
    return Gain(winner, first, units), spreads


def _noise(result: SearchResult, model: Any, model_options: Mapping[str, Any] | None) -> NoiseReport:
    recipes = [result.best.recipe, result.first.recipe]
    found = rebuild(result, recipes, model, model_options)
    if found.skipped:
        return NoiseReport(skipped=found.skipped)
    winner, first = (noise_checks(row, found.axes) for row in found.rows)
    return NoiseReport(winner, first, renoised(recipes[0]))


def _prompts(result: SearchResult, asked: Sequence[str] | None, seed: int) -> tuple[str, ...]:
    if asked is None:
        return other_prompts(result.prompt, str(result.settings["model"].get("name")), seed)
    texts = (asked,) if isinstance(asked, str) else tuple(asked)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts) or result.prompt in texts:
        raise ValueError(f"wrong_prompts is {asked!r}; expected one or more texts other than the search's own prompt")
    return texts


def _scored_again(
    result: SearchResult, scoring: _Scoring, own: Gain, prompts: Sequence[str], device: str | torch.device | None
) -> tuple[Rescoring, WrongPrompts]:
    """Both tests that score the stored images again, or why they can't be made."""
    reason = scoring.missing or _unscorable(scoring.verifiers, result.best, result.first)
    if reason:
        return Rescoring({}, {}, {"all": reason}), WrongPrompts(math.nan, {}, {}, reason)
    place = torch.device(usable_device(device))
    pair = _pair(result.best, result.first, place)
    scorer = PairScorer(scoring.verifiers, own.units)
    before = scorer.gains([pair], [result.prompt])[0]
    rescoring = rescore(scorer, pair, result.prompt, before)
    return rescoring, _under_others(scoring.verifiers, pair, before, prompts)


def _under_others(verifiers: Sequence[Verifier], pair: Tensor, before: Gain, prompts: Sequence[str]) -> WrongPrompts:
    """The test by those verifiers that read prompts."""
    reading = [one for one in verifiers if reads_prompts(one)]
    right = before.by([one.key for one in reading])
    if not reading:
        names = ", ".join(one.name for one in verifiers)
        return WrongPrompts(math.nan, {}, {}, f"by {names}, which reads no prompt, the gain is the same for any")
    if not right.total > 0:
        return WrongPrompts(right.total, {}, {}, "the stored images show no gain by a verifier that reads prompts")
    return try_wrong(PairScorer(reading, right.units), pair, right, prompts)


def _unscorable(verifiers: Sequence[Verifier], winner: Candidate, first: Candidate) -> str:
    for one in verifiers:
        if "x0" in one.needs:
            return f"{one.name} needs x0 predictions, which changed images don't have"
    if first.failure is not None:
        return f"the first image has no score ({first.failure})"
    return "" if winner.raw is not None and first.raw is not None else "the images weren't kept"


def _pair(winner: Candidate, first: Candidate, device: torch.device) -> Tensor:
    assert winner.raw is not None and first.raw is not None
    return as_images([winner.raw, first.raw], device)


def _told(
    result: SearchResult,
    verdict: Verdict,
    own: tuple[Gain, dict[str, float]],
    noise: NoiseReport,
    rescoring: Rescoring,
    wrong: WrongPrompts,
    judges: tuple[Heldout, ...],
) -> Diagnosis:
    ids = result.best.id, result.first.id
    gain, spreads = own
    return Diagnosis(result.prompt, *ids, result.first_name, verdict, gain, noise, rescoring, wrong, judges, spreads)
