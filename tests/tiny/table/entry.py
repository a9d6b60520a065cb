"""A row of the table of tested pipelines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A tiny pipeline and the call that it is tried by.

    Attributes:
        make: the pipeline, with random weights that are the same each time, on the CPU in float32.
        options: arguments of its call by the pipeline's own names, images as a user gives them (PIL where that is what
            its documentation shows); no prompt, steps, generator, latents or output type.
        prompt: a text, or a class label.
        steps: of its grid.
    """

    make: Callable[[], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = "a cat"
    steps: int = 3
