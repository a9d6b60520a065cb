"""`noise-search check`: what a search can do with a pipeline."""

from typing import Annotated

import typer

from noise_search.cli import options
from noise_search.cli.options import FAILED, Format, OfModel, Said


def check(
    model: Annotated[str, typer.Argument(help="Embedded model, saved pipeline's directory, or hub id.")],
    prompt: Annotated[str, typer.Option(help="A text, or a class label.")] = "a photo",
    guidance: options.Guidance = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the image should not show.")] = None,
    height: options.Height = None,
    width: options.Width = None,
    of_model: OfModel = options.OF_MODEL,
    format: options.Printed = Format.human,
) -> Said:
    """Show, by a few steps of a pipeline, what a search can do with it and what its results mean.

    Ends with 1 where a claim fails.
    """
    from noise_search.checking import check as checked

    found = checked(
        model,
        prompt=prompt,
        guidance=guidance,
        negative_prompt=negative_prompt,
        height=height,
        width=width,
        **of_model.given(model),
    )
    return Said(found.to_json() if format is Format.json else str(found), code=0 if found.ok else FAILED)
