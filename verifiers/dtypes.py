"""The floating-point types that weights may have, as torch's or by name: torch's "bfloat16", or open_clip's "bf16"."""

import torch

_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def as_dtype(value: torch.dtype | str, option: str = "dtype") -> torch.dtype:
    """The dtype of that name; a dtype stays.

    Args:
        value: a dtype or a name.
        option: where it was given, for the error.

    Raises:
        ValueError: another one.
    """
    found = _NAMES.get(_SHORT.get(value, value)) if isinstance(value, str) else value
    if found is None or found not in _NAMES.values():
        raise ValueError(f"{option} is {str(value)!r}; expected one of {', '.join((*_NAMES, *_SHORT))}")
    return found
