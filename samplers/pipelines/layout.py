"""How a pipeline lays out its latents and takes noise: found by watching a call without steps; and noise handed in."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from samplers.base import NotDrivable
from samplers.pipelines.randn import Randn, all_drawing_modules, drawing_modules, handed_in, replaced

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
        before: shapes of what is drawn from a row's generator before its noise, in their order; None where that
            couldn't be found out, and no seed gives the plain pipeline's noise.
        skip: of the draws before it, how many have the shape of the noise.
    """

    shape: tuple[int, ...]
    loop_shape: tuple[int, ...]
    order: Tensor | None
    dtype: torch.dtype
    inlet: Inlet
    before: tuple[tuple[int, ...], ...] | None = ()
    skip: int = 0

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
        with handed_in(cls, x, layout.skip):
            yield {}


class _Draw(NamedTuple):
    """One draw from a generator.

    Attributes:
        shape: of one row, with its leading 1.
        dtype: asked for.
        own: whether the pipeline itself drew it, and not one of its parts.
        repeatable: whether the first row's generator has given what was drawn so far, and nothing else.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    own: bool
    repeatable: bool


@dataclass
class LayoutProbe:
    """Watches one call of a pipeline without steps, and sees which noise it draws and what it makes of it.

    Attributes:
        cls: the pipeline's class.
        takes_latents: whether its call has `latents=`.
        generator: of the call's one row, with its first seed.
        found: the layout, after the call.
    """

    cls: type
    takes_latents: bool
    generator: torch.Generator
    found: Layout | None = None
    _draws: list[_Draw] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._again = self.generator.clone_state()

    def install(self, view: Any) -> None:
        """Shadow `prepare_latents` on the view, where the pipeline has one."""
        method = getattr(view, "prepare_latents", None)
        if method is not None:
            vars(view)["prepare_latents"] = partial(self._prepare_latents, view, method)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around the call: watches all draws; the noise of a pipeline without `prepare_latents` is its first (DiT)."""
        own = drawing_modules(self.cls)
        others = [module for module in all_drawing_modules(self.cls) if module not in own]
        with replaced(others, partial(self._see, False)), replaced(own, partial(self._see, True)):
            yield
        drawn = next((at for at, draw in enumerate(self._draws) if draw.own), None)
        if drawn is not None and not hasattr(self.cls, "prepare_latents"):
            shape = self._draws[drawn].shape[1:]
            self.found = Layout(shape, shape, None, self._draws[drawn].dtype, "randn", *self._earlier(drawn))

    def _see(self, own: bool, original: Randn, shape: Any, generator: Any = None, **where: Any) -> Tensor:
        before = len(self._draws) == 0 or self._draws[-1].repeatable
        first = generator[0] if isinstance(generator, list) else generator
        same = first is self.generator and torch.equal(first.get_state(), self._again.get_state())
        drawn = original(shape, generator=generator, **where)
        row = (1, *drawn.shape[1:])
        if same:
            torch.randn(row, generator=self._again)
        self._draws.append(_Draw(row, drawn.dtype, own, before and same))
        return drawn

    def _earlier(self, at: int) -> tuple[tuple[tuple[int, ...], ...] | None, int]:
        """`before` and `skip` of the draw at this place."""
        draw, earlier = self._draws[at], self._draws[:at]
        skip = sum(one.own and one.shape == draw.shape for one in earlier)
        return (tuple(one.shape for one in earlier) if draw.repeatable else None), skip

    def _prepare_latents(self, view: Any, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        at = len(self._draws)
        with replaced(drawing_modules(self.cls), self._ranks):
            result = original(*args, **kwargs)
        noised = view.scheduler.walk.noised
        try:
            self.found = self._layout(at, _first_tensor(result), noised, original, args, kwargs)
        except NotDrivable:
            if self.found is None:
                raise
        return result

    def _ranks(self, original: Randn, shape: Any, generator: Any = None, **where: Any) -> Tensor:
        """In place of noise, which element is which."""
        drawn = self._see(True, original, shape, generator, **where)
        exact = torch.float32 if drawn.numel() < 2**24 else torch.float64
        return torch.arange(drawn.numel(), dtype=exact, device=drawn.device).reshape(drawn.shape)

    def _layout(
        self, first: int, loop: Tensor, noised: bool, original: Callable[..., Any], args: Any, kwargs: Any
    ) -> Layout:
        order = loop.detach().cpu().flatten().double().round().long()
        plain = torch.equal(order.sort().values, torch.arange(loop.numel()))
        drawn = [at for at, one in enumerate(self._draws) if at >= first and one.own]
        at = next((at for at in drawn if math.prod(self._draws[at].shape) == loop.numel()), None)
        if at is None or not plain:
            raise NotDrivable(f"{self.cls.__name__}.prepare_latents does not return plain noise in some order")
        shape, dtype = self._draws[at].shape, self._draws[at].dtype
        same = tuple(loop.shape) == shape and torch.equal(order, torch.arange(len(order)))
        before, skip = self._earlier(at)
        inlet: Inlet = "noised" if noised else "randn"
        if self.takes_latents and not noised and before == ():
            bound = _signature_with_latents(self.cls, original).bind(*args, **kwargs)
            given = loop.flatten()[order.argsort().to(loop.device)].reshape(shape)
            accepted = (k for k, x in (("packed", loop), ("drawn", given)) if self._accepts(x, loop, original, bound))
            inlet = next(accepted, inlet)  # type: ignore[arg-type]
        return Layout(shape[1:], tuple(loop.shape[1:]), None if same else order, dtype, inlet, before, skip)

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
