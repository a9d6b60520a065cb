"""`diagnose()`: is the gain of one search real, or did it only please its verifier?"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noise_search.diagnosis.checks import (
    Gain,
    PairScorer,
    Rescoring,
    WrongPrompts,
    other_prompts,
    rescore,
    spread,
    try_wrong,
)
from noise_search.diagnosis.judges import heldout
from noise_search.diagnosis.noise import noise_report
from noise_search.diagnosis.report import Diagnosis
from noise_search.diagnosis.verdict import Verdict, judged
from noise_search.engine.scoring import as_images
from noise_search.engine.sources import Source, edited_sources, sources_record
from noise_search.image_scores import Declared, reads_prompts
from noise_search.models import ModelCard, read_card, usable_device
from noise_search.resolve import resolve_aggregator
from noise_search.results.result import SearchResult
from noise_search.shapes import EMBEDDED_MODELS
from samplers.base import Sampler
from samplers.said import first_line
from verifiers.aggregators.base import Aggregator
from verifiers.base import Verifier, WeightsError


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

    Nothing is generated, so no NFE is spent; a verifier scores about 26 images. Only judges that the search never saw
    can confirm a gain: of another family than its verifier, and on 8 candidates or more, since a pair says little. What
    is judged is what the search kept, so search with `judges=` and a `top_k` as large as the number of candidates; how
    often that tells is in `diagnosis/judges.py`. What can't be tested is skipped, with the reason.

    Args:
        result: of a search.
        verifier: the one that was searched with; by default what its recorded name means, which can't be told of a
            function, nor of one with options.
        model: the one that was searched; embedded models are opened by themselves. Without it noises aren't checked.
        wrong_prompts: texts that ask for something else; by default 8 of the embedded world for its models, else 8
            captions of everyday scenes.
        model_options: as in `replay()`; a verifier of edits scores with the source image among them.
        device: where images are scored; a GPU when None and there is one.
        seed: of the draw of wrong prompts.

    Raises:
        TypeError: no result of one search, or an object that can't score.
        ValueError: a verifier or model that isn't the search's, or no wrong prompt.
        AllCandidatesFailed: the search has no winner.

    Example:
        result = noise_search.search(
            "a red circle", algorithm="random", candidates=16, top_k=16, judges=["vlm", "oracle"]
        )
        print(noise_search.diagnose(result))
    """
    if not isinstance(result, SearchResult):
        raise TypeError(f"diagnose takes the SearchResult of one search, got a {type(result).__name__}")
    winner, first = result.best, result.first
    prompts = _prompts(result, wrong_prompts, seed)
    verifiers, missing = _verifiers(result, verifier, device)
    own, spreads = _own(result)
    noise = noise_report(result, model, model_options)
    judges = heldout(result)
    if winner.id == first.id:
        verdict = Verdict("no gain")
        rescoring, wrong = _untested("there is no gain", right=0.0)
    else:
        sources, unknown = _sources(result, verifiers, model, model_options)
        untestable = missing or _unscorable(result, verifiers) or unknown
        rescoring, wrong = (
            _untested(untestable) if untestable else _scored_again(result, verifiers, sources, own, prompts, device)
        )
        verdict = judged(own.total, noise.winner, rescoring, wrong, judges)
    about = result.prompt, winner.id, first.id, result.first_name
    return Diagnosis(*about, verdict, own, noise, rescoring, wrong, judges, spreads)


def _prompts(result: SearchResult, asked: Sequence[str] | None, seed: int) -> tuple[str, ...]:
    if asked is None:
        return other_prompts(result.prompt, str(result.settings["model"].get("name")), seed)
    texts = (asked,) if isinstance(asked, str) else tuple(asked)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts) or result.prompt in texts:
        raise ValueError(f"wrong_prompts is {asked!r}; expected one or more texts other than the search's own prompt")
    return texts


def _verifiers(result: SearchResult, verifier: Any, device: str | torch.device | None) -> tuple[list[Verifier], str]:
    """Of kind "score", those given, or those that the recorded names mean; else why they can't be had."""
    name = str(result.settings["model"].get("name"))
    declared = Declared(name, read_card(EMBEDDED_MODELS[name]) if name in EMBEDDED_MODELS else ModelCard())
    recorded = [one["name"] for one in result.settings["verifier"]["verifiers"]]
    try:
        found = resolve_aggregator(recorded if verifier is None else verifier, declared).verifiers
        here, searched = sorted(one.key for one in found), sorted(_kinds(result))
        if here != searched:
            raise ValueError(f"the search was made with {', '.join(searched)}, and this is {', '.join(here)}")
        for one in found:
            one.load(usable_device(device))
    except (ValueError, WeightsError) as error:
        if verifier is not None:
            raise
        why = first_line(error).split(". ")[0]
        return [], f"{', '.join(recorded)} can't be had by name, pass verifier= ({why})"
    return [one for one in found if one.kind == "score"], ""


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


def _untested(reason: str, right: float = math.nan) -> tuple[Rescoring, WrongPrompts]:
    return Rescoring({}, {}, {"all": reason}), WrongPrompts(right, {}, {}, reason)


def _unscorable(result: SearchResult, verifiers: Sequence[Verifier]) -> str:
    """Why the stored images can't be scored again, or ""."""
    for one in verifiers:
        if "x0" in one.needs:
            return f"{one.name} needs x0 predictions, which changed images don't have"
    if result.first.failure is not None:
        return f"the first image has no score ({result.first.failure})"
    return "the images weren't kept" if result.best.raw is None or result.first.raw is None else ""


def _sources(
    result: SearchResult, verifiers: Sequence[Verifier], model: Any, model_options: Mapping[str, Any] | None
) -> tuple[tuple[Source, ...], str]:
    """What the images were made from, as far as verifiers need it; else why it can't be had."""
    options = model.options if isinstance(model, Sampler) else model_options or {}
    try:
        sources = edited_sources(verifiers, options)
    except ValueError as error:
        return (), first_line(error)
    if sources and sources_record(sources)["sources"] != result.settings.get("sources"):
        raise ValueError("the source image in model_options is not the one that the search was scored with")
    return sources, ""


def _scored_again(
    result: SearchResult,
    verifiers: Sequence[Verifier],
    sources: Sequence[Source],
    own: Gain,
    prompts: Sequence[str],
    device: Any,
) -> tuple[Rescoring, WrongPrompts]:
    """Both tests that score the stored images again."""
    stored = [one.raw for one in (result.best, result.first) if one.raw is not None]
    pair = as_images(stored, torch.device(usable_device(device)))
    scorer = PairScorer(verifiers, own.units, sources)
    before = scorer.gains([pair], [result.prompt])[0]
    return rescore(scorer, pair, result.prompt, before), _under_others(verifiers, sources, pair, before, prompts)


def _under_others(
    verifiers: Sequence[Verifier], sources: Sequence[Source], pair: Tensor, before: Gain, prompts: Sequence[str]
) -> WrongPrompts:
    """The test by those verifiers that read prompts."""
    reading = [one for one in verifiers if reads_prompts(one)]
    right = before.by([one.key for one in reading])
    if not reading:
        names = ", ".join(one.name for one in verifiers)
        return WrongPrompts(math.nan, {}, {}, f"by {names}, which reads no prompt, the gain is the same for any")
    if not right.total > 0:
        return WrongPrompts(right.total, {}, {}, "the stored images show no gain by a verifier that reads prompts")
    return try_wrong(PairScorer(reading, right.units, sources), pair, right, prompts)
