"""`search()`: the one driver, and the only spender of NFE."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch

from noise_search.algorithms.base import SearchAlgorithm
from noise_search.arguments import HasText, as_prompts, check_callable, check_counts, check_flags, prompt_seeds
from noise_search.engine.evaluator import Evaluator, Outcome, Work
from noise_search.engine.interrupts import Interrupts, OnInterrupt, resolved
from noise_search.engine.judging import judge
from noise_search.engine.progress import Reporter
from noise_search.engine.prompt_search import Limits, PromptSearch
from noise_search.engine.setup import SearchOptions, VerifierLike, check_able, check_options, opened, set_up
from noise_search.engine.shares import Purse, Share, Shares, check_share
from noise_search.engine.sources import sources_record
from noise_search.engine.worker import LocalWorker
from noise_search.resolve import Knowledge, PriorLike, resolve_algorithm
from noise_search.results.candidate import Candidate
from noise_search.results.record import knowledge_record, sampler_record, search_record, unread_record
from noise_search.results.result import SearchResult
from noise_search.settings import ModelSettings, Offload, Scheduler, spelt
from samplers.base import Sampler

log = logging.getLogger(__name__)


@overload
def search(prompt: str, **options: Unpack[SearchOptions]) -> SearchResult: ...  # type: ignore[overload-overlap]  # a text


@overload
def search(prompt: Sequence[str | HasText], **options: Unpack[SearchOptions]) -> list[SearchResult]: ...


@spelt
def search(
    prompt: str | Sequence[str | HasText],
    *,
    model: Any = "shapes-flow",
    algorithm: str | SearchAlgorithm = "auto",
    verifier: VerifierLike | Sequence[VerifierLike] = "clip",
    ensemble: str = "mean-z",
    nfe: int | None = None,
    candidates: int | None = None,
    share: Share = "equal",
    seed: int | Sequence[int] = 0,
    judges: Sequence[VerifierLike] = (),
    steps: int | None = None,
    baseline: bool = True,
    calibration: Knowledge = None,
    prior: PriorLike = None,
    draft_steps: int | None = None,
    draft_renders: int | None = None,
    guidance: float | None = None,
    negative_prompt: str | None = None,
    height: int | None = None,
    width: int | None = None,
    eta: float = 0.0,
    scheduler: Scheduler = "auto",
    check: bool = True,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    lora: str | Path | Sequence[str | Path] | None = None,
    offload: Offload | None = None,
    variant: str | None = None,
    revision: str | None = None,
    model_options: dict[str, Any] | None = None,
    batch_size: int | None = None,
    deterministic: bool = False,
    time_limit: float | None = None,
    target_score: float | None = None,
    patience: int | None = None,
    top_k: int = 8,
    on_candidate: Callable[[Candidate], None] | None = None,
    on_interrupt: OnInterrupt | None = None,
    progress: bool = True,
) -> SearchResult | list[SearchResult]:
    """Find the noise whose image the verifier likes best, within a budget of NFE.

    Args:
        prompt: what to generate; a sequence of prompts, or a set of them, is searched in lockstep, with a budget each
            or one that they `share`.
        model: an embedded model's name ("shapes-flow", "shapes-ddim"), a diffusers pipeline object, a directory or hub
            id that `DiffusionPipeline.from_pretrained` takes, or a `samplers.base.Sampler`.
        algorithm: a name of `noise_search.ALGORITHMS` or an object with a `plan`.
        verifier: a name ("clip", "aesthetic"), a verifier, a function of images and prompts, an aggregator such as
            `MeanZ("clip", "aesthetic")`, or several of the first three, which are combined by the `ensemble`.
        ensemble: how several verifiers are combined: "mean-z" or "min-z", the mean or the smallest of z-scores against
            the prompt's own first 8 finished candidates (or the job that its algorithm marks as reference), or
            "mean-rank", the paper's. One verifier is its own value.
        nfe: the budget. 1 NFE is one denoiser evaluation of one candidate; guidance doesn't double it.
        candidates: the budget in whole trajectories, instead of `nfe`; 32 when neither is given.
        share: how several prompts share their budgets. "equal": each has its own. "threshold": a prompt that reached
            the `target_score` leaves what it didn't need to those that haven't. "difficulty": each gets 4 candidates
            first, and every further one goes where it is expected to bring most by the scores so far: to the prompt
            that will most likely reach the target, or without one to that whose best will rise most. For algorithms
            whose candidates don't depend on the budget, random and zero-order search; "auto" takes random search.
            Each result's ledger says what its prompt was granted. One prompt alone has everything.
        seed: of the first noise: noise i of random search is seed + i, modulo 2**32. Space the seeds of independent
            searches by more than their candidates. Of several prompts all begin with it, or each with its own where
            several are given.
        judges: scored after the search on the first image, the top k and every new best; the search never sees them, so
            none may be one of the verifiers. `diagnose()` needs 8 judged candidates or more: `top_k` as large as the
            number of candidates has all judged.
        steps: denoising steps of a trajectory; the model's default when None.
        baseline: whether random search's noise 0 is finished in any case, so that `first_score` is what one plain
            sample gives; False lets it be pruned, and leaves `first_score` None where it was.
        calibration: what `calibrate()` measured of the model under these verifiers, or a file of it; the embedded
            models bring theirs.
        prior: what `learn_prior()` learned of the worth of seeds on other prompts, or a file of it. Behind noise 0
            come its better seeds, best first, and then seed + 1, seed + 2, ...: so two searches of a prompt share
            them whatever their seeds, and so do all prompts. One that isn't trusted isn't used, which is said.
        draft_steps: search with cheap trajectories of so many steps, and render only the best noises in full; for
            algorithms that search over step-0 noises. Everything is charged, noise 0 is rendered in full first.
        draft_renders: how many noises to render in full after the drafts, 4 when None; at most half of the budget that
            noise 0 leaves goes there.
        guidance: the guidance scale; the model's default when None.
        negative_prompt: the model's default when None.
        height, width: of the images in pixels; the model's default when None.
        eta: stochasticity of the DDIM step in [0, 1], 0 deterministic.
        scheduler: "keep" runs the pipeline's own scheduler as it is, for algorithms that only run whole trajectories;
            "first-order" replaces it by a first-order rule on its grid, which can stop on the way; "auto" takes the
            first where the algorithm allows it, else the second.
        check: whether a pipeline of a class outside the table of tested ones is looked at, for a few NFE beside the
            budget, once for each class and kind of options: is a run the plain pipeline's, and a row alone the row in a
            batch? Where not, less is done with it; see `noise_search.check`.
        device, dtype: of a model that is loaded here; a pipeline object stays where it is, and as it is.
        lora: LoRAs to put on a model that is loaded here: safetensors files or hub ids (owner/name, or
            owner/name/file.safetensors), one or several, each with ":0.8" behind it for another scale than 1.
        offload: of a model that is loaded here, what waits on the CPU for its turn on the accelerator: "model" the
            parts of the pipeline, "group" their layers, "sequential" layers too, slower and smallest.
        variant: of the weights of a model that is loaded here, such as "fp16".
        revision: commit, tag or branch of a model that is loaded from the hub.
        model_options: further arguments of the pipeline's call, such as its images (PIL or tensors); the `image` among
            them, or else `images`, is the source that verifiers and judges of edits get.
        batch_size: candidates per micro-batch; chosen from the latents' size when None, halved when memory runs out.
        deterministic: pad every micro-batch to the same shape, so that equal environments give equal bytes.
        time_limit: seconds after which no further micro-batch starts.
        target_score: stop once the best score reaches it; z-scores have such a value once their reference is frozen.
        patience: stop after so many candidates without a new best.
        top_k: images to keep besides the first and every new best.
        on_candidate: called with every scored candidate.
        on_interrupt: what Ctrl-C does once there is a candidate: "return" the best so far, or "raise" KeyboardInterrupt
            with it as `error.result`. By default the first in a notebook or at a prompt, the second in a script. It is
            heeded after the running micro-batch; a second Ctrl-C raises at once.
        progress: show the cost and a bar over NFE.

    Returns:
        A `SearchResult`, or a list of them in the order of the prompts. Errors and limits return the best so far with
        `stop_reason` set, as soon as there is one; so does Ctrl-C, as `on_interrupt` says.

    Raises:
        ValueError: something that was asked for doesn't exist or can't work; nothing has been computed then.
        AllCandidatesFailed: no candidate has a usable image and score. Among many prompts, one that failed comes back
            as a result with `failed` set.
        KeyboardInterrupt: Ctrl-C, as `on_interrupt` says.

    Example:
        result = noise_search.search("a red circle to the left of a blue square", nfe=640, judges=["oracle"])
        result.image.save("best.png")
    """
    prompts = as_prompts(prompt)
    chosen = resolve_algorithm(algorithm)
    limits = Limits(time_limit, target_score, patience)
    seeds = prompt_seeds(seed, prompts)
    check_counts(top_k=top_k)
    check_callable(on_candidate=on_candidate)
    check_flags(deterministic=deterministic, progress=progress, baseline=baseline)
    on_interrupt = resolved(on_interrupt)
    check_options(batch_size=batch_size, draft_steps=draft_steps, draft_renders=draft_renders)
    asked = ModelSettings(
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        eta=eta,
        scheduler=scheduler,
        check=check,
        device=device,
        dtype=dtype,
        lora=lora,
        offload=offload,
        variant=variant,
        revision=revision,
        options=model_options or {},
    )
    loaded, aggregator, judging = opened(model, asked, prompts[0], [chosen], verifier, ensemble, judges)
    limits.check(aggregator, finished=aggregator.freeze_after or 0)
    check_share(share, chosen, aggregator, target_score, draft_steps is not None)
    check_able(chosen, loaded, scheduler == "keep", aggregator.verifiers, judging)
    for needed in (*aggregator.verifiers, *judging):
        needed.load(loaded.device)
        needed.check(prompts)
    with Interrupts() as interrupts:
        with _opened(loaded.sampler):
            started = time.perf_counter()
            # Conditions come first: the sampler may look at its grid through a call with the first prompt.
            conditions = [loaded.sampler.condition(text) for text in prompts]
            budget, drafts = (nfe, candidates), (draft_steps, draft_renders)
            setup = set_up(chosen, loaded, aggregator, judging, *budget, *drafts, baseline, calibration, prior, share)
            if not getattr(setup.algorithm, "refers", False):
                limits.check(aggregator, setup.finished)
            terms, predictions = setup.terms, setup.predictions
            encoding = time.perf_counter() - started
            pool, shared = terms.nfe_total * len(prompts), share != "equal"
            purse = Purse(Shares(share, target_score), pool, terms.space.end) if shared else None
            searches = [
                PromptSearch(i, text, terms, condition, aggregator, setup.algorithm, first, top_k, limits, shared)
                for i, (text, condition, first) in enumerate(zip(prompts, conditions, seeds, strict=True))
            ]
            for one in searches:
                one.ledger.seconds["text"] += encoding / len(searches)
            searches[0].ledger.check_nfe = loaded.check_nfe
            size = int(batch_size or _batch_size(terms.space.shape))
            ledgers = [one.ledger for one in searches]
            prediction = setup.prediction(target_score)
            reporter = Reporter(searches, aggregator, loaded, setup, prediction, progress)
            worker = LocalWorker(loaded.sampler, aggregator.verifiers, reporter.on_step, setup.sources)
            evaluator = Evaluator(worker, prompts, ledgers, size, deterministic, predictions)
            # Described before anything is computed, so that a description that fails loses nothing.
            settings = {
                **search_record(loaded, aggregator, judging, seeds[0], deterministic),
                **unread_record((*aggregator.verifiers, *judging), prompts),
                "algorithm": setup.record,
                "baseline": terms.baseline,
                **({"share": {"rule": share, "nfe": pool, "prompts": len(prompts)}} if shared else {}),
                **knowledge_record(terms),
                **prediction,
                "grids": setup.grids,
                **predictions.record((terms.space, *terms.grids.values())),
                **sources_record(setup.sources),
            }
            interrupts.heed()
            reporter.start()
            made = _Size(height, width)
            failure = _loop(searches, purse, evaluator, limits, reporter, made, on_candidate, interrupts)
            if not isinstance(failure, KeyboardInterrupt):
                judge(searches, judging, evaluator.device, interrupts, setup.sources)
            settings["batch_size"] = evaluator.batch_size
            settings["sampler"] = sampler_record(loaded)
        if interrupts.asked and failure is None:  # it came after the last batch: what follows is left out
            failure = KeyboardInterrupt()
            for one in searches:
                one.error = failure
        results = _results(searches, settings, failure, single=isinstance(prompt, str))
        stopped = interrupts.asked or isinstance(failure, KeyboardInterrupt)
        if stopped and (on_interrupt == "raise" or interrupts.asked > 1):
            error = KeyboardInterrupt()
            error.result = results  # type: ignore[attr-defined]
            raise error
        return results


@contextmanager
def _opened(sampler: Sampler) -> Iterator[None]:
    """The sampler, held for a search; what its closing fails at doesn't lose what was found."""
    with ExitStack() as held:
        held.enter_context(sampler)
        yield
        held.pop_all()
    try:
        sampler.__exit__(None, None, None)
    except Exception as error:
        log.warning("closing the model failed (%s: %s); the result is whole", type(error).__name__, error)


def _rounds(searches: list[PromptSearch], purse: Purse | None) -> Iterator[list[Work]]:
    """What is to be run, round by round, until every prompt has ended."""
    while asked := [one for one in searches if one.running] if purse is None else purse.grant(searches):
        if works := [work for one in asked for work in one.next_round()]:
            yield works


def _loop(
    searches: list[PromptSearch],
    purse: Purse | None,
    evaluator: Evaluator,
    limits: Limits,
    reporter: Reporter,
    size: "_Size",
    on_candidate: Callable[[Candidate], None] | None,
    interrupts: Interrupts,
) -> BaseException | None:
    """Run rounds until every prompt has ended; returns the error that ended them early, if one did."""
    started = time.monotonic()

    def take(outcomes: list[Outcome]) -> None:
        scored: list[Candidate] = []
        size.look_at(outcomes)
        for one in searches:
            if mine := [o for o in outcomes if o.work.prompt == one.index]:
                scored += one.record(mine)
        # All prompts have taken in their rows before the callback, which may fail, sees any.
        if on_candidate is not None:
            for candidate in scored:
                on_candidate(candidate)

    def advance(works: list[Work]) -> None:
        for outcomes in evaluator.run(works, lambda work: searches[work.prompt].cut):
            take(outcomes)
            if (told := limits.expired(time.monotonic() - started)) is not None:
                for one in searches:
                    one.stop(told)
            reporter.update()
            interrupts.heed()

    try:
        for works in _rounds(searches, purse):
            advance(works)
        finishing = [work for one in searches for work in one.finishing_work()]
        for outcomes in evaluator.run(finishing, lambda _: False):
            take(outcomes)
            reporter.update()
            interrupts.heed()
    except BaseException as error:
        reporter.close()
        for one in searches:
            one.flush()
        if isinstance(error, Exception | KeyboardInterrupt):
            _rescue(searches, evaluator)
        if not isinstance(error, Exception | KeyboardInterrupt) or all(one.pool.best is None for one in searches):
            raise
        name = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        log.warning("search ended early (%s); returning the best so far", name)
        log.debug("it ended here", exc_info=error)
        # Prompts that had ended before are whole, unless it was the finishing of incumbents that failed.
        for one in [one for one in searches if one.running] or searches:
            one.stop(name, error)
        return error
    reporter.close()
    return None


def _rescue(searches: list[PromptSearch], evaluator: Evaluator) -> None:
    """After an early end, finish what each prompt without an image would finish next, as far as that can be done."""
    works = [work for one in searches if one.pool.best is None for work in one.finishing_work()[:1]]
    try:
        for outcomes in evaluator.run(works, lambda _: False):
            for one in searches:
                one.record([outcome for outcome in outcomes if outcome.work.prompt == one.index])
    except Exception as error:
        log.debug("what was begun couldn't be finished", exc_info=error)


class _Size:
    """The size of image asked for, and whether it was made: pipelines round what doesn't suit their latents."""

    def __init__(self, height: int | None, width: int | None) -> None:
        self._asked: tuple[int | None, int | None] | None = (height, width) if height or width else None

    def look_at(self, outcomes: Sequence[Outcome]) -> None:
        """Say, once, that the images have another size."""
        raw = next((one.pixels for one in outcomes if one.pixels is not None), None)
        if raw is None or self._asked is None:
            return
        (height, width), made = self._asked, raw.shape[-3:-1]
        self._asked = None
        if (height or made[0], width or made[1]) != made:
            asked = " and ".join(f"{name}={value}" for name, value in (("height", height), ("width", width)) if value)
            log.warning("%s: the model makes images of %d x %d (width x height)", asked, made[1], made[0])


def _results(
    searches: list[PromptSearch], settings: dict[str, Any], failure: BaseException | None, single: bool
) -> SearchResult | list[SearchResult]:
    results = [_result(one, settings) for one in searches]
    if all(result.failed for result in results):
        error = results[0].failure()
        error.results = tuple(results)
        raise error from failure
    for result in results:
        _forget_frames(result.error)
        if result.failed:
            log.warning("%s", result.failure())
    return results[0] if single else results


def _forget_frames(error: BaseException | None) -> None:
    """Let go of an error's frames, which would keep model and search alive as long as the result."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _result(one: PromptSearch, settings: dict[str, Any]) -> SearchResult:
    one.pool.settle()
    return SearchResult(
        prompt=one.prompt,
        candidates=tuple(one.pool.candidates),
        bests=tuple(one.pool.bests),
        bests_nfe=tuple(one.pool.bests_nfe),
        ledger=one.ledger,
        stop_reason=one.stop_reason or "the algorithm ended",
        settings={**settings, "seed": one.seed, "verifier": one.pool.aggregator.describe()},
        absolute=one.pool.aggregator.absolute,
        error=one.error,
    )


def _batch_size(shape: tuple[int, ...]) -> int:
    """Large latents fill a device alone; small ones need company (1 FLUX image of 1024 px, 16 of 512 px)."""
    return max(1, min(16, 2**18 // int(np.prod(shape))))
