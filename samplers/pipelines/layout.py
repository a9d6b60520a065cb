"""How a pipeline lays out its latents and takes noise: found by watching a call without steps; and noise handed in."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.base import NotDrivable
from samplers.pipelines.randn import Randn, first_draw, replaced

Inlet = Literal["packed", "drawn", "randn", "noised"]
AXES = {1: ("feature",), 2: ("token", "feature"), 3: ("channel", "height", "width")}


@dataclass(frozen=True)
class Layout:
    """Two layouts of one row: as its noise is drawn, and as the denoising loop holds it.

    Attributes:
        shape: of one row as drawn.
        loop_shape: of one row in the loop (packed tokens for FLUX).
        order: where each element of the loop's row lies in the drawn row; None where the two are the same.
        dtype: in which the pipeline draws, and so expects `latents=`.
        inlet: how noise is handed in: as `latents=`, "packed" in the loop's layout or as "drawn"; else in
            place of the pipeline's own draw ("randn"), to which it may add an image ("noised").
    """

    shape: tuple[int, ...]
    loop_shape: tuple[int, ...]
    order: Tensor | None
    dtype: torch.dtype
    inlet: Inlet

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


@dataclass(frozen=True)
class Handed:
    """Rows of x in the drawn layout, to be handed to one call of a pipeline of this layout."""

    layout: Layout
    x: Float[Tensor, " batch *latent"]

    @contextmanager
    def entering(self, cls: type, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """Around the call: x is in the options given, or takes the place of the first draw of its shape."""
        layout, x = self.layout, self.x
        if layout.inlet in ("packed", "drawn"):
            yield {"latents": (layout.pack(x) if layout.inlet == "packed" else x).to(device, layout.dtype)}
            return
        with first_draw(cls, x):
            yield {}


@dataclass
class LayoutProbe:
    """Watches one call of a pipeline without steps, and sees which noise it draws and what it makes of it.

    Attributes:
        cls: the pipeline's class.
        takes_latents: whether its call has `latents=`.
        found: the layout, after the call.
    """

    cls: type
    takes_latents: bool
    found: Layout | None = None
    _drawn: list[tuple[tuple[int, ...], torch.dtype]] = field(default_factory=list)

    def install(self, view: Any) -> None:
        """Shadow `prepare_latents` on the view, where the pipeline has one."""
        method = getattr(view, "prepare_latents", None)
        if method is not None:
            vars(view)["prepare_latents"] = partial(self._prepare_latents, view, method)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around the call: watches all draws of a pipeline without `prepare_latents` (DiT draws in its call)."""
        if hasattr(self.cls, "prepare_latents"):
            yield
            return

        def see(original: Randn, shape: Any, generator: Any = None, **where: Any) -> Tensor:
            drawn = original(shape, generator=generator, **where)
            self._drawn.append((tuple(drawn.shape), drawn.dtype))
            return drawn

        with replaced(self.cls, see):
            yield
        if self._drawn:
            shape, dtype = self._drawn[0]
            self.found = Layout(shape[1:], shape[1:], None, dtype, "randn")

    def _prepare_latents(self, view: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with replaced(self.cls, self._randn):
            result = original(*args, **kwargs)
        if self.found is None:
            noised = view.scheduler.walk.noised
            self.found = self._layout(_first_tensor(result), noised, original, args, kwargs)
        return result

    def _randn(self, original: Randn, shape: Any, generator: Any = None, **where: Any) -> Tensor:
        self._drawn.append((tuple(shape), where.get("dtype") or torch.float32))
        count = math.prod(shape)
        exact = torch.float32 if count < 2**24 else torch.float64
        return torch.arange(count, dtype=exact, device=where.get("device")).reshape(tuple(shape))

    def _layout(self, loop: Tensor, noised: bool, original: Callable[..., Any], args: Any, kwargs: Any) -> Layout:
        shape, dtype = self._drawn[0] if self._drawn else (tuple(loop.shape), loop.dtype)
        order = loop.detach().cpu().flatten().double().round().long()
        if not self._drawn or not torch.equal(order.sort().values, torch.arange(math.prod(shape))):
            raise NotDrivable(f"{self.cls.__name__}.prepare_latents does not return plain noise in some order")
        same = tuple(loop.shape) == shape and torch.equal(order, torch.arange(len(order)))
        inlet: Inlet = "noised" if noised else "randn"
        if self.takes_latents and not noised:
            bound = _signature_with_latents(self.cls, original).bind(*args, **kwargs)
            drawn = loop.flatten()[order.argsort().to(loop.device)].reshape(shape)
            accepted = (k for k, x in (("packed", loop), ("drawn", drawn)) if self._accepts(x, loop, original, bound))
            inlet = next(accepted, inlet)  # type: ignore[arg-type]
        return Layout(shape[1:], tuple(loop.shape[1:]), None if same else order, dtype, inlet)

    def _accepts(self, given: Tensor, wanted: Tensor, original: Callable[..., Any], bound: Any) -> bool:
        bound.arguments["latents"] = given
        try:
            result = _first_tensor(original(*bound.args, **bound.kwargs))
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        return result.shape == wanted.shape and torch.equal(result, wanted.to(result.dtype))


def _signature_with_latents(cls: type, method: Callable[..., Any]) -> inspect.Signature:
    """The signature of `prepare_latents` that names `latents`; overrides may only pass it on.

    Of the method itself, else of the nearest class whose own has it.
    """
    if "latents" in inspect.signature(method).parameters:
        return inspect.signature(method)
    for owner in cls.__mro__:
        signature = inspect.signature(vars(owner).get("prepare_latents", lambda: None))
        if "latents" in signature.parameters:
            return signature.replace(parameters=list(signature.parameters.values())[1:])
    raise NotDrivable(f"{cls.__name__}.prepare_latents takes no latents, so noise cannot be handed to it")


def _first_tensor(result: Any) -> Tensor:
    found = result[0] if isinstance(result, tuple | list) else result
    if not isinstance(found, Tensor):
        raise NotDrivable(f"prepare_latents returned {type(found).__name__} where latents were expected")
    return found
