"""What a verifier is: a function from images and prompts to one number per image, higher is better."""

import copy
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from verifiers.code import UNTOLD, version_of, why_untold

Kind = Literal["score", "constraint"]

# VAE decoders and half-precision images overshoot by rounding; an image in [-1, 1] overshoots by far more.
RANGE_TOLERANCE = 1e-3


class VerifierUnusable(RuntimeError):
    """No further call can succeed until something is put right; the message says what.

    Any other error of a verifier costs a search the image that it was raised for; this one ends the search.

    Attributes:
        scores: of the call that raised, what was found before `[batch]`, NaN for the rest; None where nothing was.
    """

    def __init__(self, message: str, scores: Tensor | None = None) -> None:
        """Take what has to be put right."""
        super().__init__(message)
        self.scores = scores


class WrongScores(VerifierUnusable, ValueError):
    """What a verifier returned is no number per image, as it will be of any further call."""


class WeightsError(RuntimeError):
    """Weights that cannot be found or loaded; the message says which, why, and what to do about it."""


class Verifier(ABC):
    """Scores images; knows nothing of samplers, budgets or search.

    A concrete verifier sets `name` and `version` and implements `score`. `version` changes with anything that
    changes scores (weights, preprocessing, scale, dtype). `kind` is "score", or "constraint" where a value
    below zero means violated. `family` names those that it shares mistakes with, such as "clip" where features are a
    CLIP's, so that one of them doesn't confirm what another found; "" for a family of its own. `needs` names the inputs
    beyond images and prompts that the driver must supply: "frames" are clips `[batch, frames, 3, height, width]`, and
    the images then their middle frames; "x0" are the x0 predictions `[batch, 3, height, width]`, decoded like the
    images, that were made on the way to them at the verifier's `noise_level`, sigma / (alpha + sigma) in (0, 1);
    "source" is the one image that all rows were made from, such as that of an edit, `[1, 3, height, width]` in [0, 1]
    at a size of its own; "sources" are all such images of models that take several, a list of them.
    `prompt_agnostic` is True where no score depends on the prompt, `paid` where an image that is scored costs money, or
    a person's time. `exhausted` says, after a call, why images that it left without a score would get none from a
    further call either, such as a cap on spending; "" where they may.

    Example:
        >>> class Brightness(Verifier):
        ...     name, version = "brightness", "1"
        ...
        ...     def score(self, images, prompts, **needs):
        ...         return images.mean((1, 2, 3))
        >>> Brightness()(torch.ones(2, 3, 8, 8), ["a", "b"])
        tensor([1., 1.])
    """

    name: str
    version: str
    kind: Kind = "score"
    family: str = ""
    needs: frozenset[str] = frozenset()
    prompt_agnostic: bool = False
    paid: bool = False
    exhausted: str = ""

    @abstractmethod
    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Score checked inputs: finite float32 images in [0, 1] (to 1e-3), at least one row, as many prompts.

        A row must not depend on other rows. Non-finite images arrive as grey; their NaN is put in after.
        """

    def load(self, device: torch.device | str | None = None) -> None:  # noqa: B027 (many have nothing to load)
        """Load now what the first call would load, so that a missing file is found before anything is spent.

        `device` is where the images will be.
        """

    def check(self, prompts: Sequence[str]) -> None:  # noqa: B027 (many read any prompt)
        """Raise ValueError for a prompt that can't be scored, after `load` and before anything is spent."""

    def unread(self, prompt: str) -> str:
        """The end of a prompt that the verifier cuts off, "" where it reads all of it; asked after `load`."""
        return ""

    @final
    def __call__(
        self, images: Tensor, prompts: Sequence[str], *, grad: bool = False, **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Score every image against its prompt.

        Args:
            images: float `[batch, 3, height, width]` in [0, 1], on any device; left unchanged.
            prompts: one text per image.
            grad: keep the graph from the scores back to `images`.
            needs: exactly the inputs named by `self.needs`.

        Returns:
            float32 `[batch]` on the device of `images`, higher is better; NaN where an image is not finite.

        Raises:
            TypeError: images that are no float tensor, prompts that are one string, inputs not in `needs`.
            ValueError: wrong shape or range, lengths that differ, a missing input, no gradient when asked.
            WrongScores: `score` returned anything but one number per image.
            VerifierUnusable: no further call can succeed.
        """
        finite = check_images(images)
        check_prompts(prompts, len(images))
        self._check_needs(needs)
        if len(images) == 0:
            return torch.empty(0, device=images.device)
        if not bool(finite.all()):
            images = torch.where(finite[:, None, None, None], images, 0.5)
        with torch.set_grad_enabled(grad):
            scores = self._as_scores(self.score(images.float(), prompts, **needs), images, grad)
            return scores.to(images.device, torch.float32).masked_fill(~finite, torch.nan)

    @property
    def key(self) -> str:
        """The name under which scores are stored: `name@version`."""
        return f"{self.name}@{self.version}"

    def describe(self) -> dict[str, Any]:
        """Everything that changes scores, as plain JSON."""
        return {"name": self.name, "version": self.version, "kind": self.kind, "needs": sorted(self.needs)}

    def _check_needs(self, given: dict[str, Any]) -> None:
        if missing := sorted(self.needs - given.keys()):
            raise ValueError(f"verifier {self.name!r} needs {missing}, which were not given; pass them by keyword")
        if unknown := sorted(given.keys() - self.needs):
            raise TypeError(f"verifier {self.name!r} takes no {unknown}; it needs {sorted(self.needs)}")
        if "source" in given:
            check_source(given["source"])
        if "sources" in given:
            check_sources(given["sources"])

    def _as_scores(self, given: Any, images: Tensor, grad: bool) -> Tensor:
        try:
            scores = torch.as_tensor(given, device=given.device if isinstance(given, Tensor) else images.device)
        except (TypeError, ValueError, RuntimeError):  # None, texts, a dictionary, lists of unequal lengths
            scores = None
        if scores is None or scores.is_complex() or tuple(scores.shape) != (len(images),):
            shape = getattr(given, "shape", None)
            kind = type(given).__name__
            came = " ".join(f"{given!r:.60} ({kind})".split()) if shape is None else f"shape {tuple(shape)} ({kind})"
            raise WrongScores(
                f"verifier {self.name!r} returned {came} for {len(images)} images; expected one number per image, "
                f"shape ({len(images)},)"
            )
        if grad and images.requires_grad and not scores.requires_grad:
            raise ValueError(f"verifier {self.name!r} is not differentiable in the images; call it without grad=True")
        return scores


def check_images(images: Tensor) -> Bool[Tensor, " batch"]:
    """Which images are finite; raise unless all are floats `[batch, 3, height, width]`, those in [0, 1]."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images is a {type(images).__name__}; expected a float tensor [batch, 3, height, width]")
    if not images.is_floating_point():
        raise TypeError(
            f"images has dtype {images.dtype}; expected floats in [0, 1]: for 8-bit images pass images.float() / 255"
        )
    shape = tuple(images.shape)
    if images.ndim != 4:
        raise ValueError(f"images has shape {shape}; expected [batch, 3, height, width]: use images[None] for one")
    if shape[1] != 3:
        raise ValueError(
            f"images has {shape[1]} channels (shape {shape}); expected 3, RGB and channel first: "
            "expand grey images to 3 channels, drop the alpha channel, permute channel-last arrays"
        )
    if shape[2] == 0 or shape[3] == 0:
        raise ValueError(f"images has shape {shape}; expected a height and a width of at least 1")
    return _finite_rows(images) if shape[0] else torch.ones(0, dtype=torch.bool, device=images.device)


def check_source(source: Any, name: str = "source") -> None:
    """Raise unless it is one finite image, a float `[1, 3, height, width]` in [0, 1]."""
    try:
        finite = check_images(source)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    if len(source) != 1 or not bool(finite.all()):
        what = "values that aren't finite" if len(source) == 1 else f"{len(source)} images"
        raise ValueError(f"{name} holds {what}; expected one image in [0, 1], of shape [1, 3, height, width]")


def check_sources(sources: Any) -> None:
    """Raise unless they are images as of `check_source`, one or more, in a list."""
    if not isinstance(sources, list | tuple) or not sources:
        told = "an empty list" if isinstance(sources, list | tuple) else f"a {type(sources).__name__}"
        raise TypeError(f"sources is {told}; expected a list of images, each of shape [1, 3, height, width]")
    for at, source in enumerate(sources):
        check_source(source, f"sources[{at}]")


def check_prompts(prompts: Sequence[str], count: int) -> None:
    """Raise unless `prompts` holds `count` strings."""
    if isinstance(prompts, str):
        raise TypeError(f"prompts is the single string {prompts!r}; expected one per image: pass [prompt] * {count}")
    if len(prompts) != count:
        raise ValueError(f"{count} images but {len(prompts)} prompts; expected one prompt per image")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise TypeError(f"prompts holds {prompt!r} of type {type(prompt).__name__}; expected strings")


def _finite_rows(images: Tensor) -> Bool[Tensor, " batch"]:
    """Which images hold finite values only; raise if those leave [0, 1]."""
    low, high = torch.aminmax(images.detach().flatten(1), dim=1)  # NaN goes through both
    finite = torch.isfinite(low) & torch.isfinite(high)
    least = float(low.where(finite, 0.0).amin())
    most = float(high.where(finite, 0.0).amax())
    if least < -RANGE_TOLERANCE or most > 1 + RANGE_TOLERANCE:
        fix = "(images + 1) / 2 maps [-1, 1] there" if most < 2 else "images / 255 maps 8-bit values there"
        raise ValueError(f"images spans [{least:.4g}, {most:.4g}]; expected values in [0, 1]: {fix}, or clamp")
    return finite


class FunctionVerifier(Verifier):
    """Wraps `fn(images, prompts) -> scores`: a tensor, an array or a list with one number per image.

    The function gets a copy of the images, float32 in [0, 1]. One with a further argument `source`, or `sources`, that
    has no default gets what the images were made from; see `Verifier`, whose `prompt_agnostic` and `paid` are the
    function's attributes of these names where it has them. Its version is its attribute `version` where it has one,
    else a hash of its code and of the values that it closes over and names; "untold" where it uses what has no stable
    form, such as an open file: such scores can't be told from those of another function of its name.

    Example:
        >>> warm = FunctionVerifier(lambda images, prompts: images[:, 0].mean((1, 2)), name="warm")
        >>> warm(torch.ones(1, 3, 8, 8), ["a sunset"])
        tensor([1.])
    """

    def __init__(self, fn: Callable[..., Any], name: str | None = None, *, kind: str = "score") -> None:
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
        self.unnamed = not name
        own = str(getattr(fn, "__name__", type(fn).__name__))
        self.name = name or ("function" if own == "<lambda>" else own)
        self.version = version_of(fn)
        self.kind = "constraint" if kind == "constraint" else "score"
        self.needs = _required(fn) & {"source", "sources"}
        self.prompt_agnostic = bool(getattr(fn, "prompt_agnostic", False))
        self.paid = bool(getattr(fn, "paid", False))

    def describe(self) -> dict[str, Any]:
        """As of any verifier; and why nothing tells the function from another, where that is so."""
        untold = {"untold": why_untold(self.fn)} if self.version == UNTOLD else {}
        return {**super().describe(), **untold}

    def score(self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any) -> Any:
        """What the function returns; the caller checks it."""
        own: dict[str, Any] = {}
        for need, given in needs.items():
            own[need] = given.clone() if isinstance(given, Tensor) else [one.clone() for one in given]
        return self.fn(images.clone(), list(prompts), **own)

    def numbered(self, taken: Collection[str]) -> "FunctionVerifier":
        """The same under the first of name, name-2, name-3, ... that isn't taken."""
        if self.name not in taken:
            return self
        found = copy.copy(self)
        found.name = next(name for i in itertools.count(2) if (name := f"{self.name}-{i}") not in taken)
        return found


def _required(fn: Callable[..., Any]) -> frozenset[str]:
    """The arguments beyond the first two that a function can't be called without, by name."""
    try:
        further = list(inspect.signature(fn).parameters.values())[2:]
    except (TypeError, ValueError):  # built in, and without a signature
        return frozenset()
    return frozenset(one.name for one in further if one.default is one.empty)


def told_apart(verifiers: Sequence[Any], beside: Sequence[Any] = ()) -> tuple[Any, ...]:
    """The same, with functions numbered whose own names others have, as "function" and "function-2".

    Names that were given stay, and so does a function that is there twice.

    Args:
        verifiers: to tell apart; names that wait for a verifier go through.
        beside: others whose names are taken.
    """
    found: list[Any] = []
    for one in verifiers:
        others = [other for other in (*beside, *found) if isinstance(other, Verifier)]
        if isinstance(one, FunctionVerifier) and one.unnamed and not any(same(one, other) for other in others):
            one = one.numbered({other.name for other in others})
        found.append(one)
    return tuple(found)


def same(one: Verifier, other: Verifier) -> bool:
    """Whether two verifiers give the same scores, as far as can be told: one object, one function, or one key.

    Functions without a name given are told apart by what they are: those that nothing tells apart have one key.
    """
    if isinstance(one, FunctionVerifier) and isinstance(other, FunctionVerifier):
        return one.fn is other.fn or (one.key == other.key and not (one.unnamed and other.unnamed))
    return one is other or one.key == other.key
