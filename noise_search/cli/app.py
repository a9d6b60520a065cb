"""The command `noise-search`."""

import json
import logging
import re
import shlex
import shutil
import sys
import textwrap
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from noise_search.disk.files import check_writable

app = typer.Typer(
    help="Better images from a diffusion or flow-matching model by searching for better noise.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


_BAD_INPUT, _INTERRUPTED = 2, 130


class Format(StrEnum):
    """How a command prints."""

    human = "human"
    json = "json"


_FormatOption = Annotated[Format, typer.Option("--format", help="Text for people, or JSON on standard output.")]


_VerifierOption = Annotated[
    list[str] | None,
    typer.Option(help="Option of a verifier or judge, such as clip.output=cosine; may be repeated."),
]


_EnsembleOption = Annotated[str, typer.Option(help="How several verifiers are combined: mean-rank, mean-z or min-z.")]


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the image should show.")],
    model: Annotated[str, typer.Option(help="Embedded model, saved pipeline's directory, or hub id.")] = "shapes-flow",
    algorithm: Annotated[str, typer.Option(help="Search algorithm; see `noise-search list`.")] = "random",
    option: Annotated[
        list[str] | None, typer.Option(help="Option of the algorithm, such as neighbours=8; may be repeated.")
    ] = None,
    verifier: Annotated[str, typer.Option(help="Verifier, or several with commas.")] = "clip",
    verifier_option: _VerifierOption = None,
    ensemble: _EnsembleOption = "mean-rank",
    judge: Annotated[
        str | None,
        typer.Option(help="Held-out judges with commas, or 'none'; the model's oracle by default."),
    ] = None,
    nfe: Annotated[int | None, typer.Option(help="Budget in denoiser evaluations of one candidate.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Budget in whole trajectories, instead of --nfe.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first noise.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Denoising steps of a trajectory.")] = None,
    draft_steps: Annotated[int | None, typer.Option(help="Search with so many steps, render the best in full.")] = None,
    draft_renders: Annotated[int | None, typer.Option(help="Noises to render in full after the drafts.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the image should not show.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels.")] = None,
    eta: Annotated[float, typer.Option(help="Stochasticity of the DDIM step, 0 to 1.")] = 0.0,
    scheduler: Annotated[str, typer.Option(help="first-order, or keep for the pipeline's own.")] = "first-order",
    batch_size: Annotated[int | None, typer.Option(help="Candidates per micro-batch.")] = None,
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Pad batches: equal bytes.")] = False,
    top_k: Annotated[int, typer.Option(help="Images to keep and show.")] = 8,
    device: Annotated[str | None, typer.Option(help="Device to load the model on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which no batch starts.")] = None,
    target_score: Annotated[float | None, typer.Option(help="Stop at this score.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many candidates without a new best.")] = None,
    out: Annotated[Path, typer.Option(help="Directory of the results.")] = Path("runs/latest"),
    format: _FormatOption = Format.human,
) -> None:
    """Search for the noise whose image the verifier likes best, and save what was found."""
    with _one_line_errors():
        check_writable(out)
        from noise_search.cli.options import configured_algorithm, configured_verifiers
        from noise_search.engine.driver import search

        scoring, judges = configured_verifiers(verifier_option or [], _names(verifier), _judges(judge, model))
        result = search(
            prompt,
            model=model,
            algorithm=configured_algorithm(algorithm, option or []),
            verifier=scoring,
            ensemble=ensemble,
            judges=judges,
            nfe=nfe,
            candidates=candidates,
            seed=seed,
            steps=steps,
            draft_steps=draft_steps,
            draft_renders=draft_renders,
            guidance=guidance,
            negative_prompt=negative_prompt,
            height=height,
            width=width,
            eta=eta,
            scheduler=cast(Any, scheduler),
            batch_size=batch_size,
            deterministic=deterministic,
            top_k=top_k,
            device=device,
            dtype=_dtype(dtype),
            time_limit=time_limit,
            target_score=target_score,
            patience=patience,
        )
    with _one_line_errors("the files were written"):
        paths = result.save(out)
    if format is Format.json:
        content = result.to_json()
        content["best"]["image"] = str(paths["best"])
        content["files"] = {stem: str(path) for stem, path in paths.items()}
        typer.echo(to_text(content))
    else:
        typer.echo(_summary(result, paths))
    if isinstance(result.error, KeyboardInterrupt):
        raise typer.Exit(_INTERRUPTED)
    if result.error is not None:
        raise typer.Exit(1)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="best.png or top/NN.png of a search, its result.json or directory.")],
    candidate: Annotated[int | None, typer.Option(help="Candidate of a result.json; the best by default.")] = None,
    model: Annotated[str | None, typer.Option(help="In place of the recorded name: model, directory, hub id.")] = None,
    prompt: Annotated[str | None, typer.Option(help="In place of the recorded one.")] = None,
    verifier: Annotated[str | None, typer.Option(help="Score the image with it, or several with commas.")] = None,
    verifier_option: _VerifierOption = None,
    device: Annotated[str | None, typer.Option(help="Device to load the model on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="In place of the recorded one.")] = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("replay.png"),
    format: _FormatOption = Format.human,
) -> None:
    """Make one candidate of a search again, alone, and say how close it came."""
    with _one_line_errors("the image was done"):
        from noise_search.cli.options import configured_verifiers
        from noise_search.cli.replay import replay_to_file, told

        [scoring] = configured_verifiers(verifier_option or [], _names(verifier or ""))
        chosen = {"candidate": candidate, "model": model, "prompt": prompt, "device": device, "dtype": _dtype(dtype)}
        replayed, paths = replay_to_file(file, out, verifier=scoring or None, **chosen)
    typer.echo(
        to_text(told(replayed, paths))
        if format is Format.json
        else f"{replayed}\nwritten   {', '.join(map(str, paths))}"
    )


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    prompt: Annotated[
        str | None, typer.Option(help="For all images; else that recorded in the PNG, or in a .txt beside the image.")
    ] = None,
    verifier: Annotated[str, typer.Option(help="Verifier, or several with commas.")] = "clip",
    verifier_option: _VerifierOption = None,
    ensemble: _EnsembleOption = "mean-rank",
    model: Annotated[str | None, typer.Option(help="Names mean what this model declares; it isn't loaded.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Show the best so many.")] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Look into folders of folders too.")] = False,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 16,
    device: Annotated[str | None, typer.Option(help="Device to score on.")] = None,
    format: _FormatOption = Format.human,
) -> None:
    """Score images and rank them, best first."""
    with _one_line_errors("all images were scored"):
        from noise_search.cli.options import configured_verifiers
        from noise_search.image_scores import score_images

        [scoring] = configured_verifiers(verifier_option or [], _names(verifier))
        found = score_images(
            images,
            prompt=prompt,
            verifier=scoring,
            ensemble=ensemble,
            model=model,
            recursive=recursive,
            batch_size=batch_size,
            device=device,
        )
    shown = found.top(top)
    typer.echo(to_text(shown.to_json()) if format is Format.json else str(shown))
    if found.ended:
        count = sum(one.failure is None for one in found.images)
        print(
            f"noise-search: {' '.join(found.ended.split())}; {count} images are scored, the others aren't",
            file=sys.stderr,
        )
    for why in found.unreadable.values():
        print(f"noise-search: {why}", file=sys.stderr)
    if found.skipped:
        print(f"noise-search: {len(found.skipped)} other files skipped, such as {found.skipped[0]}", file=sys.stderr)
    if found.interrupted:
        raise typer.Exit(_INTERRUPTED)
    if found.ended or found.unreadable or any(score != score for one in found.images for score in one.scores.values()):
        raise typer.Exit(1)


@app.command()
def compare(
    prompts: Annotated[str, typer.Option(help="File of prompts, name of a prompt set, or one prompt.")] = "shapes",
    model: Annotated[str, typer.Option(help="Embedded model, saved pipeline's directory, or hub id.")] = "shapes-flow",
    algorithms: Annotated[str, typer.Option(help="Algorithms with commas.")] = "random,zero-order,paths",
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of an algorithm, such as zero-order.neighbours=8; may be repeated."),
    ] = None,
    budgets: Annotated[str | None, typer.Option(help="NFE with commas, such as 80,320,1280.")] = None,
    candidates: Annotated[str | None, typer.Option(help="Whole trajectories with commas, instead.")] = None,
    verifier: Annotated[str, typer.Option(help="Verifier to search by, or several with commas.")] = "clip",
    verifier_option: _VerifierOption = None,
    ensemble: _EnsembleOption = "mean-rank",
    judges: Annotated[
        str | None, typer.Option(help="Held-out judges with commas, or 'none'; the model's oracle by default.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Searches per prompt, from noises of their own; or their seeds, such as 0,1000.")
    ] = "1",
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts at most, of all families alike.")] = None,
    per_family: Annotated[int | None, typer.Option(min=1, help="Prompts of each family at most.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps of a trajectory.")] = None,
    draft_steps: Annotated[int | None, typer.Option(help="Search with so many steps, render the best in full.")] = None,
    draft_renders: Annotated[int | None, typer.Option(help="Noises to render in full after the drafts.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the images should not show.")] = None,
    height: Annotated[int | None, typer.Option(help="Height in pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Width in pixels.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Candidates per micro-batch.")] = None,
    pictured: Annotated[int, typer.Option(min=0, help="Keep winners' images of so many prompts.")] = 8,
    diagnosed: Annotated[
        int | None, typer.Option(min=0, help="Diagnose the winners of so many prompts; of all by default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device to load the model on.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    out: Annotated[Path, typer.Option(help="Directory; what is there already isn't run again.")] = Path("runs/compare"),
    format: _FormatOption = Format.human,
) -> None:
    """Compare algorithms at equal NFE, with intervals, held-out judges, plots and a report."""
    with _one_line_errors("anything was compared"):
        check_writable(out)
        from noise_search.cli import compare as command
        from noise_search.cli.options import configured_verifiers

        searched = _names(verifier)
        held_out = [one for one in _judges(judges, model) if judges is not None or one not in searched]
        scoring, judging = configured_verifiers(verifier_option or [], searched, held_out)
        found, paths = command.compare_to_directory(
            prompts,
            out,
            limit=limit,
            per_family=per_family,
            command=shlex.join(["noise-search", *sys.argv[1:]]),
            model=model,
            algorithms=command.algorithms(_names(algorithms), option or []),
            budgets=command.numbers(budgets, "budgets"),
            candidates=command.numbers(candidates, "candidates"),
            verifier=scoring,
            ensemble=ensemble,
            judges=judging,
            seeds=command.seeds(seeds),
            draft_steps=draft_steps,
            draft_renders=draft_renders,
            batch_size=batch_size,
            pictured=pictured,
            diagnosed=diagnosed,
            **{
                name: value
                for name, value in (
                    ("steps", steps),
                    ("guidance", guidance),
                    ("negative_prompt", negative_prompt),
                    ("height", height),
                    ("width", width),
                    ("device", device),
                    ("dtype", _dtype(dtype)),
                )
                if value is not None
            },
        )
    if format is Format.json:
        typer.echo(to_text({"records": found.rows(), "files": {name: str(path) for name, path in paths.items()}}))
    elif found.records:
        typer.echo("\n".join([str(found), *(f"{name:<{max(map(len, paths))}} {path}" for name, path in paths.items())]))
    if not found.complete:
        raise typer.Exit(_INTERRUPTED)


@app.command("list")
def list_(format: _FormatOption = Format.human) -> None:
    """Show models, algorithms and verifiers."""
    from noise_search.cli.list import catalogue

    content = catalogue()
    if format is Format.json:
        typer.echo(to_text(content))
        return
    for section, entries in content.items():
        typer.echo(section)
        width = max(map(len, entries))
        for name, entry in entries.items():
            typer.echo(f"  {name:<{width}}  {entry['summary']}")
            if details := entry.get("details"):
                _indented(details, width)
            if options := entry.get("options"):
                _indented("options: " + ", ".join(f"{k}={_short(v)}" for k, v in options.items()), width)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}..."


def _indented(text: str, width: int) -> None:
    margin = " " * (width + 4)
    columns = max(60, shutil.get_terminal_size((120, 24)).columns)
    typer.echo(textwrap.fill(text, columns, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False))


def main() -> None:
    """Entry point of the command."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    app()


class _one_line_errors:
    """Bad input ends in one line on standard error and exit code 2, a search without a winner in one and 1."""

    def __init__(self, before: str = "a first image was done") -> None:
        self._before = before

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from noise_search.engine.worker import SearchOutOfMemory
        from noise_search.prompt_sets.published import PromptsUnavailable
        from noise_search.results.data import AllCandidatesFailed
        from verifiers import WeightsError
        from verifiers.base import VerifierUnusable

        if error is None:
            return
        bad = (ValueError, TypeError, ImportError, WeightsError, VerifierUnusable)
        if isinstance(error, bad) or _of_device(error):
            print(f"noise-search: {_one_line(error)}", file=sys.stderr)
            raise typer.Exit(_BAD_INPUT) from error
        if isinstance(error, AllCandidatesFailed | SearchOutOfMemory | PromptsUnavailable | OSError):
            print(f"noise-search: {_one_line(error)}", file=sys.stderr)
            raise typer.Exit(1) from error
        if isinstance(error, KeyboardInterrupt):
            print(f"noise-search: interrupted before {self._before}", file=sys.stderr)
            raise typer.Exit(_INTERRUPTED) from error


def _of_device(error: BaseException) -> bool:
    """Whether torch says that a device doesn't exist, here or at all, which it does by errors of several classes."""
    return isinstance(error, RuntimeError | AssertionError | NotImplementedError) and bool(
        re.search(
            r"device string|device type at start|not (compiled|linked) with|NVIDIA driver|invalid device", str(error)
        )
    )


def _one_line(error: BaseException) -> str:
    """What an error says, and the notes that were added to it; libraries' messages may have several lines."""
    said = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    return "; ".join(" ".join(one.split()) for one in said)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _judges(asked: str | None, model: str) -> list[str]:
    from noise_search.shapes import EMBEDDED_MODELS

    if asked is None:
        return ["oracle"] if model in EMBEDDED_MODELS else []
    return [] if asked == "none" else _names(asked)


def _dtype(name: str | None) -> Any:
    import torch

    from noise_search.words import unknown

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name is not None and name not in known:
        raise unknown("dtype", name, known)
    return None if name is None else known[name]


def _verdict(score: float) -> str:
    return "can't tell" if score != score else f"{score:.3g}"


def _summary(result: Any, paths: dict[str, Path]) -> str:
    best = result.best
    origin = f"candidate {best.id}" + (f", seed {best.seed}" if best.seed is not None else "")
    lines = [
        f"prompt   {result.prompt}",
        f"score    {result.first_score:.4f} ({result.first_name}) -> {result.score:.4f} ({origin})",
    ]
    for key, scores in result.best.scores.items():
        lines.append(f"         {key}: {result.first.scores.get(key, float('nan')):.4f} -> {scores:.4f}")
    for key, scores in result.judges.items():
        lines.append(f"judge    {key}: {_verdict(scores['first'])} ({result.first_name}) -> {_verdict(scores['best'])}")
    lines.append(f"cost     {result.ledger}")
    lines.append(f"plan     {result.schedule}")
    lines.append(f"ended    {result.stop_reason}")
    lines += [f"{stem:<8} {path}" for stem, path in paths.items() if "/" not in stem]
    return "\n".join(lines)


def to_text(content: Any) -> str:
    """JSON as the command prints it."""
    return json.dumps(content, indent=2)
