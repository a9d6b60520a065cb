"""`search()`: the one driver, and the only spender of NFE."""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import torch

from noise_search.algorithms.base import SearchAlgorithm, Terms
from noise_search.algorithms.drafts import DraftSteps, plain
from noise_search.arguments import (
    HasText,
    as_prompts,
    check_between,
    check_callable,
    check_counts,
    check_flags,
    prompt_seeds,
)
from noise_search.engine.batches import Batches, chosen_batches, usual
from noise_search.engine.crew import Ahead, Alone, Crew
from noise_search.engine.evaluator import Evaluator
from noise_search.engine.interrupts import Interrupts, OnInterrupt, resolved
from noise_search.engine.judging import judge
from noise_search.engine.manifest import check_run, held, identity, manifest
from noise_search.engine.progress import Reporter
from noise_search.engine.prompt_search import Limits, PromptSearch
from noise_search.engine.rounds import Rounds, Size
from noise_search.engine.run import KeepImages, Run
from noise_search.engine.scoring import Scorer
from noise_search.engine.setup import (
    SearchOptions,
    Setup,
    VerifierLike,
    check_able,
    check_options,
    opened,
    set_up,
    widening,
)
from noise_search.engine.shares import Purse, Share, Shares, check_share
from noise_search.engine.sources import sources_record
from noise_search.engine.worker import LocalWorker
from noise_search.engine.workers.asked import WorkersLike
from noise_search.engine.workers.asked import resolved as resolved_workers
from noise_search.engine.workers.asked import told as told_of
from noise_search.engine.workers.hiring import hired
from noise_search.models import LoadedModel
from noise_search.previews import COMPARED, Agreement, Preview, PreviewLike, check_preview, resolve_preview
from noise_search.resolve import Knowledge, PriorLike, resolve_algorithm
from noise_search.results.candidate import Candidate, as_pixels
from noise_search.results.record import environment, knowledge_record, sampler_record, search_record, unread_record
from noise_search.results.result import SearchResult
from noise_search.settings import Compile, ModelSettings, Offload, Scheduler, spelt
from noise_search.tracking import Events, LogLike
from samplers.base import Sampler
from samplers.replay import replay

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
    draft_steps: DraftSteps | None = None,
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
    compile: Compile | None = None,
    model_options: dict[str, Any] | None = None,
    batch_size: int | None = None,
    deterministic: bool = False,
    workers: WorkersLike = None,
    preview: PreviewLike = None,
    time_limit: float | None = None,
    target_score: float | None = None,
    patience: int | None = None,
    top_k: int = 8,
    run: str | Path | None = None,
    keep_images: KeepImages = "top",
    retry_failed: bool = False,
    overwrite: bool = False,
    verifier_timeout: float | None = None,
    on_candidate: Callable[[Candidate], None] | None = None,
    log: LogLike | None = None,
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
        draft_steps: search with cheap trajectories, and render only the best noises in full; for algorithms that search
            over step-0 noises. So many steps on a grid of their own, or several: the steps of the full grid at which
            the model is evaluated, such as range(0, 20, 4) (a static step cache). Everything is charged, noise 0 is
            rendered in full first.
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
        compile: the denoiser of a model that is loaded here, by torch.compile: True, or "regional" for its repeated
            blocks, which takes a fraction of the time and runs as fast. Every micro-batch is then padded to one shape,
            as under `deterministic`; what can't be compiled runs as it is, which is said.
        model_options: further arguments of the pipeline's call, such as its images (PIL or tensors); the `image` among
            them, or else `images`, is the source that verifiers and judges of edits get.
        batch_size: candidates per micro-batch. When None what was measured of the model on this device before, else
            chosen from the latents' size, and measured where the search has 16 times as many rows: docs/speed.md.
            Halved when memory runs out.
        deterministic: pad every micro-batch to the same shape, so that equal environments give equal bytes.
        workers: who runs the micro-batches, of one prompt too: None this process; a number of processes, or a device
            for each (["cuda:0", "cuda:1"]), `LocalWorkers`, or "ray", "ray://HOST:PORT" or `RayWorkers`, each with a
            model and verifiers of its own. Winner, NFE and pictures are those of this process with the same batch size,
            and a worker that dies is replaced: docs/workers.md.
        preview: a small decoder for x0 predictions that are scored on the way: "taesd" is the one that the model's card
            declares, else the published `AutoencoderTiny` that fits its latents (those of Stable Diffusion 1 to 3, SDXL
            and FLUX.1); or the directory or hub id of an `AutoencoderTiny`, one itself, or a function from
            latents `[batch, *latent]`, as the noise space lays them out, to images in [0, 1]. What is finished is
            decoded by the model's own. The first 8 x0 predictions are decoded and scored by both, and the rank
            correlation is said. None, the default, decodes all alike.
        time_limit: seconds after which no further micro-batch starts.
        target_score: stop once the best score reaches it; z-scores have such a value once their reference is frozen.
        patience: stop after so many candidates without a new best.
        top_k: images to keep besides the first and every new best.
        run: a directory in which everything is journalled as it comes, so that nothing is computed twice: new or empty,
            or that of the same search, which goes on where it was killed, interrupted or out of budget, with more NFE
            where more are given. What makes another search of it is refused; batch size, device, limits and judges may
            differ. `load()` reads it back.
        keep_images: which images stay in the run's directory: "top" the first, the top k and every new best, "bests"
            the first and the bests, "all" every one that was finished.
        retry_failed: run candidates again that failed when the run was here before.
        overwrite: remove what an earlier search wrote to the run's directory; files of anybody else stay.
        verifier_timeout: seconds after which a verifier counts as failed on what it was given: it loses that score.
        on_candidate: called with every scored candidate; of a run that goes on, again with those it had.
        log: where the search is followed: "wandb", "trackio" or "tensorboard", `Wandb`, `Trackio` or
            `TensorBoard` with options of its own, or a function that is called with a dict for each event, as
            `noise_search.tracking.Events` lists them. Each prompt is a run. What fails is left out with a warning.
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
    given = {name: value for name, value in locals().items() if name != "prompt"}
    prompts = as_prompts(prompt)
    chosen = resolve_algorithm(algorithm)
    limits = Limits(time_limit, target_score, patience)
    seeds = prompt_seeds(seed, prompts)
    check_counts(top_k=top_k)
    check_callable(on_candidate=on_candidate)
    events = Events(log)
    check_flags(deterministic=deterministic, progress=progress, baseline=baseline)
    check_run(run, keep_images, retry_failed, overwrite)
    check_between("verifier_timeout", verifier_timeout, 0, math.inf)
    on_interrupt = resolved(on_interrupt)
    check_options(batch_size=batch_size, draft_steps=draft_steps, draft_renders=draft_renders)
    hiring = resolved_workers(workers)
    check_preview(preview)
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
        compile=compile,
        options=model_options or {},
    )
    loaded, aggregator, judging = opened(model, asked, prompts[0], [chosen], verifier, ensemble, judges)
    limits.check(aggregator, finished=aggregator.freeze_after or 0)
    check_share(share, chosen, aggregator, target_score, draft_steps is not None)
    check_able(chosen, loaded, scheduler == "keep", aggregator.verifiers, judging)
    hand = {"model": model, "settings": asked, "verifier": verifier, "ensemble": ensemble, "timeout": verifier_timeout}
    hand["preview"] = preview
    telling = told_of(hiring, loaded, aggregator, first_prompt=prompts[0], **hand)
    for needed in (*aggregator.verifiers, *judging):
        needed.load(loaded.device)
        needed.check(prompts)
    with Interrupts() as interrupts, ExitStack() as directory:
        with _opened(loaded.sampler):
            started = time.perf_counter()
            # Conditions come first: the sampler may look at its grid through a call with the first prompt.
            conditions = [loaded.sampler.condition(text) for text in prompts]
            budget, drafts = (nfe, candidates), (draft_steps, draft_renders)
            small = resolve_preview(preview, loaded, loaded.sampler.space())
            setup = set_up(
                chosen, loaded, aggregator, judging, *budget, *drafts, baseline, calibration, prior, share, small
            )
            small = _with_effect(small, setup)
            if not getattr(setup.algorithm, "refers", False):
                limits.check(aggregator, setup.finished)
            terms, predictions = setup.terms, setup.predictions
            encoding = time.perf_counter() - started
            shown = 1 if keep_images == "bests" else top_k
            pool, shared = terms.nfe_total * len(prompts), share != "equal"
            purse = Purse(Shares(share, target_score), pool, terms.space.end) if shared else None
            searches = [
                PromptSearch(i, text, terms, condition, aggregator, setup.algorithm, first, shown, limits, shared)
                for i, (text, condition, first) in enumerate(zip(prompts, conditions, seeds, strict=True))
            ]
            for one in searches:
                one.ledger.seconds["text"] += encoding / len(searches)
            searches[0].ledger.check_nfe = loaded.check_nfe
            ledgers = [one.ledger for one in searches]
            prediction = setup.prediction(target_score)
            reporter = Reporter(searches, aggregator, loaded, setup, prediction, progress)
            scorer = Scorer(aggregator.verifiers, setup.sources, verifier_timeout)
            worker = LocalWorker(loaded.sampler, scorer, reporter.on_step, loaded.device, small)
            alone: Crew = Alone(worker)
            if str(loaded.device).startswith("cuda") and not torch.is_autocast_enabled("cuda"):  # a thread has its own
                alone = directory.enter_context(Ahead(worker, loaded.device))
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
                **({} if small is None else {"preview": small.record()}),
            }
            compiled = loaded.loading.get("compile") is not None
            batches = Batches(int(batch_size or usual(terms.space.shape)))
            if batch_size is None and not deterministic:
                # Workers on one machine slow each other down, and what is compiled is so for one size.
                rows = pool // terms.space.end if hiring is None and not compiled else 0
                known = settings["model"], loaded.facts.identity, loaded.device
                batches = chosen_batches(*known, terms.space.shape, rows)
            interrupts.heed()
            journal = None
            if run is not None:
                drafts_told = {} if draft_steps is None else {"drafts": [plain(draft_steps), draft_renders]}
                more = {"share": share, **drafts_told}
                more |= {} if small is None else {"preview": small.record()["version"]}
                here = identity(prompts, seeds, chosen, aggregator, terms, settings, more)
                files = directory.enter_context(held(Path(run), here, overwrite))
                attempt = {"nfe": terms.nfe_total, "batch_size": batches.size, "device": loaded.device, **environment()}
                attempt |= {} if telling is None else {"workers": str(hiring)}
                told = manifest(files.manifest(), here, settings, given, isinstance(prompt, str), terms, attempt)
                lines = files.lines()
                files.journal.write_settings(told)
                journal = Run(
                    files,
                    lines,
                    searches,
                    every_state=type(chosen).__module__.partition(".")[0] != "noise_search",
                    every_image=keep_images == "all",
                    retry_failed=retry_failed,
                    settings=lambda one: _settings(one, settings, evaluator, loaded),
                )
                directory.callback(journal.close)  # before others may hold the directory
                pictures = shown if keep_images != "all" else terms.nfe_total // terms.space.end
                sides = [settings["model"].get("options", {}).get(side) or 0 for side in ("height", "width")]
                takes = 3 * math.prod(sides), 8 * math.prod(terms.space.shape)  # 8-bit RGB; x and its x0 prediction
                reporter.directory(files.directory, journal.known, pictures * len(prompts), *takes)
            if telling is not None:
                reporter.workers()
            crew = alone if hiring is None else directory.enter_context(hired(hiring, telling))
            crew.begin(setup.grids)
            wider = widening(setup.algorithm)
            compared = 0 if small is None else COMPARED
            evaluator = Evaluator(
                crew, prompts, ledgers, batches, deterministic or compiled, predictions, wider, compared
            )
            events.start(prompts, (_settings(one, settings, evaluator, loaded) for one in searches), run)
            directory.callback(events.close)
            agreement, listening = Agreement(), (reporter, on_candidate, events)
            rounds = Rounds(
                searches, purse, evaluator, limits, interrupts, journal, *listening, Size(height, width), agreement
            )
            reporter.start()
            failure = rounds.run()
            if small is not None:
                settings["preview"] |= agreement.record()
                reporter.preview(settings["preview"])
                agreement.warn(small.name)
            if journal is not None:
                make = functools.partial(_made_again, loaded=loaded, terms=terms)
                journal.settle(make if failure is None else None)
            if not isinstance(failure, KeyboardInterrupt):
                where_made = loaded.device if crew.elsewhere else evaluator.device or loaded.device
                judge(searches, judging, where_made, interrupts, setup.sources, journal)
            settings["batch_size"] = evaluator.batch_size
            settings["sampler"] = sampler_record(loaded)
        if interrupts.asked and failure is None:  # it came after the last batch: what follows is left out
            failure = KeyboardInterrupt()
            for one in searches:
                one.error = failure
        if journal is not None:
            more = {name: settings[name] for name in ("batch_size", "sampler", "preview") if name in settings}
            journal.end([one.stop_reason or ENDED for one in searches], failure is not None, more)
        where = None if run is None else Path(run)
        again = None if run is None else functools.partial(_again, prompt, given)
        results = _results(searches, settings, failure, isinstance(prompt, str), where, again, events)
        stopped = interrupts.asked or isinstance(failure, KeyboardInterrupt)
        if stopped and (on_interrupt == "raise" or interrupts.asked > 1):
            error = KeyboardInterrupt()
            error.result = results  # type: ignore[attr-defined]
            raise error
        return results


def _with_effect(small: Preview | None, setup: Setup) -> Preview | None:
    """A small decoder where the algorithm looks at anything that isn't finished."""
    if small is None or not setup.algorithm.whole_calls:
        return small
    log.warning("preview has no effect: %s search scores no images but finished ones", setup.record["name"])
    return None


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


def _results(
    searches: list[PromptSearch],
    settings: dict[str, Any],
    failure: BaseException | None,
    single: bool,
    run: Path | None,
    again: Callable[..., Any] | None,
    events: Events,
) -> SearchResult | list[SearchResult]:
    results = [_result(one, settings, run, again) for one in searches]
    events.end(results)
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


ENDED = "the algorithm ended"


def _result(
    one: PromptSearch, settings: dict[str, Any], run: Path | None, again: Callable[..., Any] | None
) -> SearchResult:
    one.pool.settle()
    return SearchResult(
        prompt=one.prompt,
        candidates=tuple(one.pool.candidates),
        bests=tuple(one.pool.bests),
        bests_nfe=tuple(one.pool.bests_nfe),
        ledger=one.ledger,
        stop_reason=one.stop_reason or ENDED,
        settings=_settled(one, settings),
        absolute=one.pool.aggregator.absolute,
        error=one.error,
        run=run,
        again=again,
    )


def _settled(one: PromptSearch, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {**settings, "seed": one.seed, "verifier": one.pool.aggregator.describe()}


def _settings(
    one: PromptSearch, settings: Mapping[str, Any], evaluator: Evaluator, loaded: LoadedModel
) -> dict[str, Any]:
    """What is known of a search while it runs."""
    return {**_settled(one, settings), "batch_size": evaluator.batch_size, "sampler": sampler_record(loaded)}


def _made_again(one: PromptSearch, candidate: Candidate, loaded: LoadedModel, terms: Terms) -> np.ndarray:
    """A candidate's pixels from its recipe; what that takes is waste."""
    sampler, before = loaded.sampler, loaded.sampler.denoiser_rows
    made = replay(sampler, candidate.recipe, [terms.space, *terms.grids.values()], one.condition)
    pixels: np.ndarray = as_pixels(sampler.decode(made.state))[0]
    one.ledger.denoiser_rows += sampler.denoiser_rows - before
    one.ledger.nfe_waste += (sampler.denoiser_rows - before) / sampler.rows_per_evaluation
    one.ledger.decodes += 1
    return pixels


def _again(prompt: Any, given: Mapping[str, Any], **changes: Any) -> Any:
    """The same search once more, with other arguments where they are given."""
    if "nfe" in changes:
        changes["candidates"] = None
    return search(prompt, **{**given, "overwrite": False, "retry_failed": False, **changes})
