"""`noise-search score`: pictures that are there already, ranked."""

from pathlib import Path
from typing import Annotated

import typer

from noise_search.cli import options
from noise_search.cli.options import FAILED, INTERRUPTED, Format, Said


def score(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    prompt: Annotated[
        str | None, typer.Option(help="For all images; else that recorded in the PNG, or in a .txt beside the image.")
    ] = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(help="The image that they were made from, for verifiers of edits; may be repeated."),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(help="Verifier, or several with commas.", show_default="what the PNGs record, else clip"),
    ] = None,
    verifier_option: options.VerifierOptions = None,
    ensemble: options.Ensemble = "mean-z",
    model: Annotated[str | None, typer.Option(help="Names mean what this model declares; it isn't loaded.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Show the best so many.")] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Look into folders of folders too.")] = False,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 16,
    device: Annotated[str | None, typer.Option(help="Device to score on.")] = None,
    format: options.Printed = Format.human,
) -> Said:
    """Score images and rank them, best first."""
    from noise_search.image_scores import score_images
    from noise_search.words import counted

    asked = options.names("clip" if verifier is None else verifier)
    [scoring] = options.configured_verifiers(verifier_option or [], asked)
    found = score_images(
        images,
        prompt=prompt,
        source=source or None,
        verifier=None if verifier is None and not verifier_option else scoring,
        ensemble=ensemble,
        model=model,
        recursive=recursive,
        batch_size=batch_size,
        device=device,
    )
    notes = list(found.unreadable.values())
    if found.ended:
        count = sum(one.failure is None for one in found.images)
        notes.insert(0, f"{' '.join(found.ended.split())}; {counted(count, 'image')} scored, the others not")
    if found.skipped:
        notes.append(f"{counted(len(found.skipped), 'other file')} skipped, such as {found.skipped[0]}")
    missing = any(value != value for one in found.images for value in one.scores.values())
    code = INTERRUPTED if found.interrupted else FAILED if found.ended or found.unreadable or missing else 0
    shown = found.top(top)
    return Said(shown.to_json() if format is Format.json else str(shown), notes, code)
