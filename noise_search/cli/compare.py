"""`noise-search compare`: a comparison, kept in a directory with its table, plots and report."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from noise_search.cli import options
from noise_search.cli.options import INTERRUPTED, Format, OfModel, Said
from noise_search.disk.files import check_writable

if TYPE_CHECKING:
    from noise_search.comparison.comparison import Comparison


def compare(
    prompts: Annotated[str, typer.Option(help="File of prompts, name of a prompt set, or one prompt.")] = "shapes",
    model: options.Model = "shapes-flow",
    algorithms: Annotated[str, typer.Option(help="Algorithms with commas.")] = "random,auto",
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of an algorithm, such as zero-order.neighbours=8; may be repeated."),
    ] = None,
    budgets: Annotated[str | None, typer.Option(help="NFE with commas, such as 80,320,1280.")] = None,
    candidates: Annotated[str | None, typer.Option(help="Whole trajectories with commas, instead.")] = None,
    share: Annotated[
        str,
        typer.Option(
            help="Prompts share the budgets of all but random search: equal (they don't), threshold, difficulty."
        ),
    ] = "equal",
    target_score: Annotated[float | None, typer.Option(help="Where prompts stop that share their budgets.")] = None,
    verifier: Annotated[str, typer.Option(help="Verifier to search by, or several with commas.")] = "clip",
    verifier_option: options.VerifierOptions = None,
    ensemble: options.Ensemble = "mean-z",
    judges: options.Judges = None,
    seeds: Annotated[
        str, typer.Option(help="Searches per prompt, from noises of their own; or their seeds, such as 0,1000.")
    ] = "1",
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts at most, of all families alike.")] = None,
    per_family: Annotated[int | None, typer.Option(min=1, help="Prompts of each family at most.")] = None,
    steps: options.Steps = None,
    calibration: options.Calibration = None,
    prior: options.Prior = None,
    draft_steps: options.DraftSteps = None,
    draft_renders: options.DraftRenders = None,
    guidance: options.Guidance = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the images should not show.")] = None,
    height: options.Height = None,
    width: options.Width = None,
    batch_size: options.BatchSize = None,
    workers: options.Workers = None,
    preview: options.Preview = None,
    pictured: Annotated[int, typer.Option(min=0, help="Keep winners' images of so many prompts.")] = 8,
    diagnosed: Annotated[
        int | None, typer.Option(min=0, help="Diagnose the winners of so many prompts; of all by default.")
    ] = None,
    pool_limit: Annotated[
        int, typer.Option(min=1, help="How many times the largest budget the random candidates may take.")
    ] = 1,
    log: options.Log = None,
    of_model: OfModel = options.OF_MODEL,
    out: Annotated[Path, typer.Option(help="Directory; what is there already isn't run again.")] = Path("runs/compare"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the comparison that is there first.")] = False,
    quiet: options.Quiet = False,
    format: options.Printed = Format.human,
) -> Said:
    """Compare algorithms at equal NFE, with intervals, held-out judges, plots and a report."""
    check_writable(out)
    from noise_search.comparison import compare as room
    from noise_search.comparison.store import SAVED, check_directory

    check_directory(out, overwrite, SAVED)
    searched = options.names(verifier)
    scoring, judging = options.configured_verifiers(
        verifier_option or [], searched, options.judge_names(judges, model, searched)
    )
    settings = of_model.given(  # what isn't given stays out of the settings that are recorded
        model,
        steps=steps,
        guidance=guidance,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
    )
    found = room.compare(
        out=out,
        overwrite=overwrite,
        model=model,
        algorithms=options.configured_algorithms(options.names(algorithms), option or []),
        budgets=options.numbers(budgets, "budgets"),
        candidates=options.numbers(candidates, "candidates"),
        share=cast(Any, share),  # the comparison says which there are
        target_score=target_score,
        verifier=scoring,
        ensemble=ensemble,
        judges=judging,
        seeds=options.many_or_these(seeds, "seeds"),
        draft_steps=None if draft_steps is None else options.many_or_these(draft_steps, "draft-steps"),
        draft_renders=draft_renders,
        batch_size=batch_size,
        workers=options.workers(workers),
        preview=preview,
        calibration=calibration,
        prior=prior,
        pictured=pictured,
        diagnosed=diagnosed,
        pool_limit=pool_limit,
        log=cast(Any, log),
        on_interrupt="return",
        progress=not quiet,
        prompts=options.prompt_set(prompts, limit, per_family),  # last, as it may download
        **settings,
    )
    return told(found, format, quiet)


def told(found: "Comparison", format: Format, quiet: bool = False) -> Said:
    """How a comparison is told; where it has a directory, the figures and the report are written there first."""
    from noise_search.comparison.store import Store

    paths: dict[str, Path] = {}
    if found.directory is not None:
        found = replace(found, settings={**found.settings, "command": shlex.join(["noise-search", *sys.argv[1:]])})
        Store(found.directory, writing=True).write_settings(found.settings)
        paths = found.save() if found.records else {}
    code = 0 if found.complete else INTERRUPTED
    if format is Format.json:
        files = {name: str(path) for name, path in paths.items()}
        return Said({"records": found.rows(), "files": files}, code=code)
    if quiet:
        return Said(str(paths["report"]) if paths else "", code=code)
    listed = [f"{name:<{max(map(len, paths))}} {path}" for name, path in paths.items()]
    return Said("\n".join([str(found), *listed]) if found.records else "", code=code)
