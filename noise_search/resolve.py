"""Short names to objects: algorithms, verifiers and judges, with what the model declares coming first."""

import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import verifiers
from noise_search.algorithms import ALGORITHMS
from noise_search.algorithms.base import SearchAlgorithm
from noise_search.algorithms.knowledge import Calibration, ModelFacts, SeedPrior, VerifierFacts
from noise_search.models import CARD, ModelCard
from noise_search.shapes import EMBEDDED_MODELS, EMBEDDED_VERIFIERS, embedded_verifier
from noise_search.words import counted, unknown
from verifiers.aggregators.base import Aggregator
from verifiers.aggregators.ranks import ENSEMBLE, ENSEMBLES, as_aggregator
from verifiers.base import FunctionVerifier, Verifier, same, told_apart

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Named:
    """A verifier by name, with options over what the searched model declares under it, or else over the defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Declares(Protocol):
    """What names are resolved for: a `LoadedModel`, or its name and card alone."""

    @property
    def name(self) -> str:
        """Of the model, for messages."""

    @property
    def card(self) -> ModelCard:
        """States the verifiers that the model declares."""


def resolve_algorithm(algorithm: str | SearchAlgorithm) -> SearchAlgorithm:
    """An algorithm by its name, or the object itself.

    Raises:
        ValueError: an unknown name.
        TypeError: an object without a plan.
    """
    if isinstance(algorithm, str):
        if algorithm not in ALGORITHMS:
            raise unknown("algorithm", algorithm, ALGORITHMS)
        return ALGORITHMS[algorithm]()
    if isinstance(algorithm, type) or not isinstance(algorithm, SearchAlgorithm):
        raise TypeError(
            f"algorithm {algorithm!r} is not a search algorithm; expected a name ({', '.join(ALGORITHMS)}) or an "
            "object with name, whole_calls and plan(problem), such as RandomSearch()"
        )
    return algorithm


def resolve_aggregator(asked: Any, model: Declares, ensemble: str = ENSEMBLE) -> Aggregator:
    """What ranks candidates: one verifier, several by the `ensemble` of this name, or an aggregator.

    Raises:
        ValueError: an unknown name, or a way to combine verifiers beside an aggregator that has its own.
        TypeError: an object that can't score.
    """
    if ensemble not in ENSEMBLES:
        raise unknown("ensemble", str(ensemble), ENSEMBLES)
    if isinstance(asked, type) and issubclass(asked, Aggregator):
        raise TypeError(f"verifier {asked.__name__} is a class; give it its verifiers: {asked.__name__}('clip', ...)")
    if isinstance(asked, Aggregator):
        if ensemble != ENSEMBLE:
            raise ValueError(
                f"ensemble={ensemble!r} beside {asked.name}, which combines its own verifiers: leave it out"
            )
        return asked.resolved(lambda name: resolve_verifier(name, model))
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        if not asked:
            raise ValueError("no verifier was given; name at least one, such as verifier='clip'")
        return as_aggregator([resolve_verifier(one, model) for one in asked], ensemble)
    return as_aggregator(resolve_verifier(asked, model))


def resolve_judges(asked: Any, model: Declares, searched: Sequence[Verifier]) -> tuple[Verifier, ...]:
    """Judges, resolved like verifiers, and held out from what is `searched` by.

    Raises:
        ValueError: as of a verifier, or a judge is one of those searched by.
    """
    if asked is None:
        return ()
    several = asked if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    found = told_apart([resolve_verifier(one, model, what="judge") for one in several], beside=searched)
    for one in found:
        if any(same(one, other) for other in searched):
            raise ValueError(
                f"judge {one.name!r} is a verifier of the search, too ({one.key}), and judges are held out from it, to "
                "tell whether images got better: leave it out, or name another judge"
            )
    return found


def resolve_verifier(
    asked: str | Named | Verifier | Callable[..., Any], model: Declares, what: str = "verifier"
) -> Verifier:
    """A verifier by name, with options or without, by function, or the object itself.

    A name means what the model declares under it; else one of the embedded world's full names; else the published
    default of `verifiers.load`.

    Raises:
        ValueError: an unknown name, or an embedded verifier's short name for another model.
        TypeError: an object that can't score.
    """
    if isinstance(asked, Verifier):
        return asked
    if isinstance(asked, str):
        return _by_name(Named(asked), model, what)
    if isinstance(asked, Named):
        return _by_name(asked, model, what)
    if isinstance(asked, type) or not callable(asked):
        raise TypeError(f"{what} {asked!r} can't score; expected a name, a Verifier object or a function")
    return FunctionVerifier(asked)


def _by_name(named: Named, model: Declares, what: str) -> Verifier:
    declared, name = model.card.verifiers, named.name
    if name in declared:
        return declared_verifier({**declared[name], **named.options}, model)
    if name in EMBEDDED_VERIFIERS:
        if model.name not in EMBEDDED_MODELS:
            log.warning("%s %s was trained on the embedded world only; it scores %s by request", what, name, model.name)
        return embedded_verifier({**EMBEDDED_VERIFIERS[name], **named.options})
    if name == "oracle":
        raise ValueError(f"{what} 'oracle' reads the embedded world by rule, and is not declared for {model.name}")
    published = verifiers.available()
    if name not in published:
        raise unknown(what, name, {*published, *declared, *EMBEDDED_VERIFIERS})
    return _loaded(name, named.options)


def declared_verifier(settings: Mapping[str, Any], model: Declares) -> Verifier:
    """Build a verifier from a model's card; paths are relative to the card."""
    options = dict(settings)
    kind = options.pop("kind", None)
    if kind == "oracle":
        return embedded_verifier(settings)
    directory = model.card.directory
    for key in ("model", "weights"):
        if directory is not None and str(options.get(key, "")).startswith("."):
            path = (directory / options[key]).resolve()
            if not path.exists():
                raise ValueError(f"{directory / CARD} names {options[key]!r}, and there is no {path}; correct the card")
            options[key] = str(path)
    if not isinstance(kind, str) or kind not in verifiers.available():
        raise unknown("kind of verifier in the model's card", str(kind), {*verifiers.available(), "oracle"})
    return _loaded(kind, options)


def _loaded(name: str, options: Mapping[str, Any]) -> Verifier:
    found = verifiers.load(name, **options)
    if not isinstance(found, Verifier):
        raise ValueError(
            f"{name!r} with mode='pairs' scores no image by itself: leave mode out; result.choose() takes it"
        )
    return found


def verifier_facts(aggregator: Aggregator) -> VerifierFacts:
    """What an algorithm may know of what ranks its candidates."""
    return VerifierFacts(
        keys=tuple(one.key for one in aggregator.verifiers),
        absolute=aggregator.absolute,
        pooled=not aggregator.absolute and not aggregator.unfrozen,
        finished=any("x0" in one.needs for one in aggregator.verifiers),
        prompt_agnostic=all(one.prompt_agnostic for one in aggregator.scores),
        paid=any(one.paid for one in aggregator.verifiers),
    )


CALIBRATIONS = Path(__file__).parent / "data" / "calibrations.json"
"""Those of the embedded models."""

Knowledge = Calibration | Sequence[Calibration] | str | Path | None
"""What users give for a calibration: one of each verifier, or a file of them; None for those that are shipped."""


def read_calibrations(file: Path) -> tuple[Calibration, ...]:
    """The calibrations in a file.

    Raises:
        ValueError: no such file, or another content.
    """
    if not file.is_file():
        raise ValueError(f"no calibration at {file}; noise_search.calibrate(...).save({str(file)!r}) writes one")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return tuple(Calibration.from_json(one) for one in (content if isinstance(content, list) else [content]))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} can't be read as a calibration: {error}") from error


@functools.cache
def _shipped() -> tuple[Calibration, ...]:
    return read_calibrations(CALIBRATIONS) if CALIBRATIONS.exists() else ()


def resolve_calibration(asked: Knowledge, model: ModelFacts, steps: int, aggregator: Aggregator) -> Calibration | None:
    """What is known of a model under these verifiers; None where any of them wasn't measured and none was asked for.

    Raises:
        ValueError: one was asked for, and it is of another model, of other steps or of other verifiers.
    """
    if isinstance(asked, str | Path):
        asked = read_calibrations(Path(asked))
    if not (asked is None or isinstance(asked, Calibration) or hasattr(asked, "__iter__")):
        raise TypeError(f"calibration={asked!r:.40} must be what calibrate() returns, or a file of it")
    given = _shipped() if asked is None else (asked,) if isinstance(asked, Calibration) else tuple(asked)
    fitting = {one.verifier: one for one in given if one.model == model.identity and one.steps == steps}
    keys = [one.key for one in aggregator.scores]
    if all(key in fitting for key in keys):
        return Calibration.joint([fitting[key] for key in keys]) if len(keys) > 1 else fitting[keys[0]]
    if asked is None:
        return None
    of = "; ".join(f"model {one.model}, {one.steps} steps, {one.verifier}" for one in given) or "nothing"
    raise ValueError(
        f"calibration is of {of}, and this search of model {model.identity}, {steps} steps, {', '.join(keys)}: "
        "calibrate() with these settings (its scheduler among them), or leave it out"
    )


PriorLike = SeedPrior | str | Path | None
"""What users give for a prior: what `learn_prior` returns, or a file of it."""


def read_prior(file: Path) -> SeedPrior:
    """The prior in a file.

    Raises:
        ValueError: no such file, or another content.
    """
    if not file.is_file():
        raise ValueError(f"no prior at {file}; noise_search.learn_prior(..., out={str(file)!r}) writes one")
    try:
        return SeedPrior.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} can't be read as a prior: {error}") from error


def resolve_prior(asked: PriorLike, model: ModelFacts, steps: int, aggregator: Aggregator) -> SeedPrior | None:
    """What seeds are worth for a model under this verifier; None where none was asked for, or none that is trusted.

    Raises:
        ValueError: it is of another model, of other steps or of another verifier.
        TypeError: something else.
    """
    if asked is None:
        return None
    prior = read_prior(Path(asked)) if isinstance(asked, str | Path) else asked
    if not isinstance(prior, SeedPrior):
        raise TypeError(f"prior={asked!r:.40} must be what learn_prior() returns, or a file of it")
    keys = [one.key for one in aggregator.scores]
    if (prior.model, prior.steps, [prior.verifier]) != (model.identity, steps, keys):
        raise ValueError(
            f"prior is of model {prior.model}, {counted(prior.steps, 'step')}, {prior.verifier}, and this search of "
            f"model {model.identity}, {counted(steps, 'step')}, {', '.join(keys)}: learn_prior() with these settings "
            "(size, guidance and scheduler among them) and one verifier, or leave it out"
        )
    if not prior.trusted:
        log.warning(
            "the prior isn't used: its seeds' means over halves of its %s correlate by %.2f, and %.2f is needed",
            counted(prior.prompts, "prompt"),
            prior.reliability,
            prior.TRUSTED,
        )
        return None
    return prior
