"""What a look costs, from FLOPs: counted on twins of a pipeline's modules that have shapes and no weights."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from samplers.base import is_out_of_memory
from samplers.pipelines import denoisers
from samplers.pipelines.calls import PipelineCalls
from samplers.pipelines.probe import Probed
from samplers.pipelines.scheduler import SearchScheduler, Walk

CONTROLS = {"controlnet"}
"""Components that run in every evaluation beside the denoisers."""

_HOOKS = ("_hf_hook", "_diffusers_hook")
"""By which accelerate and diffusers move weights and cache: they hold other modules, and their weights."""


@torch.no_grad()
def look_price(calls: PipelineCalls, probed: Probed, prompt: str, decoder: nn.Module | None = None) -> float | None:
    """FLOPs of decoding a row over those of one evaluation of it, guidance included; None where they can't be counted.

    Those of the pipeline's own decoder, or of another one that takes latents in the layout of `NoiseSpace`.

    The pipeline is called for one step with stand-ins for its denoisers and decoder, which compute nothing: no NFE. As
    they count on the meta device, the number is the same on every machine. What is encoded before is encoded for real.

    Raises RuntimeError in the middle of another search's call, and where memory runs out.
    """
    parts = {k: v for k, v in calls.pipe.components.items() if isinstance(v, nn.Module)}
    evaluated = {k: Counted(v) for k, v in parts.items() if k in {*calls.denoisers, *CONTROLS}}
    decoding = {k: Counted(v) for k, v in parts.items() if k not in evaluated and hasattr(v, "decode")}
    scheduler = SearchScheduler(calls.scheduler, Walk(0, 1), probed.builder)
    options = probed.options | {"output_type": calls.picture_type(probed.options)}
    try:
        with torch.random.fork_rng():
            calls.call(scheduler, [prompt], options, prepare=lambda view: vars(view).update(evaluated | decoding))
        if decoder is not None:
            decoding = {"": Counted(decoder)}
            decoding[""].decode(torch.empty(1, *probed.space.shape, dtype=_dtype(decoder), device="meta"))
    except denoisers.Busy:
        raise
    except (
        Exception
    ) as error:  # of whatever kind: a kernel or a choice that needs values, a module that can't be copied
        if is_out_of_memory(error):
            raise
        return None
    evaluation = sum(one.flops for one in evaluated.values())
    return sum(one.flops for one in decoding.values()) / evaluation if evaluation else None


def _dtype(module: nn.Module) -> torch.dtype:
    return next((one.dtype for one in module.parameters()), torch.float32)


class Counted:
    """Stands in for a module: calls, and decoding, give zeros of the right shape, and their FLOPs are counted.

    Attributes:
        flops: of all calls so far.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module: nn.Module = getattr(module, "_orig_mod", module)
        self._twin: Any = None
        self.flops = 0

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The module's: pipelines choose paths by `isinstance`."""
        return type(self._module)

    def __getattr__(self, name: str) -> Any:
        """What is not here, from the module."""
        if name.startswith("__") or name == "_module":
            raise AttributeError(name)
        return getattr(self._module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros in the form of the module's output."""
        with self._counting() as twin:
            return self._zeros(twin(*_on_meta(args), **_on_meta(kwargs)), (args, kwargs))

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Zeros in the form of what it decodes to."""
        with self._counting() as twin:
            return self._zeros(twin.decode(*_on_meta(args), **_on_meta(kwargs)), (args, kwargs))

    @contextmanager
    def _counting(self) -> Iterator[Any]:
        self._twin = self._twin or twin(self._module)
        with FlopCounterMode(display=False) as counter:
            yield self._twin
        self.flops += counter.get_total_flops()

    def _zeros(self, output: Any, given: Any) -> Any:
        devices: list[torch.device] = []
        tree_map_only(Tensor, lambda one: devices.append(one.device), given)
        # A scalar timestep lies on the CPU, whatever the device of the rest.
        device = next((one for one in devices if one.type != "cpu"), torch.device("cpu"))
        return tree_map_only(Tensor, lambda one: torch.zeros(one.shape, dtype=one.dtype, device=device), output)


def twin(module: nn.Module) -> nn.Module:
    """A copy of a module's structure on the meta device, without weights, hooks, and what was put over its forward."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        held = [*part._parameters.values(), *part._buffers.values(), *vars(part).values()]
        memo |= {id(one): _empty(one) for one in held if isinstance(one, Tensor)}
        memo |= {id(vars(part)[name]): name for name in _HOOKS if name in vars(part)}
    copied = copy.deepcopy(module, memo)
    for part in copied.modules():
        vars(part).pop("forward", None)
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return copied


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _on_meta(given: Any) -> Any:
    return tree_map_only(Tensor, lambda one: one.to("meta"), given)
