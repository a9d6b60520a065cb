"""Connected blobs of pixels, for a whole batch at once, in numpy alone."""

import numpy as np


def label_blobs(mask: np.ndarray) -> np.ndarray:
    """Label 4-connected blobs of bool `[image, y, x]` by their first pixel's index in the batch; else -1."""
    _, height, width = mask.shape
    none = np.iinfo(np.int32).max
    label = np.where(mask, np.arange(mask.size, dtype=np.int32).reshape(mask.shape), none)
    while True:
        before = label.copy()
        for y in range(1, height):
            _spread(label[:, y - 1], label[:, y], mask[:, y])
        for y in range(height - 2, -1, -1):
            _spread(label[:, y + 1], label[:, y], mask[:, y])
        for x in range(1, width):
            _spread(label[:, :, x - 1], label[:, :, x], mask[:, :, x])
        for x in range(width - 2, -1, -1):
            _spread(label[:, :, x + 1], label[:, :, x], mask[:, :, x])
        if np.array_equal(before, label):
            return np.where(mask, label, -1)


def _spread(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
    np.minimum(source, target, out=target, where=mask)


def grow(label: np.ndarray, steps: int) -> np.ndarray:
    """Labels spread into unlabelled pixels, so that a blob owns its faint edge."""
    for _ in range(steps):
        padded = np.pad(label, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
        around = np.maximum(
            np.maximum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]),
            np.maximum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]),
        )
        label = np.where(label >= 0, label, around)
    return label
