"""Draw scenes: anti-aliased shapes from signed distances, pasted as sprites on a 64 x 64 canvas.

Every object sits on a whole pixel and has one of two radii, so each (shape, size) has one sprite of coverages. The
oracle uses the same sprites as its templates.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from noise_search.shapes.scenes import BACKGROUNDS, COLOURS, RADII, SHAPES, Scenes

Floats = NDArray[np.floating[Any]]
CANVAS = 64
SPRITE = 28
"""Side of a sprite in pixels; an object's centre is the corner that the four middle pixels share."""


def signed_distance(shape: str, x: Floats, y: Floats) -> Floats:
    """Signed distance to a shape of unit radius, negative inside; x grows to the right, y down.

    Raises:
        ValueError: the name is not one of `SHAPES`.
    """
    ax, ay, radius = np.abs(x), np.abs(y), np.hypot(x, y)
    match shape:
        case "circle":
            return radius - 1.0
        case "square":
            return np.maximum(ax, ay) - 0.86
        case "triangle":
            return np.asarray(np.maximum(y - 0.75, ax * 0.894 - (y + 1.0) * 0.447))
        case "diamond":
            return (ax + ay - 1.08) / math.sqrt(2)
        case "star":
            return _star(x, y, radius)
        case "cross":
            return np.minimum(np.maximum(ax - 0.33, ay - 1.0), np.maximum(ay - 0.33, ax - 1.0))
        case "ring":
            return np.abs(radius - 0.75) - 0.24
        case "heart":
            return _heart(ax, y + 0.1)
    raise ValueError(f"shape {shape!r} is not drawn; expected one of {', '.join(SHAPES)}")


def _star(x: Floats, y: Floats, radius: Floats) -> Floats:
    sector = 2 * math.pi / 5
    angle = np.remainder(np.arctan2(x, -y) + sector / 2, sector) - sector / 2
    across, along = radius * np.abs(np.sin(angle)), radius * np.cos(angle)
    edge_x, edge_y = 0.46 * math.sin(sector / 2), 0.46 * math.cos(sector / 2) - 1.08
    return (across * -edge_y + (along - 1.08) * edge_x) / math.hypot(edge_x, edge_y)


def _heart(ax: Floats, y: Floats) -> Floats:
    lobe = np.hypot(ax - 0.48, y + 0.32) - 0.53
    wedge = np.maximum((ax + y - 0.98) / math.sqrt(2), -(y + 0.36))
    return np.asarray(np.minimum(lobe, np.maximum(wedge, ax - 1.01)))


@functools.cache
def sprites() -> Floats:
    """Coverage in [0, 1] of every shape at both radii, float32 `[shape, size, SPRITE, SPRITE]`."""
    offsets = np.arange(SPRITE) - SPRITE // 2 + 0.5
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    cover = [[np.clip(0.5 - signed_distance(shape, x / r, y / r) * r, 0, 1) for r in RADII] for shape in SHAPES]
    return np.asarray(cover, dtype=np.float32)


@functools.cache
def _palette() -> tuple[Floats, Floats]:
    colours = np.asarray(list(COLOURS.values()), dtype=np.float32) / 255
    backgrounds = np.asarray(list(BACKGROUNDS.values()), dtype=np.float32) / 255
    return colours, backgrounds


def render(scenes: Scenes) -> Float[Tensor, " scene 3 64 64"]:
    """Images of the scenes, float32 in [0, 1]."""
    colours, backgrounds = _palette()
    count, pad = len(scenes), SPRITE
    side = CANVAS + 2 * pad
    image = np.broadcast_to(backgrounds[scenes.background][:, :, None, None], (count, 3, side, side)).copy()
    offset = np.arange(SPRITE) - SPRITE // 2 + pad
    for slot in range(scenes.shape.shape[1]):
        rows = np.flatnonzero(scenes.count > slot)
        cover = sprites()[scenes.shape[rows, slot], scenes.large[rows, slot].astype(int)][:, None]
        where = (
            rows[:, None, None, None],
            np.arange(3)[None, :, None, None],
            (scenes.y[rows, slot, None] + offset)[:, None, :, None],
            (scenes.x[rows, slot, None] + offset)[:, None, None, :],
        )
        colour = colours[scenes.colour[rows, slot]][:, :, None, None]
        image[where] += cover * (colour - image[where])
    return torch.from_numpy(np.ascontiguousarray(image[:, :, pad:-pad, pad:-pad]))
