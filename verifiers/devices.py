"""Where a model runs, told with its index: one model is then loaded once, whether "cuda" or "cuda:0" was asked for."""

import torch


def indexed(device: torch.device | str | None) -> torch.device:
    """The device with its index; None for the CPU."""
    found = torch.device("cpu" if device is None else device)
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return found
