"""How a pipeline lays out its latents: found by asking its own `prepare_latents`, without a denoiser call."""

import inspect
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

AXES = {1: ("feature",), 2: ("token", "feature"), 3: ("channel", "height", "width")}


@dataclass(frozen=True)
class Layout:
    """Two layouts of one row: as its noise is drawn, and as the denoising loop holds it.

    Attributes:
        shape: of one row as drawn.
        loop_shape: of one row in the loop (packed tokens for FLUX).
        order: where each element of the loop's row lies in the drawn row; None where the two are the same.
        dtype: in which the pipeline draws, and so expects `latents=`.
        packed_input: whether `latents=` takes the loop's layout (else the drawn one).
    """

    shape: tuple[int, ...]
    loop_shape: tuple[int, ...]
    order: Tensor | None
    dtype: torch.dtype
    packed_input: bool

    @property
    def axes(self) -> tuple[str, ...]:
        """A name for each axis of `shape`."""
        if len(self.shape) == 4:
            leading = ("frame", "channel") if self.shape[0] == 1 else ("channel", "frame")
            return (*leading, "height", "width")
        return AXES.get(len(self.shape), tuple(f"axis{i}" for i in range(len(self.shape))))

    def pack(self, drawn: Float[Tensor, " batch *latent"]) -> Float[Tensor, " batch *loop"]:
        """Rows from the drawn layout to the loop's."""
        if self.order is None:
            return drawn
        return drawn.flatten(1)[:, self.order.to(drawn.device)].reshape(len(drawn), *self.loop_shape)

    def unpack(self, loop: Float[Tensor, " batch *loop"]) -> Float[Tensor, " batch *latent"]:
        """Rows from the loop's layout to the drawn one."""
        if self.order is None:
            return loop
        back = torch.empty_like(self.order)
        back[self.order] = torch.arange(len(self.order))
        return loop.flatten(1)[:, back.to(loop.device)].reshape(len(loop), *self.shape)

    def given(self, drawn: Float[Tensor, " batch *latent"], device: torch.device) -> Tensor:
        """Rows as the pipeline takes them for `latents=`."""
        return (self.pack(drawn) if self.packed_input else drawn).to(device, self.dtype)


@dataclass
class LayoutProbe:
    """Stands in for `prepare_latents` during one call without steps, and sees which noise it draws."""

    view: Any
    found: Layout | None = None
    _drawn: list[tuple[tuple[int, ...], torch.dtype]] = field(default_factory=list)

    def install(self) -> None:
        """Shadow `prepare_latents` on the view. Raises ValueError where the pipeline has none."""
        if not hasattr(type(self.view), "prepare_latents"):
            raise ValueError(
                f"{type(self.view).__name__} has no prepare_latents, so it cannot be handed noise: "
                "pipelines with prepare_latents and a latents= argument are supported"
            )
        vars(self.view)["prepare_latents"] = self._prepare_latents

    def _prepare_latents(self, *args: Any, **kwargs: Any) -> Any:
        original = type(self.view).prepare_latents
        with _randn_replaced(type(self.view), self._randn):
            result = original(self.view, *args, **kwargs)
        if self.found is None:
            self.found = self._layout(_first_tensor(result), original, args, kwargs)
        return result

    def _randn(self, shape: Any, generator: Any = None, device: Any = None, dtype: Any = None, **_: Any) -> Tensor:
        self._drawn.append((tuple(shape), dtype or torch.float32))
        count = math.prod(shape)
        exact = torch.float32 if count < 2**24 else torch.float64
        return torch.arange(count, dtype=exact, device=device).reshape(tuple(shape))

    def _layout(self, loop: Tensor, original: Callable[..., Any], args: Any, kwargs: Any) -> Layout:
        shape, dtype = self._drawn[0] if self._drawn else (tuple(loop.shape), loop.dtype)
        order = loop.detach().cpu().flatten().double().round().long()
        if not self._drawn or not torch.equal(order.sort().values, torch.arange(math.prod(shape))):
            raise ValueError(
                f"{type(self.view).__name__}.prepare_latents does not return plain noise in some order: "
                "text-to-image and text-to-video pipelines are supported"
            )
        same = tuple(loop.shape) == shape and torch.equal(order, torch.arange(len(order)))
        bound = _signature_with_latents(type(self.view)).bind(self.view, *args, **kwargs)
        for packed in (True, False):
            given = loop if packed else loop.flatten()[order.argsort().to(loop.device)].reshape(shape)
            if self._accepts(given, loop, original, bound):
                return Layout(shape[1:], tuple(loop.shape[1:]), None if same else order, dtype, packed)
        raise ValueError(f"{type(self.view).__name__} accepts neither its packed nor its unpacked noise as latents=")

    def _accepts(self, given: Tensor, wanted: Tensor, original: Callable[..., Any], bound: Any) -> bool:
        bound.arguments["latents"] = given
        try:
            result = _first_tensor(original(*bound.args, **bound.kwargs))
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        return result.shape == wanted.shape and torch.equal(result, wanted.to(result.dtype))


_swap = threading.Lock()


@contextmanager
def _randn_replaced(cls: type, randn: Callable[..., Tensor]) -> Iterator[None]:
    """Give the modules of a class another `randn_tensor`, for this thread alone, and put theirs back."""
    modules = [sys.modules[name] for name in {c.__module__ for c in cls.__mro__}]
    me = threading.get_ident()
    with _swap:
        originals = {m: m.randn_tensor for m in modules if hasattr(m, "randn_tensor")}

        def choose(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return lambda *a, **k: (randn if threading.get_ident() == me else original)(*a, **k)

        try:
            for module, original in originals.items():
                vars(module)["randn_tensor"] = choose(original)
            yield
        finally:
            for module, original in originals.items():
                vars(module)["randn_tensor"] = original


def _signature_with_latents(cls: type) -> inspect.Signature:
    """The signature of the nearest `prepare_latents` that names `latents`; overrides may only pass it on."""
    for owner in cls.__mro__:
        signature = inspect.signature(vars(owner).get("prepare_latents", lambda: None))
        if "latents" in signature.parameters:
            return signature
    raise ValueError(f"{cls.__name__}.prepare_latents takes no latents, so noise cannot be handed to it")


def _first_tensor(result: Any) -> Tensor:
    found = result[0] if isinstance(result, tuple | list) else result
    if not isinstance(found, Tensor):
        raise ValueError(f"prepare_latents returned {type(found).__name__} where latents were expected")
    return found
