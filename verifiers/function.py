"""A plain function of images and prompts as a verifier."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from verifiers.base import Verifier


class FunctionVerifier(Verifier):
    """Wraps `fn(images, prompts) -> scores`: a tensor, an array or a list with one number per image.

    The function gets a copy of the images, float32 in [0, 1]. Its version is a hash of its source text, which
    cannot see the values it closes over: give another `name` where those change the scores.

    Example:
        >>> warm = FunctionVerifier(lambda images, prompts: images[:, 0].mean((1, 2)), name="warm")
        >>> warm(torch.ones(1, 3, 8, 8), ["a sunset"])
        tensor([1.])
    """

    def __init__(self, fn: Callable[[Tensor, list[str]], Any], name: str | None = None, *, kind: str = "score") -> None:
        """Take the function.

        Args:
            fn: the function; it returns tensors attached to the images where a gradient is wanted.
            name: how scores are labelled; default the function's own name.
            kind: "constraint" where a value below zero means violated.

        Raises:
            TypeError: `fn` cannot be called, or is a class.
            ValueError: another kind.
        """
        if isinstance(fn, type):
            raise TypeError(f"fn is the class {fn.__name__}; expected a function: make an instance, {fn.__name__}(...)")
        if not callable(fn):
            raise TypeError(f"fn is {fn!r}; expected a function of images and prompts that returns scores")
        if kind not in ("score", "constraint"):
            raise ValueError(f"kind is {kind!r}; expected 'score' or 'constraint'")
        self.fn = fn
        self.name = name or _name(fn)
        self.version = source_hash(fn)
        self.kind = "constraint" if kind == "constraint" else "score"

    def score(self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any) -> Tensor:
        """Call the function and read its answer as float32; the caller checks its shape."""
        scores = self.fn(images.clone(), list(prompts))
        return torch.as_tensor(scores, device=images.device).to(torch.float32)


def source_hash(fn: Callable[..., Any]) -> str:
    """Eight hexadecimal digits of SHA-256 of a function's source, of an object's class, else of its qualified name.

    The source is whole lines, so two lambdas on one line are not told apart; nor are the values a function closes
    over, nor partial objects, nor functions written in C or typed at a console under one name.
    """
    target = fn if inspect.isroutine(fn) else type(fn)
    try:
        text = inspect.getsource(target)
    except (OSError, TypeError):  # defined in a console, or written in C
        text = f"{target.__module__}.{getattr(target, '__qualname__', target)}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _name(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    return "function" if name == "<lambda>" else str(name)
