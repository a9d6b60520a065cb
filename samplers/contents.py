"""Call options as plain JSON: values that JSON has as they are, anything else by what it contains."""

import hashlib
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TUPLE, _DICT = "tuple", "dict"


def recorded(value: Any) -> Any:
    """A value as plain JSON, from which `restored` makes it again where JSON can hold it.

    Tensors, arrays and PIL images are recorded as `{"type", "shape", "sha256"}`, other objects by their type alone.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, list):
        return [recorded(v) for v in value]
    if isinstance(value, tuple):
        return {"type": _TUPLE, "items": [recorded(v) for v in value]}
    if isinstance(value, Mapping):
        if "type" in value or not all(isinstance(k, str) for k in value):
            return {"type": _DICT, "items": [[recorded(k), recorded(v)] for k, v in value.items()]}
        return {k: recorded(v) for k, v in value.items()}
    return _content(value)


def restored(value: Any) -> Any:
    """What `recorded` read. Raises ValueError for a value that was recorded by its content alone."""
    if isinstance(value, list):
        return [restored(v) for v in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind == _TUPLE:
        return tuple(restored(v) for v in value["items"])
    if kind == _DICT:
        return {restored(k): restored(v) for k, v in value["items"]}
    if kind is not None:
        raise ValueError(f"it was {describe(value)}, which JSON cannot hold")
    return {k: restored(v) for k, v in value.items()}


def is_told(value: Any) -> bool:
    """Whether a recorded value says what it was: not where anything in it was recorded by its type alone."""
    if isinstance(value, list):
        return all(map(is_told, value))
    if not isinstance(value, dict):
        return True
    if value.get("type") in (_TUPLE, _DICT):
        return is_told(value["items"])
    return "sha256" in value if "type" in value else all(map(is_told, value.values()))


def describe(value: Any) -> str:
    """A recorded value in a few words."""
    if isinstance(value, dict) and "sha256" in value:
        return f"{value['type']} of shape {tuple(value['shape'])}, sha256 {value['sha256'][:8]}..."
    if isinstance(value, dict) and value.get("type") not in (None, _TUPLE, _DICT):
        return f"a {value['type']}"
    return f"{value!r:.80}"


def _content(value: Any) -> dict[str, Any]:
    kind = type(value)
    name = kind.__name__
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        return _hashed(name, list(value.shape), f"{value.dtype}", raw)
    if hasattr(value, "tobytes") and hasattr(value, "shape"):
        return _hashed(name, list(value.shape), str(value.dtype), value.tobytes())
    if hasattr(value, "tobytes") and hasattr(value, "mode"):
        # PIL: a file's own class and a converted copy hold the same picture.
        return _hashed("Image", [*reversed(value.size), len(value.getbands())], value.mode, value.tobytes())
    return {"type": f"{kind.__module__}.{kind.__qualname__}"}


def _hashed(kind: str, shape: list[int], layout: str, raw: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(f"{layout}{shape}".encode() + raw).hexdigest()
    return {"type": kind, "shape": shape, "sha256": digest}
