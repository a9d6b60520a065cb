"""The images that a search edits: which of a model's options they are, and what verifiers get of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from samplers.contents import recorded
from verifiers.base import Verifier, check_source

Source = Float[Tensor, "1 3 height width"]

OPTIONS = ("image", "images", "input_images")
"""Arguments of pipelines' calls that may be the source; the first that is given is."""

NEEDS = frozenset({"source", "sources"})


def edited_sources(verifiers: Sequence[Verifier], options: Mapping[str, Any]) -> tuple[Source, ...]:
    """The images that a model is given to edit, as of `needed_sources`.

    They are `image` among the options of its call, else `images`, else `input_images`.

    Raises:
        ValueError: a verifier needs them, and there are none that it can have.
    """
    name = next((name for name in OPTIONS if options.get(name) is not None), OPTIONS[0])
    return needed_sources(verifiers, options.get(name), f"model_options[{name!r}]")


def needed_sources(verifiers: Sequence[Verifier], given: Any, name: str) -> tuple[Source, ...]:
    """The images in what was given as `name`, float32 in [0, 1]; () where no verifier needs any.

    Read are PIL images; tensors, channels first, and arrays, channels last, of 8 bits, or of floats in [0, 1] or, where
    one is negative, in [-1, 1], as diffusers reads them; batches of these; and lists of all of them.

    Raises:
        ValueError: there are none, something else (latents are no images), or several where a verifier compares with
            one.
    """
    wanting = [one for one in verifiers if one.needs & NEEDS]
    if not wanting:
        return ()
    needs = f"verifier {wanting[0].name!r} needs the source image"
    if given is None:
        raise ValueError(f"{needs}, and there is none: give {name}, the image that is edited")
    try:
        sources = _read(given)
    except ValueError as error:
        raise ValueError(f"{needs}, and {name} can't be read as one: {error}") from None
    single = next((one.name for one in wanting if "source" in one.needs), None)
    if single is not None and len(sources) != 1:
        raise ValueError(f"verifier {single!r} compares with one source image, and {name} holds {len(sources)}")
    return sources


def given_sources(verifier: Verifier, sources: Sequence[Source], device: torch.device) -> dict[str, Any]:
    """What a verifier gets of them beside images on this device; {} where there are none."""
    placed = [source.to(device) for source in sources if verifier.needs & NEEDS]
    given: dict[str, Any] = {"source": placed[0], "sources": placed} if placed else {}
    return {need: one for need, one in given.items() if need in verifier.needs}


def sources_record(sources: Sequence[Source]) -> dict[str, Any]:
    """For a result: shape and hash of each source that its scores depend on; {} where there are none."""
    return {"sources": [recorded(source) for source in sources]} if sources else {}


def _read(value: Any) -> tuple[Source, ...]:
    several = value if isinstance(value, list | tuple) else ()
    found = tuple(source for one in several for source in _read(one)) if several else torch.split(_pixels(value), 1)
    for source in found:
        check_source(source)
    return found


def _pixels(value: Any) -> Float[Tensor, "batch 3 height width"]:
    """A batch of images, channels first; in [0, 1] where they are pixels."""
    if hasattr(value, "convert"):
        value = np.asarray(value.convert("RGB"))
    if not isinstance(value, Tensor | np.ndarray):
        raise ValueError(f"it is a {type(value).__name__}; expected a PIL image, a tensor, an array or a list of them")
    channel, order = (
        (-3, "[batch, 3, height, width]") if isinstance(value, Tensor) else (-1, "[batch, height, width, 3]")
    )
    if value.ndim not in (3, 4) or value.shape[channel] != 3:
        raise ValueError(f"it has shape {tuple(value.shape)}; expected RGB pixels {order}, and latents are no pixels")
    pixels = torch.as_tensor(np.array(value) if channel == -1 else value).detach().cpu().movedim(channel, -3)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    pixels = pixels.float()
    return (pixels + 1) / 2 if bool((pixels < 0).any()) else pixels
