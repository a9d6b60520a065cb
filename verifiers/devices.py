"""Where a model runs, told with its index: one model is then loaded once, whether "cuda" or "cuda:0" was asked for."""

import torch

from verifiers.hub import first_line


def as_device(value: torch.device | str | int) -> torch.device:
    """The device of that name; a device stays.

    Raises:
        ValueError: no such name.
    """
    try:
        return torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {str(value)!r}; expected a device such as cpu, cuda, cuda:1 or mps") from error


def indexed(device: torch.device | str | None) -> torch.device:
    """The device with its index; None for the CPU.

    Raises:
        ValueError: no such device, here or at all.
    """
    found = as_device("cpu" if device is None else device)
    if found.type in ("cpu", "meta"):
        return found
    try:
        return torch.empty(0, device=found).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {str(device)!r} can't be used here ({first_line(error)}); use cpu") from error
