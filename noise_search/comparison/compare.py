"""`compare()`: algorithms at equal NFE, on the same prompts, each with noises of its own that all algorithms share."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.algorithms.drafts import DraftSteps, plain
from noise_search.arguments import check_counts
from noise_search.choosing.features import Features
from noise_search.comparison.cells import RANDOM, as_seeds, label, own_noises
from noise_search.comparison.comparison import Comparison
from noise_search.comparison.records import Pool, Record
from noise_search.comparison.running import Runner, Schedule
from noise_search.comparison.store import Store, check_directory, check_noises, check_same, joined
from noise_search.engine.interrupts import OnInterrupt, resolved
from noise_search.engine.prompt_search import Limits
from noise_search.engine.setup import check_options, check_search, opened
from noise_search.engine.shares import Share, check_share
from noise_search.engine.sources import edited_sources, sources_record
from noise_search.engine.workers.asked import WorkersLike
from noise_search.engine.workers.asked import resolved as resolved_workers
from noise_search.engine.workers.asked import told as told_of
from noise_search.engine.workers.hiring import hired
from noise_search.previews import PreviewLike, check_preview, resolve_preview
from noise_search.prompt_sets import PromptSet, as_prompt_set
from noise_search.resolve import Knowledge, PriorLike, resolve_algorithm, resolve_calibration, resolve_prior
from noise_search.results.record import own_versions, search_record, settings_text
from noise_search.settings import ModelOptions, ModelSettings, spelt
from noise_search.tracking import Listener, LogLike
from noise_search.words import counted, printable
from samplers.base import Sampler
from samplers.contents import describe, recorded

log = logging.getLogger(__name__)


@spelt
def compare(
    prompts: str | Path | Sequence[Any] | PromptSet,
    *,
    model: Any = "shapes-flow",
    algorithms: Sequence[str | SearchAlgorithm] | Mapping[str, str | SearchAlgorithm] = ("random", "auto"),
    budgets: Sequence[int] | None = None,
    candidates: Sequence[int] | None = None,
    share: Share = "equal",
    target_score: float | None = None,
    verifier: Any = "clip",
    ensemble: str = "mean-z",
    judges: Sequence[Any] = (),
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
    pictured: int = 8,
    diagnosed: int | None = None,
    known: Sequence[Record | Pool] = (),
    pool_limit: int = 1,
    model_options: dict[str, Any] | None = None,
    draft_steps: DraftSteps | None = None,
    draft_renders: int | None = None,
    calibration: Knowledge = None,
    prior: PriorLike = None,
    batch_size: int | None = None,
    workers: WorkersLike = None,
    preview: PreviewLike = None,
    log: LogLike | None = None,
    on_interrupt: OnInterrupt | None = None,
    progress: bool = True,
    **settings: Unpack[ModelOptions],
) -> Comparison:
    """Which algorithm, at which budget, by how much, and did the images really get better.

    All algorithms may spend the same NFE, and random search's first noises are those of all. Each prompt has noises of
    its own, so that what one noise does to all images is no error that prompts share. Random search is
    always run: it is what the others are measured against. Where an algorithm declares that its candidates don't depend
    on the budget (`anytime`), one run of the largest budget gives every smaller one. With drafts, random search without
    them is run once more, at the largest budget: its candidates tell what a whole random candidate is worth.

    Args:
        prompts: texts, a file of them, a prompt set or the name of one (`noise_search.prompt_sets`), with categories
            where it has them.
        model: as in `search()`.
        algorithms: names or objects, or a mapping from labels of your own to them.
        budgets: NFE, several; or `candidates`, whole trajectories. 4 and 16 candidates when neither is given.
        share: how prompts share the budgets, as in `search()`, of all algorithms but random search, which they are
            measured against. A budget is then what each prompt adds to the pool, and a record's NFE what its prompt
            took. How many random candidates a search is worth isn't told, as prompts don't get equally many.
        target_score: at which prompts stop that share their budgets; the table says how often it was reached.
        verifier, ensemble: what is searched by, as in `search()`.
        judges: held-out verifiers, which tell whether the images got better; none may be one of the verifiers. They
            see every candidate of random search, and of the others the first image and every new best. The timing
            before a start, left out where less than 8 trajectories are to be run, spends 3 to 5 candidates more, which
            verifiers and judges score.
        seeds: how many, spaced so that no two share noises; or the seeds themselves.
        out: a directory to keep everything in, new, empty or a comparison's. What is there already isn't run again: a
            comparison that was killed goes on, and one with more prompts, seeds, budgets or algorithms adds what is
            missing. Functions and algorithms of your own are told by their attribute `version`, else by their code.
        overwrite: begin anew where `out` holds a comparison; of the files there, only what it wrote is removed.
        pictured: of how many prompts, from the first on, `out` keeps the winners' images.
        diagnosed: of how many prompts, from the first on, every run's winner is diagnosed (`noise_search.diagnose`):
            about 26 images for the verifiers of each, and no NFE; None for all, 0 for none.
        known: records and pools of searches that were run elsewhere with the same settings; they aren't run again, and
            other algorithms begin from their noises.
        pool_limit: how many times the largest budget random search's candidates may take, a bill of their own: they
            are doubled until the best of them surely passes every algorithm's score, as what lies beyond has no
            worth but a bound. With 1 nothing can be worth more than 1 at the largest budget.
        prior: as in `search()`, of all algorithms but the label "random", which is what they are measured against: give
            `{"random, prior": RandomSearch()}` to see what the prior alone is worth. All prompts then share the
            prior's noises, and intervals, which are over prompts, hold for these noises alone.
        calibration, model_options, draft_steps, draft_renders, batch_size: as in `search()`.
        workers: as in `search()`; the same ones run all searches, and load their models once.
        preview: as in `search()`, of algorithms that score x0 predictions on the way.
        log: where the searches are followed, as in `search()`: of each prompt in each search a run, named by algorithm,
            NFE and seed, in one group. What `out` has already isn't told again, nor is the timing before a start.
        on_interrupt: as in `search()`: after Ctrl-C, "return" what is complete by then, or "raise" KeyboardInterrupt
            with it as `error.comparison`.
        progress: say the projected time before the start, and show a bar.
        settings: of the model, as in `search()`: steps, guidance, negative_prompt, height, width, eta, scheduler,
            device, dtype, lora, offload, variant, revision, compile.

    Returns:
        The comparison; after Ctrl-C what is complete by then, with a warning, as `on_interrupt` says.

    Raises:
        ValueError: something that was asked for doesn't exist or can't work, for any of the algorithms and budgets, or
            `out` was made with other settings or holds something else; nothing has been computed then.
        Exception: what ended a search. Its attribute `comparison` holds what was complete before, if anything was.

    Example:
        table = noise_search.compare(["two yellow stars", "a red circle"], candidates=(4, 16), judges=["oracle"])
        print(table)
    """
    if out is not None:
        check_directory(Path(out), overwrite)
    families = _families(as_prompt_set(prompts))
    texts = list(families)
    check_counts(least=0, pictured=pictured, diagnosed=diagnosed)
    check_counts(pool_limit=pool_limit)
    listener = None if log is None else Listener(log)
    resolved(on_interrupt)
    drafting: dict[str, Any] = {"draft_steps": draft_steps, "draft_renders": draft_renders}
    check_options(batch_size=batch_size, **drafting)
    hiring = resolved_workers(workers)
    check_preview(preview)
    if target_score is not None and share == "equal":
        raise ValueError(
            f"target_score={target_score} stops prompts that share their budgets: give share='threshold' or "
            "'difficulty' with it, or leave it out"
        )
    limits = Limits(target_score=target_score)
    chosen = _labelled(algorithms)
    settled: ModelOptions = {"eta": 0.0, "scheduler": "auto", **settings}
    asked = ModelSettings(**settled, options=model_options or {})
    loaded, aggregator, judging = opened(model, asked, texts[0], list(chosen.values()), verifier, ensemble, judges)
    limits.check(aggregator, finished=aggregator.freeze_after or 0)
    for name, one in chosen.items():
        check_share("equal" if name == RANDOM else share, one, aggregator, target_score, draft_steps is not None)
    scoring = (*aggregator.verifiers, *judging)
    sources = edited_sources(scoring, loaded.sampler.options)
    with loaded.sampler as sampler:
        space = sampler.space()
    small = resolve_preview(preview, loaded, space)
    allowed = _budgets(budgets, candidates, space.end)
    drafted = None if draft_steps is None else plain(draft_steps)
    each = min(space.end, len(drafted) if isinstance(drafted, list) else drafted or space.end)
    drawn = max(max(allowed) // each, max(allowed) // space.end * pool_limit)
    if share != "equal":  # one prompt may get what all have
        drawn *= len(texts)
    noises = as_seeds(seeds, drawn)
    store = Store(None if out is None else Path(out), writing=True, overwrite=overwrite)
    features = Features(scoring, known=store.settings().get("features"))
    made_with = {
        **search_record(loaded, aggregator, judging, noises[0], deterministic=False),
        **sources_record(sources),
        "drafts": {"steps": drafted, "renders": draft_renders},
        "algorithms": {name: settings_text(one) for name, one in chosen.items()},
        "own": own_versions(chosen, aggregator),
        "steps": space.end,
        "features": features.label,
        "asked": _asked(settings, ensemble=ensemble, model_options=model_options),
    }
    if share != "equal":  # what a prompt gets depends on all of them
        among = hashlib.sha256("\n".join(sorted(texts)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        made_with["share"] = {"rule": share, "target_score": target_score, "prompts": f"{len(texts)} ({among})"}
    if calibration is not None:  # it moves rungs, so records of one don't go with those of another
        measured = resolve_calibration(calibration, loaded.facts, space.end, aggregator)
        made_with["calibration"] = None if measured is None else measured.to_json(scores=False)
    if small is not None:
        made_with["preview"] = small.record()
    seeds_known = resolve_prior(prior, loaded.facts, space.end, aggregator)
    if seeds_known is not None:
        made_with["prior"] = seeds_known.record()
    check_same(store, made_with)
    check_noises(store, noises, drawn, each)
    known = [one for one in known if one not in store]
    there = {one.prompt: one.offset or 0 for one in (*store.pools.values(), *known)}
    there |= {one.prompt: one.offset or 0 for one in store.records.values()}
    offsets = own_noises(texts, noises, drawn, there)
    for one in chosen.values():
        for nfe in allowed:
            kept = settled["scheduler"] == "keep"
            check_search(one, loaded, aggregator, judging, nfe=nfe, kept=kept, **drafting)
    for needed in scoring:
        needed.load(loaded.device)
        needed.check(texts)
    options: dict[str, Any] = {
        **settings,
        **drafting,
        "model_options": model_options,
        "batch_size": batch_size,
        "calibration": calibration,
        "prior": seeds_known,
        "preview": preview,
    }
    if settled["scheduler"] == "auto" and not isinstance(model, Sampler):  # all algorithms on the same scheduler
        options["scheduler"] = "keep" if loaded.described.get("rule") == "kept" else "first-order"
    as_run = replace(asked, scheduler=options.get("scheduler", settled["scheduler"]))
    hand = {
        "model": model,
        "settings": as_run,
        "verifier": verifier,
        "ensemble": ensemble,
        "timeout": None,
        "preview": preview,
    }
    telling = told_of(hiring, loaded, aggregator, first_prompt=texts[0], **hand)
    runner = Runner(
        families,
        model,
        chosen,
        aggregator,
        judging,
        options,
        features,
        directory=store.directory,
        pictured=pictured,
        diagnosed=diagnosed,
        device=loaded.device,
        offsets=offsets,
        share=share,
        target=target_score,
        log=listener,
        title=f"comparison, {time.strftime('%Y-%m-%d %H:%M:%S')}",
    )
    made_with = joined(store, made_with)
    store.write_settings(made_with)
    store.add(known)
    schedule = Schedule(runner, store, allowed, noises, space.end, pool_limit)
    try:
        with ExitStack() as held:
            if hiring is not None and (schedule.left() or schedule.growing(None)):
                options["workers"] = held.enter_context(hired(hiring, telling))
            whole = schedule.run(progress)
    except Exception as error:
        _attach(error, _found(store, made_with, complete=False))
        raise
    found = _found(store, made_with, complete=not schedule.left())
    if not whole and resolved(on_interrupt) == "raise":
        interruption = KeyboardInterrupt()
        interruption.comparison = found  # type: ignore[attr-defined]
        raise interruption
    return found


def _found(store: Store, made_with: Mapping[str, Any], complete: bool) -> Comparison:
    records, pools = tuple(store.records.values()), tuple(store.pools.values())
    return Comparison(records, pools, made_with, store.directory, complete=complete)


def _attach(error: Exception, found: Comparison) -> None:
    """Let an error carry what was complete before it, and say where that is."""
    if not found.records:
        return
    error.comparison = found  # type: ignore[attr-defined]
    kept = "in this error's attribute `comparison`"
    if found.directory is not None:
        kept = f"in {str(found.directory)!r}, where the same call goes on"
    error.add_note(f"complete before: {counted(len(found.records), 'record')}, {kept}")


def _families(asked: PromptSet) -> dict[str, str]:
    """The family of each text, which is searched once: the first one where it has several, with a warning."""
    found: dict[str, str] = {}
    other = [
        (text, family)
        for text, family in zip(asked.texts, asked.families, strict=True)
        if found.setdefault(text, family) != family
    ]
    if other:
        text, family = other[0]
        log.warning(
            "%d prompts occur in several families and count for the first, such as %s, in %r and %r",
            len({text for text, _ in other}),
            printable(repr(text)),
            found[text],
            family,
        )
    return found


def _asked(settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Arguments given beyond the defaults, as JSON; what has no form there is told in words."""
    given = {name: value for name, value in {**settings, **more}.items() if value is not None}
    return json.loads(json.dumps(given, default=_told))  # type: ignore[no-any-return]


def _told(value: Any) -> str:
    """An image or tensor by what it contains, as others would have its address in their words."""
    content = recorded(value)
    return describe(content) if isinstance(content, dict) and "sha256" in content else str(value)


def _labelled(asked: Any) -> dict[str, SearchAlgorithm]:
    """Algorithms by label, random search among them."""
    if isinstance(asked, str) or not isinstance(asked, Mapping | Sequence):
        raise TypeError(f"algorithms is {asked!r}; expected several, such as ['random', 'zero-order']")
    if not asked:
        raise ValueError(f"algorithms={asked!r} holds none; expected at least one, such as ['zero-order']")
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
    several = [given] if isinstance(given, int | np.integer) else list(given or ())
    if not several:
        raise ValueError("no budget was given; expected NFE such as 80 and 320, or candidates such as 4 and 16")
    name, least, each = ("budgets", steps, 1) if budgets is not None else ("candidates", 1, steps)
    for one in several:
        try:
            check_counts(**{name: one}, least=least)
        except ValueError as error:
            raise ValueError(
                f"{error}, one trajectory of {counted(steps, 'step')}: allow more, or take fewer steps"
            ) from None
    return tuple(sorted({int(one) * each for one in several}))
