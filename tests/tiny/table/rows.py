"""What rows of the table are made of: how one is written, pictures and masks for its call."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from tiny.pipelines import parts, quiet
from tiny.table.entry import Entry


def photo(seed: int = 0, side: int = 16) -> Image.Image:
    """A picture of 4 x 4 patches of random colours."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.NEAREST)


def mask(side: int = 16) -> Image.Image:
    """White, to be made anew, on its left half."""
    white = np.zeros((side, side), dtype=np.uint8)
    white[:, : side // 2] = 255
    return Image.fromarray(white)


def row(
    cls: type,
    build: Callable[[], dict[str, Any]],
    schedulers: Callable[[], Any] | Mapping[str, Callable[[], Any]],
    options: Mapping[str, Any] | None = None,
    prompt: str = "a cat",
    attributes: Mapping[str, Any] | None = None,
    *,
    steps: int = 3,
    **fields: Any,
) -> Entry:
    """A row of this class over shared parts, with schedulers of its own: one, or some by the names of its fields.

    `attributes` are set on the pipeline: sizes that its constructor fixes.
    """
    named = schedulers if isinstance(schedulers, Mapping) else {"scheduler": schedulers}

    def make() -> Any:
        pipe = quiet(cls(**parts(build) | {name: new() for name, new in named.items()} | fields))
        vars(pipe).update(attributes or {})
        return pipe

    return Entry(make, options or {}, prompt, steps)
