"""`compare()`: algorithms at equal NFE, on the same prompts and the same noises."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from noise_search.arguments import as_nfe, check_counts
from noise_search.comparison.cells import RANDOM, check_seeds, label, spaced_seeds
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.embedding import Features
from noise_search.comparison.running import Runner
from noise_search.comparison.schedule import Schedule
from noise_search.comparison.store import Store
from noise_search.identity import model_differences
from noise_search.models import load_model
from noise_search.prompt_sets import PromptSet, as_prompt_set
from noise_search.protocol import SearchAlgorithm
from noise_search.provenance import search_record
from noise_search.resolve import resolve_aggregator, resolve_algorithm, resolve_judges

log = logging.getLogger(__name__)

_MODEL_SETTINGS = ("steps", "guidance", "negative_prompt", "height", "width", "eta", "scheduler", "device", "dtype")
_SAME = ("steps", "verifier", "judges", "drafts")
"""Settings that all records of one directory share, beside the model; versions of libraries and devices may differ."""


def compare(
    prompts: str | Path | Sequence[Any] | PromptSet,
    *,
    model: Any = "shapes-flow",
    algorithms: Sequence[str | SearchAlgorithm] | Mapping[str, str | SearchAlgorithm] = (
        "random",
        "zero-order",
        "paths",
    ),
    budgets: Sequence[int] | None = None,
    candidates: Sequence[int] | None = None,
    verifier: Any = "clip",
    ensemble: str = "mean-rank",
    judges: Sequence[Any] = (),
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    pictured: int = 8,
    diagnosed: int | None = None,
    model_options: dict[str, Any] | None = None,
    draft_steps: int | None = None,
    draft_renders: int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> Comparison:
    """Which algorithm, at which budget, by how much, and did the images really get better.

    Every algorithm gets the same NFE, and random search's first noises are the first noises of all. Random search is
    always run: it is what the others are measured against. Where an algorithm declares that its candidates don't depend
    on the budget (`anytime`), one run of the largest budget gives every smaller one.

    Args:
        prompts: texts, a file of them, a prompt set or the name of one (`noise_search.prompt_sets`), with categories
            where it has them.
        model: as in `search()`.
        algorithms: names or objects, or a mapping from labels of your own to them.
        budgets: NFE, several; or `candidates`, whole trajectories. 4 and 16 candidates when neither is given.
        verifier, ensemble: what is searched by, as in `search()`.
        judges: held-out verifiers, which tell whether the images got better.
        seeds: how many, spaced so that no two share noises; or the seeds themselves.
        out: a directory to keep everything in. What is there already isn't run again: a comparison that was killed
            goes on, and one with more prompts, seeds, budgets or algorithms adds what is missing.
        pictured: of how many prompts, from the first on, `out` keeps the winners' images.
        diagnosed: of how many prompts, from the first on, every run's winner is diagnosed (`noise_search.diagnose`):
            about 26 images for the verifiers of each, and no NFE; None for all, 0 for none.
        model_options, draft_steps, draft_renders, batch_size: as in `search()`.
        progress: say the projected time before the start, and show a bar.
        settings: of the model, as in `search()`: steps, guidance, negative_prompt, height, width, eta, scheduler,
            device, dtype.

    Returns:
        The comparison. Ctrl-C returns what is complete by then, with a warning.

    Raises:
        ValueError: something that was asked for doesn't exist or can't work, or `out` was made with other settings.

    Example:
        table = noise_search.compare(["two yellow stars", "a red circle"], candidates=(4, 16), judges=["oracle"])
        print(table)
    """
    asked = as_prompt_set(prompts)
    families = dict(zip(asked.texts, asked.families, strict=True))  # a prompt that occurs twice is searched once
    texts = list(families)
    if strange := sorted(settings.keys() - set(_MODEL_SETTINGS)):
        raise TypeError(f"compare() takes no {', '.join(strange)}; of the model it takes {', '.join(_MODEL_SETTINGS)}")
    check_counts(least=0, pictured=pictured, diagnosed=diagnosed)
    chosen = _labelled(algorithms)
    loaded = load_model(
        model,
        options=model_options or {},
        first_prompt=texts[0],
        **{"eta": 0.0, "scheduler": "first-order", **settings},
    )
    aggregator = resolve_aggregator(verifier, loaded, ensemble)
    judging = resolve_judges(judges, loaded)
    with loaded.sampler as sampler:
        space = sampler.space()
    allowed = _budgets(budgets, candidates, space.end)
    most = max(allowed) // space.end
    noises = spaced_seeds(seeds, most) if isinstance(seeds, int) else check_seeds(seeds, most)
    features = Features((*aggregator.verifiers, *judging))
    made_with = {
        **search_record(loaded, aggregator, judging, noises[0], deterministic=False),
        "drafts": {"steps": draft_steps, "renders": draft_renders},
        "algorithms": {name: repr(one) for name, one in chosen.items()},
        "steps": space.end,
        "features": features.label,
        "asked": _asked(settings, ensemble=ensemble, model_options=model_options),
    }
    store = Store(None if out is None else Path(out))
    _check_same(store, made_with)
    for needed in (*aggregator.verifiers, *judging):
        needed.load(loaded.device)
    drafting = {"draft_steps": draft_steps, "draft_renders": draft_renders}
    options = {**settings, **drafting, "model_options": model_options, "batch_size": batch_size}
    groups, place = list(families.values()), loaded.device
    sharing = texts, groups, model, chosen, aggregator, judging, options, features
    runner = Runner(*sharing, store.directory, pictured, diagnosed, place)
    store.write_settings(made_with)
    schedule = Schedule(runner, store, allowed, noises, space.end)
    schedule.run(progress)
    records, pools = tuple(store.records.values()), tuple(store.pools.values())
    return Comparison(records, pools, made_with, store.directory, complete=not schedule.left())


def _asked(settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Arguments given beyond the defaults, as JSON; what has no form there is told in words."""
    given = {name: value for name, value in {**settings, **more}.items() if value is not None}
    return json.loads(json.dumps(given, default=str))  # type: ignore[no-any-return]


def _labelled(asked: Any) -> dict[str, SearchAlgorithm]:
    """Algorithms by label, random search among them."""
    if isinstance(asked, str) or not isinstance(asked, Mapping | Sequence):
        raise TypeError(f"algorithms is {asked!r}; expected several, such as ['random', 'zero-order']")
    if isinstance(asked, Mapping):
        found = {str(name): resolve_algorithm(one) for name, one in asked.items()}
    else:
        resolved = [resolve_algorithm(one) for one in asked]
        found = {label(one): one for one in resolved}
        if len(found) < len(resolved):
            raise ValueError(f"algorithms hold {[label(one) for one in resolved]}; expected different ones")
    random = resolve_algorithm(RANDOM)
    if repr(found.setdefault(RANDOM, random)) != repr(random):
        raise ValueError(f"label {RANDOM!r} is that of random search, which all are measured against; use another")
    return found


def _budgets(budgets: Sequence[int] | None, candidates: Sequence[int] | None, steps: int) -> tuple[int, ...]:
    if budgets is not None and candidates is not None:
        raise ValueError(f"budgets={budgets} and candidates={candidates} are both given; give one of them")
    given = (4, 16) if budgets is None and candidates is None else (budgets if candidates is None else candidates)
    several = [given] if isinstance(given, int) else list(given or ())
    if not several:
        raise ValueError("no budget was given; pass budgets=(80, 320) in NFE, or candidates=(4, 16)")
    nfe = [as_nfe(one, None, steps) if budgets is not None else as_nfe(None, one, steps) for one in several]
    return tuple(sorted(set(nfe)))


def _check_same(store: Store, made_with: Mapping[str, Any]) -> None:
    """Refuse to mix records that can't be compared.

    Raises:
        ValueError: the directory was made with another model, verifier, judge, number of steps or algorithm.
    """
    known = store.settings()
    if not known:
        return
    before, here = known.get("model", {}), json.loads(json.dumps(made_with["model"]))
    differences = model_differences(before, here)
    if before.get("dtype") != here.get("dtype"):
        differences.append(f"dtype is {here.get('dtype')} here, {before.get('dtype')} recorded")
    if differences:
        raise ValueError(
            f"{str(store.directory)!r} was made with another model: {'; '.join(differences)}: use another directory, "
            "or the same model"
        )
    if before.get("device") != here.get("device"):
        log.warning("the comparison goes on on %s, from %s: their seconds differ", here["device"], before["device"])
    for name in _SAME:
        if known.get(name) != json.loads(json.dumps(made_with[name])):
            raise ValueError(
                f"{str(store.directory)!r} was made with another {name}: {_shown(known.get(name))}; here it is "
                f"{_shown(made_with[name])}: use another directory, or the same settings"
            )
    for name, settings in known.get("algorithms", {}).items():
        if made_with["algorithms"].get(name, settings) != settings:
            raise ValueError(
                f"{str(store.directory)!r} has {name!r} as {settings}; here it is {made_with['algorithms'][name]}: "
                "give it another label"
            )


def _shown(value: Any) -> str:
    return json.dumps(value)[:200]
