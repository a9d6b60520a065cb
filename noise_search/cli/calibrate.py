"""`noise-search calibrate`: what algorithms need to know of a model and a verifier, measured and kept."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from noise_search.cli import options
from noise_search.cli.options import Format, OfModel, Said
from noise_search.disk.files import RUNS, check_writable, write_atomically


def calibrate(
    model: Annotated[str, typer.Argument(help="Embedded model, saved pipeline's directory, or hub id.")] = (
        "shapes-flow"
    ),
    verifier: Annotated[str, typer.Option(help="Verifier, or several with commas.")] = "clip",
    verifier_option: options.VerifierOptions = None,
    prompts: Annotated[
        str, typer.Option(help="Prompt set or file; of an embedded set, its validation prompts.")
    ] = "shapes",
    limit: Annotated[int, typer.Option(min=1, help="Prompts at most, of all families alike.")] = 12,
    per_family: Annotated[int | None, typer.Option(min=1, help="Prompts of each family at most.")] = None,
    noises: Annotated[int, typer.Option(help="Noises of each prompt, at least 4.")] = 16,
    looks: Annotated[
        str | None, typer.Option(help="Steps after which predictions are scored, with commas, or 'none'.")
    ] = None,
    move: Annotated[
        list[str] | None,
        typer.Option(help="'neighbour COSINE', 'branch STEP', or none; may be repeated."),
    ] = None,
    moved: Annotated[int, typer.Option(help="Noises of each prompt that are moved.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the noises.")] = 0,
    steps: options.Steps = None,
    guidance: options.Guidance = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the images should not show.")] = None,
    height: options.Height = None,
    width: options.Width = None,
    scheduler: Annotated[str, typer.Option(help="keep the pipeline's own, first-order, or auto.")] = "auto",
    batch_size: options.BatchSize = None,
    of_model: OfModel = options.OF_MODEL,
    out: Annotated[Path, typer.Option(help="File of calibrations; those of others stay in it.")] = (
        RUNS / "calibration.json"
    ),
    plot: Annotated[Path | None, typer.Option(help="PNG of the correlations by step.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace whatever the file is.")] = False,
    quiet: options.Quiet = False,
    format: options.Printed = Format.human,
) -> Said:
    """Measure how early final scores can be told, what moves of noises keep, and where a score saturates."""
    from noise_search.calibrating import calibrate as room
    from noise_search.calibrating.result import already_in
    from noise_search.results.plots import figure_png

    if not overwrite:
        already_in(out)
    if plot is not None and plot.suffix.lower() != ".png":
        raise ValueError(f"plot {str(plot)!r} must end in .png")
    for file in (out, *([plot] if plot is not None else [])):
        check_writable(file.parent)
    (scoring,) = options.configured_verifiers(verifier_option or [], options.names(verifier))
    try:
        found = room.calibrate(
            model,
            scoring,
            limit=limit,
            per_family=per_family,
            noises=noises,
            looks=[] if looks == "none" else options.numbers(looks, "looks"),
            moves=[] if move == ["none"] else move,
            moved=moved,
            seed=seed,
            batch_size=batch_size,
            progress=not quiet,
            prompts=prompts,
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            scheduler=cast(Any, scheduler),
            **of_model.given(model),
        )
    except (FileNotFoundError, IsADirectoryError) as error:  # of prompts
        raise ValueError(str(error)) from error
    files = {"calibration": str(found.save(out, overwrite))}
    notes = []
    if plot is not None and any(one.correlations for one in found):
        write_atomically(plot, figure_png(found.plot()))
        files["plot"] = str(plot)
    elif plot is not None:
        notes.append("nothing was looked at on the way, so there is no plot")
    if quiet and format is Format.human:
        return Said("\n".join(files.values()), notes)
    listed = "\n".join(f"{name:<11} {path}" for name, path in files.items())
    return Said({**found.to_json(), "files": files} if format is Format.json else f"{found}\n\n{listed}", notes)
