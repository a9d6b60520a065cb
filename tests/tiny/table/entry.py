"""A row of the table of tested pipelines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiny.pipelines import parts, quiet


@dataclass(frozen=True)
class Entry:
    """A tiny pipeline and the call that it is tried by.

    Attributes:
        make: the pipeline, with random weights that are the same each time, on the CPU in float32.
        options: arguments of its call by the pipeline's own names, images as a user gives them (PIL where that is what
            its documentation shows); no prompt, steps, generator, latents or output type.
        prompt: a text, or a class label.
        steps: of its grid.
        output_type: the one that gives the picture in [0, 1]: "np" where "pt" is in [-1, 1], "pil" where it must be.
    """

    make: Callable[[], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = "a cat"
    steps: int = 3
    output_type: str = "pt"


def row(
    cls: type,
    build: Callable[[], dict[str, Any]],
    scheduler: Callable[[], Any],
    options: Mapping[str, Any],
    prompt: str = "a cat",
    attributes: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Entry:
    """A row of this class, around the parts that `build` makes once for all rows.

    `attributes` are set on the pipeline: sizes that its constructor fixes.
    """

    def make() -> Any:
        pipe = quiet(cls(**parts(build) | {"scheduler": scheduler()} | fields))
        vars(pipe).update(attributes or {})
        return pipe

    return Entry(make, options, prompt)
