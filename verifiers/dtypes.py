"""The floating-point types that weights may have, as torch's or by name, as people type them."""

import torch

_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def as_dtype(value: torch.dtype | str) -> torch.dtype:
    """The dtype of that name; a dtype stays.

    Raises:
        ValueError: another one.
    """
    found = _NAMES.get(value) if isinstance(value, str) else value
    if found is None or found not in _NAMES.values():
        raise ValueError(f"dtype is {str(value)!r}; expected one of {', '.join(_NAMES)}")
    return found
