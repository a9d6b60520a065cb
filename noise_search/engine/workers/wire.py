"""What goes between a driver and its workers, as bytes: JSON, and arrays as safetensors. Nothing is unpickled.

Whoever can write to the pipe can make plain data and the few kinds named here, and run nothing.
"""

import builtins
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load, save

from noise_search.engine.readback import Memory
from noise_search.engine.worker import Batch, BatchStopped, Done, Look, Rows, SearchOutOfMemory, Spent
from noise_search.resolve import Named
from samplers.recipe import Recipe
from samplers.transition import Ancestral, Deterministic, Glass, Mix
from verifiers.base import VerifierUnusable

_RECORDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (Batch, Done, Look, Memory, Rows, Spent, Named, Deterministic, Mix, Ancestral, Glass)
}
_ERRORS: dict[str, type[BaseException]] = {
    kind.__name__: kind for kind in (SearchOutOfMemory, VerifierUnusable, torch.OutOfMemoryError)
}
_ERRORS |= {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
}


class Untold(TypeError):
    """Something that can't be told to another process; the message is its type."""


def encode(value: Any, begun: Sequence[Recipe] = ()) -> bytes:
    """Plain data, arrays, tensors, images, and the kinds of a batch, as bytes.

    Args:
        value: of them.
        begun: recipes that the other side has too: of those that go on from one of them only the rest is told.

    Raises:
        Untold: something else.
    """
    writer = _Writer(begun)
    told = json.dumps(writer.plain(value)).encode()
    return struct.pack(">I", len(told)) + told + (save(writer.arrays) if writer.arrays else b"")


def decode(message: bytes, begun: Sequence[Recipe] = ()) -> Any:
    """What `encode` was given; sequences are tuples."""
    (length,) = struct.unpack_from(">I", message)
    rest = message[4 + length :]
    return _Reader(load(rest) if rest else {}, begun).made(json.loads(message[4 : 4 + length]))


def send(stream: IO[bytes], message: bytes) -> None:
    """Write a message, and how long it is before it."""
    stream.write(struct.pack(">Q", len(message)) + message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes | None:
    """The next message; None where the other side is gone."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack(">Q", head)
    message = stream.read(length)
    return message if len(message) == length else None


class _Writer:
    def __init__(self, begun: Sequence[Recipe]) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._begun: dict[int, tuple[int, int]] = {}
        self._count = 0
        for recipe in begun:
            self._known(recipe)

    def plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Path | torch.device):
            return str(value)
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, Mapping):
            return {"map": [[self.plain(key), self.plain(one)] for key, one in value.items()]}
        if isinstance(value, np.ndarray):
            return {"array": self._kept(value)}
        if isinstance(value, torch.Tensor):
            return {"tensor": self._kept(value.detach().float().cpu().numpy()), "dtype": str(value.dtype)}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value)}
        if isinstance(value, Image.Image):
            return {"image": self._kept(np.asarray(value)), "mode": value.mode}
        if isinstance(value, Recipe):
            return {"recipe": self._recipe(value)}
        if isinstance(value, BatchStopped):
            return {"stopped": [self.plain(one) for one in (value.error, value.spent, value.denoised)]}
        if isinstance(value, BaseException):
            return {"error": [type(value).__name__, _said(value)]}
        if (name := type(value).__name__) in _RECORDS and type(value) is _RECORDS[name]:
            told = {one.name: self.plain(getattr(value, one.name)) for one in fields(_RECORDS[name])}
            return {"record": name, "with": told}
        raise Untold(type(value).__name__)

    def _kept(self, array: np.ndarray) -> str:
        name = str(len(self.arrays))
        self.arrays[name] = np.ascontiguousarray(array)
        return name

    def _known(self, recipe: Recipe) -> None:
        for one in recipe.beginnings():
            self._begun.setdefault(id(one), (self._count, len(one)))
        self._count += 1

    def _recipe(self, recipe: Recipe) -> list[Any]:
        """[which of those begun or told whole before, how many of its operations, the rest], or [None, 0, all]."""
        rest: list[dict[str, Any]] = []
        for one in recipe.beginnings():
            if (known := self._begun.get(id(one))) is not None and not any("parents" in op for op in rest):
                return [*known, rest[::-1]]
            rest.append(dict(one.last))
        self._known(recipe)
        return [None, 0, rest[::-1]]


class _Reader:
    def __init__(self, arrays: Mapping[str, np.ndarray], begun: Sequence[Recipe]) -> None:
        self._arrays, self._begun = arrays, [*begun]

    def made(self, told: Any) -> Any:
        if isinstance(told, list):
            return tuple(self.made(one) for one in told)
        if not isinstance(told, dict):
            return told
        if "map" in told:
            return {self.made(key): self.made(one) for key, one in told["map"]}
        if "array" in told:
            return self._array(told["array"])
        if "tensor" in told:
            return torch.from_numpy(self._array(told["tensor"])).to(_dtype(told["dtype"]))
        if "dtype" in told:
            return _dtype(told["dtype"])
        if "image" in told:
            return Image.fromarray(self._array(told["image"]), told["mode"])
        if "recipe" in told:
            return self._recipe(*told["recipe"])
        if "stopped" in told:
            return BatchStopped(*[self.made(one) for one in told["stopped"]])
        if "error" in told:
            return _error(*told["error"])
        return _RECORDS[told["record"]](**{name: self.made(one) for name, one in told["with"].items()})

    def _array(self, name: str) -> np.ndarray:
        found = self._arrays[name]
        return found if found.flags.writeable else found.copy()

    def _recipe(self, which: int | None, count: int, rest: Sequence[Mapping[str, Any]]) -> Recipe:
        if which is None:
            self._begun.append(Recipe.from_json(rest))
            return self._begun[-1]
        found = next(one for one in self._begun[which].beginnings() if len(one) == count)
        for op in rest:
            found = found.then(op["op"], **{key: one for key, one in op.items() if key not in ("op", "v", "parent")})
        return found


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name.removeprefix("torch."))
    assert isinstance(found, torch.dtype)
    return found


def _said(error: BaseException) -> str:
    """Its text: of a KeyError the key without quotes, so that it can be made again."""
    one = error.args[0] if len(error.args) == 1 else None
    return one if isinstance(one, str) else str(error)


def _error(name: str, text: str) -> BaseException:
    """An error of this name and text; of a kind that isn't known here its name is in the text."""
    try:
        return _ERRORS[name](text)
    except (KeyError, TypeError):
        return RuntimeError(f"{name}: {text}")
