"""What running out of memory looks like, and giving memory back."""

import gc

import torch

_TEXTS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "can't allocate memory",
    "NVML_SUCCESS == r INTERNAL ASSERT",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the device's memory is exhausted, in any of the texts that frameworks use."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def free_memory() -> None:
    """Give cached device memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
