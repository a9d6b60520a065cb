"""Denoisers compiled by `torch.compile`: whole, or their repeated blocks, which takes a fraction of the time.

Only the `forward` of a module is replaced, so that hooks, ours among them, stay outside of what is compiled. Every
other shape would be compiled anew: whoever runs a compiled model pads its batches to one.
"""

import logging
import time
from collections.abc import Iterable
from functools import update_wrapper
from typing import Any, Literal

import torch
from torch import nn

from samplers.base import is_out_of_memory
from samplers.said import first_line

log = logging.getLogger(__name__)

Compile = Literal["whole", "regional"]

BACKEND = "inductor"
"""That of `torch.compile`; it needs a C++ compiler on the CPU, and Triton on GPUs."""


class Compiled:
    """The denoisers of a pipeline, which compile when they are first called, and go on eagerly where they can't.

    Attributes:
        how: what was compiled.
        seconds: what it took so far: the calls in which something was compiled.
        failed: whether it couldn't be done.
    """

    def __init__(self, how: Compile) -> None:
        self.how, self.seconds, self.failed = how, 0.0, False


class _Forward:
    """A module's forward, compiled at its first call; what it wraps is what fingerprints see."""

    def __init__(self, compiled: Compiled, module: nn.Module) -> None:
        self._compiled, self._module, self._plain = compiled, module, module.forward
        self._fast = torch.compile(module.forward, dynamic=False, backend=BACKEND)
        update_wrapper(self, module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._compiled.failed:
            return self._plain(*args, **kwargs)
        before, started = _graphs(), time.perf_counter()
        try:
            output = self._fast(*args, **kwargs)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            output = self._plain(*args, **kwargs)  # where it is the model that fails, it says so itself
            self._compiled.failed = True
            why = getattr(error, "inner_exception", error)  # of a backend, whose name alone says little
            name, said = type(self._module).__name__, f"{type(why).__name__}: {first_line(why):.200}"
            log.warning("%s can't be compiled (%s): it runs as it is", name, said)
        if _graphs() > before or self._compiled.failed:
            self._compiled.seconds += time.perf_counter() - started
        return output


def _graphs() -> int:
    """Graphs that were compiled in this process so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def compile_denoisers(modules: Iterable[nn.Module], how: Compile) -> Compiled:
    """Put compiled forwards on these modules, or on their repeated blocks.

    A class that names no repeated blocks (SD3, PixArt, Sana, ...) is compiled whole, which is said.
    """
    compiled = Compiled(how)
    for module in {id(one): one for one in modules}.values():
        parts = _repeated(module) if how == "regional" else [module]
        if not parts:
            log.warning("%s names no repeated blocks: it is compiled whole, which takes longer", type(module).__name__)
            parts = [module]
        for part in parts:
            part.forward = _Forward(compiled, part)
        vars(module)[_NAME] = compiled
    return compiled


_NAME = "_compiled_by_noise_search"


def seconds_of(modules: Iterable[nn.Module]) -> float:
    """What compiling these denoisers took so far."""
    found: dict[int, Compiled] = {id(one): one for m in modules if (one := vars(m).get(_NAME)) is not None}
    return sum((one.seconds for one in found.values()), 0.0)


def _repeated(module: nn.Module) -> list[nn.Module]:
    """The blocks of a model of diffusers that its class says are alike."""
    names = getattr(module, "_repeated_blocks", None) or ()
    return [part for part in module.modules() if type(part).__name__ in names]
