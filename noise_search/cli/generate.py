"""`noise-search generate`: a search, or several, their files, and what was found in words."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from noise_search.cli import batches, options
from noise_search.cli.options import Format, OfModel, Said
from noise_search.cli.telling import save
from noise_search.disk.files import RUNS, check_free, check_writable, new_run


def generate(
    prompt: Annotated[
        list[str] | None,
        typer.Argument(
            help="What the image should show; several for a search each, - for those on standard input, a line each.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[str | None, typer.Option(help="File of prompts, or the name of a prompt set.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts at most, of a set's families alike.")] = None,
    repeat: Annotated[
        int, typer.Option(min=1, help="Searches of each prompt, at seeds that share no noise: --seed, + 1000, ...")
    ] = 1,
    model: options.Model = "shapes-flow",
    algorithm: Annotated[str, typer.Option(help="Search algorithm; see `noise-search list`.")] = "auto",
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the algorithm, such as neighbours=8; may be repeated.")
    ] = None,
    verifier: Annotated[str, typer.Option(help="Verifier, or several with commas.")] = "clip",
    verifier_option: options.VerifierOptions = None,
    ensemble: options.Ensemble = "mean-z",
    judge: options.Judges = None,
    nfe: Annotated[int | None, typer.Option(help="Budget in denoiser evaluations of one candidate.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Budget in whole trajectories, instead of --nfe.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first noise.")] = 0,
    steps: options.Steps = None,
    baseline: Annotated[
        bool, typer.Option(help="Finish the first noise in any case, as one plain sample to compare with.")
    ] = True,
    calibration: options.Calibration = None,
    prior: options.Prior = None,
    draft_steps: options.DraftSteps = None,
    draft_renders: options.DraftRenders = None,
    guidance: options.Guidance = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the image should not show.")] = None,
    height: options.Height = None,
    width: options.Width = None,
    eta: Annotated[float, typer.Option(help="Stochasticity of the DDIM step, 0 to 1.")] = 0.0,
    scheduler: Annotated[
        str,
        typer.Option(help="keep the pipeline's own, first-order, or auto: its own where whole runs are enough."),
    ] = "auto",
    check: Annotated[bool, typer.Option(help="Look at a pipeline of an untested class before it is searched.")] = True,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    preview: options.Preview = None,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Pad batches: equal bytes.")] = False,
    top_k: Annotated[int, typer.Option(help="Images to keep and show.")] = 8,
    of_model: OfModel = options.OF_MODEL,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which no batch starts.")] = None,
    target_score: Annotated[float | None, typer.Option(help="Stop at this score.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many candidates without a new best.")] = None,
    verifier_timeout: Annotated[
        float | None, typer.Option(help="Seconds after which a verifier loses the score it was asked for.")
    ] = None,
    keep_images: Annotated[
        str, typer.Option(help="top keeps the first, the best --top-k and every new best; bests only these; all.")
    ] = "top",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run candidates again that failed in --out before.")
    ] = False,
    log: options.Log = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the run: new, empty, or that of the same search, which goes on there. Of several "
            "searches it holds a run each, with their sheet and table.",
            show_default="runs/0001, 0002, ...",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what a search wrote there.")] = False,
    quiet: options.Quiet = False,
    format: options.Printed = Format.human,
) -> Said:
    """Search for the noise whose image the verifier likes best, and save what was found."""
    from noise_search.comparison.cells import spaced_seeds

    texts = _prompts(prompt or [], prompts, limit)
    seeds = [seed + more for more in spaced_seeds(repeat, nfe or 8 * (candidates or 32))]
    several = prompts is not None or "-" in (prompt or []) or len(texts) * repeat > 1
    if several:
        batches.check(out, overwrite)
    elif out is not None and any(out.glob("*")):
        from noise_search.disk.run import RunFiles
        from noise_search.results.saving import files_of

        if overwrite or not RunFiles(out).manifest():
            check_free(out, ("result.json", "best.png", "top.png", "curve.png"), files_of(out), overwrite)
    check_writable(RUNS if out is None else out)
    from noise_search.engine.driver import search

    searched = options.names(verifier)
    scoring, judges = options.configured_verifiers(
        verifier_option or [], searched, options.judge_names(judge, model, searched)
    )
    ask = functools.partial(
        search,
        model=model,
        algorithm=options.configured_algorithm(algorithm, option or []),
        verifier=scoring,
        ensemble=ensemble,
        judges=judges,
        nfe=nfe,
        candidates=candidates,
        steps=steps,
        baseline=baseline,
        calibration=calibration,
        prior=prior,
        draft_steps=None if draft_steps is None else options.many_or_these(draft_steps, "draft-steps"),
        draft_renders=draft_renders,
        guidance=guidance,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        eta=eta,
        check=check,
        scheduler=cast(Any, scheduler),  # the search says which there are
        batch_size=batch_size,
        workers=options.workers(workers),
        preview=preview,
        deterministic=deterministic,
        top_k=top_k,
        time_limit=time_limit,
        target_score=target_score,
        patience=patience,
        verifier_timeout=verifier_timeout,
        keep_images=cast(Any, keep_images),
        retry_failed=retry_failed,
        overwrite=overwrite,
        log=cast(Any, log),
        on_interrupt="return",
        progress=not quiet,
        **of_model.given(model),
    )
    where = new_run() if out is None else out
    try:
        if several:
            return batches.run(ask, texts, seeds, where, quiet, format)
        return save(ask(texts[0], seed=seed, run=where), where, format, quiet)
    finally:
        if out is None and not any(where.iterdir()):  # a search that is refused takes no number
            where.rmdir()


def _prompts(given: Sequence[str], named: str | None, limit: int | None) -> list[str]:
    """What is to be searched: the arguments, with the lines of standard input for -, and those of a set or file.

    Raises:
        ValueError: none, or no such file or set.
    """
    found: list[str] = []
    for one in given:
        found += [line.strip() for line in sys.stdin if line.strip()] if one == "-" else [one]
    if named is not None:
        found += options.prompt_set(named, limit).texts
    if not found:
        raise ValueError("no prompt was given: say what the image should show, or give --prompts FILE, or - and lines")
    return found[:limit]
