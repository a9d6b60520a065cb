"""`noise-search generate`: a search, its files, and what it found in words."""

import tempfile
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from noise_search.cli import options
from noise_search.cli.options import FAILED, INTERRUPTED, Format, Said
from noise_search.disk.files import RUNS, check_free, check_writable, next_run

if TYPE_CHECKING:
    from noise_search.results.result import SearchResult


def generate(
    prompt: Annotated[str, typer.Argument(help="What the image should show.")],
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
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Pad batches: equal bytes.")] = False,
    top_k: Annotated[int, typer.Option(help="Images to keep and show.")] = 8,
    image: options.Image = None,
    mask: options.Mask = None,
    control_image: options.ControlImage = None,
    strength: options.Strength = None,
    model_option: options.ModelOption = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    lora: options.Lora = None,
    offload: options.Offload = None,
    variant: options.Variant = None,
    revision: options.Revision = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which no batch starts.")] = None,
    target_score: Annotated[float | None, typer.Option(help="Stop at this score.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many candidates without a new best.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the results, new or empty.", show_default="runs/0001, 0002, ...")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what a search wrote there.")] = False,
    format: options.Printed = Format.human,
) -> Said:
    """Search for the noise whose image the verifier likes best, and save what was found."""
    if out is not None and (overwrite or any(out.glob("*"))):
        from noise_search.results.saving import files_of

        check_free(out, ("result.json", "best.png", "top.png", "curve.png"), files_of(out), overwrite)
    check_writable(RUNS if out is None else out)
    from noise_search.engine.driver import search
    from noise_search.engine.interrupts import Interrupts

    searched = options.names(verifier)
    scoring, judges = options.configured_verifiers(
        verifier_option or [], searched, options.judge_names(judge, model, searched)
    )
    of_model = options.of_model(
        model,
        image=image,
        mask=mask,
        control_image=control_image,
        strength=strength,
        model_option=model_option,
        device=device,
        dtype=options.dtype_named(dtype),
        lora=lora,
        offload=offload,
        variant=variant,
        revision=revision,
    )
    result = search(
        prompt,
        model=model,
        algorithm=options.configured_algorithm(algorithm, option or []),
        verifier=scoring,
        ensemble=ensemble,
        judges=judges,
        nfe=nfe,
        candidates=candidates,
        seed=seed,
        steps=steps,
        baseline=baseline,
        calibration=calibration,
        prior=prior,
        draft_steps=draft_steps,
        draft_renders=draft_renders,
        guidance=guidance,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        eta=eta,
        check=check,
        scheduler=cast(Any, scheduler),  # the search says which there are
        batch_size=batch_size,
        deterministic=deterministic,
        top_k=top_k,
        time_limit=time_limit,
        target_score=target_score,
        patience=patience,
        on_interrupt="return",
        **of_model,
    )
    stopped = isinstance(result.error, KeyboardInterrupt)
    with Interrupts() as interrupts:  # what took hours isn't lost in its last second
        # Numbered now, so that a search that is refused or finds nothing takes no number.
        paths, elsewhere = _saved(result, next_run() if out is None else out, overwrite)
    code = INTERRUPTED if stopped or interrupts.asked else FAILED if result.error is not None or elsewhere else 0
    said = _json(result, paths) if format is Format.json else _summary(result, paths)
    return Said(said, notes=[elsewhere] if elsewhere else [], code=code)


def _saved(result: "SearchResult", where: Path, overwrite: bool) -> tuple[dict[str, Path], str]:
    """The files that were written, elsewhere where they can't be here; and that in words."""
    try:
        return result.save(where, overwrite=overwrite), ""
    except (OSError, ValueError) as error:
        refuge = Path(tempfile.mkdtemp(prefix="noise-search-"))
        said = f"{str(where)!r} can't be written ({error})"
        try:
            return result.save(refuge), f"{said}; the files are in {str(refuge)!r}"
        except OSError as again:
            seed = result.best.seed
            plain = "" if seed is None else f"; the best is what seed {seed} gives in plain diffusers"
            raise OSError(f"{said}, nor can {str(refuge)!r} ({again}): make room and search again{plain}") from again


def _json(result: "SearchResult", paths: dict[str, Path]) -> dict[str, Any]:
    content = result.to_json()
    content["best"]["image"] = str(paths["best"])
    content["files"] = {stem: str(path) for stem, path in paths.items()}
    return content


def _summary(result: "SearchResult", paths: dict[str, Path]) -> str:
    from noise_search.words import one_line, prediction_in_words

    best = result.best
    origin = f"candidate {best.id}" + (f", seed {best.seed}" if best.seed is not None else "")
    lines = [
        f"prompt   {one_line(result.prompt)}",
        f"score    {result.first.score:.4f} ({result.first_name}) -> {result.score:.4f} ({origin})",
    ]
    for key, score in best.scores.items():
        lines.append(f"         {key}: {result.first.scores.get(key, float('nan')):.4f} -> {score:.4f}")
    for key, scores in result.judges.items():
        told = {which: _told(score) for which, score in scores.items()}
        judged = sum(isfinite(c.judges.get(key, nan)) for c in result.candidates)
        mean = f", mean of {judged} judged {told['mean']}" if judged else ""
        lines.append(f"judge    {key}: {told['first']} ({result.first_name}) -> {told['best']}{mean}")
    lines.append(f"cost     {result.ledger}")
    lines.append(f"plan     {result.schedule}")
    lines.append(f"ended    {result.stop_reason}")
    if result.prediction is not None:
        lines.append(f"target   {prediction_in_words(result.prediction)}")
    lines += [f"{stem:<8} {path}" for stem, path in paths.items() if "/" not in stem]
    return "\n".join(lines)


def _told(score: float) -> str:
    return "can't tell" if score != score else f"{score:.3g}"
