"""The renderer's shapes as templates, and how far measured coverages overlap with them."""

import functools
import itertools

import numpy as np

from noise_search.shapes.render import signed_distance
from noise_search.shapes.scenes import RADII, SHAPES

SHIFTS = np.arange(-1, 1.01, 0.5)
"""Shifts in pixels, along each axis, of the templates about a blob's whole-pixel centre of mass."""
SCALES = (0.95, 1.0, 1.05)
"""Radii tried, relative to the two of the world."""
PATCH = 32
"""Side in pixels of the square around a blob's centre that is compared."""


@functools.cache
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coverages `[pixel, template]`, their squared norms, centres (x, y) `[kind, template of the kind, 2]`).

    A kind is a shape at a size; its templates differ in scale and shift. They are aligned by their centre of
    mass, as blobs are.
    """
    offsets = np.arange(PATCH) - PATCH // 2 + 0.5
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    covers, places = [], []
    for shape in SHAPES:
        for radius in RADII:
            mask = signed_distance(shape, x / radius, y / radius) < 0
            column, row = x[mask].mean(), y[mask].mean()
            for r, dx, dy in itertools.product(radius * np.asarray(SCALES), SHIFTS - column, SHIFTS - row):
                covers.append(np.clip(0.5 - signed_distance(shape, (x - dx) / r, (y - dy) / r) * r, 0, 1))
                places.append((dx, dy))
    flat = np.asarray(covers, np.float32).reshape(len(covers), -1).T
    return flat, np.square(flat).sum(0), np.asarray(places).reshape(len(SHAPES) * len(RADII), -1, 2)


def overlaps(cover: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best overlap of each blob with each kind of object, and where that puts the object's centre.

    Args:
        cover: coverages in [0, 1] around a blob's centre, `[blob, PATCH * PATCH]`.
        outside: number of the blob's pixels beyond the patch, `[blob]`.

    Returns:
        Soft intersection over union `[blob, shape, size]`; centre (x, y) in pixels from the patch's middle
        `[blob, shape, size, 2]`.
    """
    flat, square, places = _templates()
    shared = cover @ flat
    overlap = shared / (np.square(cover).sum(1)[:, None] + outside[:, None] + square - shared)
    overlap = overlap.reshape(len(cover), len(places), -1)
    template = overlap.argmax(2)
    kinds = (len(cover), len(SHAPES), len(RADII))
    place = places[np.arange(len(places)), template]
    return overlap.max(2).reshape(kinds), place.reshape(*kinds, 2)
