"""Read an image of the embedded world by rule, without learned weights: shapes, colours, sizes and places.

An image is split into connected blobs that differ from its background. The pixels of a blob become coverages
along the line from the background to the blob's own colour, and these are compared with the renderer's
shapes at sub-pixel shifts. A blob that resembles none, or that has no colour of the palette, is unknown. Then what was
read is drawn again, and what the drawing leaves of the image is measured: specks, ghosts, holes, strange backgrounds.
"""

import functools
import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from noise_search.shapes.render import CANVAS, signed_distance
from noise_search.shapes.scenes import BACKGROUNDS, COLOURS, RADII, SHAPES

UNKNOWN = "unknown"
SIZES = ("small", "large")
FOREGROUND = 0.15
"""RGB distance to the background from which a pixel is foreground; the closest colour is 0.38 away."""
CUT, CUT_TOUCHING = 0.5, 0.7
"""Coverage from which pixels join a blob; the second is tried where the first leaves an unknown blob.

It parts squares whose corners touch.
"""
SPECK = 8
"""Blobs of fewer pixels have no shape that could be read; they stay in the rest."""
OVERLAP = {shape: 0.88 if shape in ("triangle", "star", "cross", "ring") else 0.92 for shape in SHAPES}
"""Least overlap of a blob with a shape for the blob to be that shape.

Blur costs thin and pointed shapes more, and they resemble no other; the rest need the stricter threshold.
"""
MARGIN = 0.01
"""Least lead of the best shape's overlap over the next shape's."""
COLOUR_REACH = 0.2
"""Largest distance of a blob's colour from the line between the background and a colour of the palette.

Within an object, pixels so close to its own colour are shades of it.
"""
REST_WINDOW = 5
"""Side in pixels of the window over which the rest is averaged: what is smaller must stand out more to be seen."""
OFF_LINE = 0.35
"""A pixel this far off the line from background to blob colour, as a share of it, is another colour."""
FAINTEST = 0.6
"""How far along that line a blob's core still has the palette's colour: thin shapes fade with blur."""
SHIFTS = np.arange(-1, 1.01, 0.5)
"""Shifts in pixels, along each axis, of the templates about a blob's whole-pixel centre of mass."""
SCALES = (0.95, 1.0, 1.05)
"""Radii tried, relative to the two of the world."""
PATCH = 32
"""Side in pixels of the square around a blob's centre that is compared."""
_CHUNK = 256
_COLOUR_NAMES = tuple(COLOURS)
_COLOURS = np.asarray(list(COLOURS.values()), np.float32) / 255
_BACKGROUNDS = np.asarray(list(BACKGROUNDS.values()), np.float32) / 255


@dataclass(frozen=True)
class Found:
    """One blob: `shape` and `colour` may be `UNKNOWN`; `x`, `y` its centre in pixels, y down.

    Attributes:
        overlap: soft intersection over union with the best shape, in [0, 1].
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float
    overlap: float


@dataclass(frozen=True)
class Reading:
    """What an image shows: the nearest background of the world, and the objects in reading order.

    Attributes:
        rest: what background and objects leave unexplained where that is most, as a distance of RGB in [0, 1] to what
            was read, averaged over a small window; or how far the background is from grey, where that is more.
    """

    background: str
    found: tuple[Found, ...]
    rest: float = 0.0


@dataclass(frozen=True)
class _Drawn:
    """How a blob is drawn: the world's shape that is nearest to it, in the blob's own place, size and colour.

    Attributes:
        x, y, radius: in pixels.
        colour: less the background, `[3]`.
    """

    shape: str
    x: float
    y: float
    radius: float
    colour: np.ndarray


def read(images: Float[Tensor, " batch 3 height width"]) -> list[Reading]:
    """Read 64 x 64 images in [0, 1].

    Raises:
        ValueError: another size than 3 x 64 x 64, or a value that is not finite.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != (3, CANVAS, CANVAS):
        raise ValueError(f"images have shape {tuple(images.shape)}; expected (batch, 3, {CANVAS}, {CANVAS})")
    pixels = images.detach().cpu().float().permute(0, 2, 3, 1).contiguous().numpy()
    if not np.isfinite(pixels).all():
        rows = np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3))).tolist()
        raise ValueError(f"images {rows} hold values that are not finite; read only finite images")
    return [reading for at in range(0, len(pixels), _CHUNK) for reading in _read_chunk(pixels[at : at + _CHUNK])]


def _read_chunk(pixels: np.ndarray) -> list[Reading]:
    background = np.median(pixels.reshape(len(pixels), -1, 3), axis=1)
    names = np.square(background[:, None] - _BACKGROUNDS).sum(-1).argmin(1)
    offset = pixels - background[:, None, None]
    found = _found(offset, background, CUT)
    unclear = [i for i, blobs in enumerate(found) if _unknowns(blobs)]
    if unclear:
        for i, parted in zip(unclear, _found(offset[unclear], background[unclear], CUT_TOUCHING), strict=True):
            if len(parted) > len(found[i]) and _unknowns(parted) < _unknowns(found[i]):
                found[i] = parted
    tint = np.linalg.norm(background - background.mean(1, keepdims=True), axis=1)
    backgrounds = tuple(BACKGROUNDS)
    return [
        Reading(backgrounds[names[i]], tuple(item for item, _ in blobs), max(float(tint[i]), _rest(offset[i], blobs)))
        for i, blobs in enumerate(found)
    ]


def _unknowns(found: list[tuple[Found, _Drawn]]) -> int:
    return sum(item.shape == UNKNOWN for item, _ in found)


def _rest(offset: np.ndarray, objects: list[tuple[Found, _Drawn]]) -> float:
    """What the drawing of the objects leaves of an image less its background `[y, x, 3]`, where that is most.

    A pixel may have any coverage that the drawing has beside it, since edges lie between pixels and are blurred.
    """
    rest, distance = offset.copy(), np.full(offset.shape[:2], np.inf, np.float32)
    for _, one in objects:
        columns, rows = (_span(centre, one.radius) for centre in (one.x, one.y))
        x, y = (np.arange(s.start, s.stop, dtype=np.float32) + 0.5 for s in (columns, rows))
        right, down = np.meshgrid((x - one.x) / one.radius, (y - one.y) / one.radius)
        cover = np.clip(0.5 - signed_distance(one.shape, right, down) * one.radius, 0, 1)
        least, most = _around(cover, np.minimum, 3), _around(cover, np.maximum, 3)
        here = offset[rows, columns]
        left = here - np.clip(here @ one.colour / _squared(one.colour), least, most)[..., None] * one.colour
        far = np.sqrt(np.square(left).sum(-1))
        left[far <= COLOUR_REACH * least] = 0
        nearest = (most > 0) & (far < distance[rows, columns])
        rest[rows, columns][nearest], distance[rows, columns][nearest] = left[nearest], far[nearest]
    mean = _around(np.moveaxis(rest, -1, 0), np.add, REST_WINDOW, "constant") / REST_WINDOW**2
    return float(np.sqrt(np.square(mean).sum(0)).max())


def _span(centre: float, radius: float) -> slice:
    """The pixels along an axis that a drawn object may touch, and two more on each side."""
    return slice(max(int(centre - radius) - 3, 0), min(int(centre + radius) + 4, CANVAS))


def _around(values: np.ndarray, combine: np.ufunc, side: int, mode: Literal["constant", "edge"] = "edge") -> np.ndarray:
    """The least, the most or the sum of the last two axes' values in the square of `side` pixels around each."""
    reach = side // 2
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(reach, reach)] * 2, mode)
    rows = functools.reduce(combine, (padded[..., d : d + values.shape[-2], :] for d in range(side)))
    return np.asarray(functools.reduce(combine, (rows[..., d : d + values.shape[-1]] for d in range(side))))


def _found(offset: np.ndarray, background: np.ndarray, cut: float) -> list[list[tuple[Found, _Drawn]]]:
    label = label_blobs(_foreground(offset, cut))
    blobs, area = np.unique(label[label >= 0], return_counts=True)
    blobs = blobs[area >= SPECK]
    per_image: list[list[tuple[Found, _Drawn]]] = [[] for _ in offset]
    if len(blobs):
        for image, item in zip(blobs // CANVAS**2, _describe(blobs, label, offset, background), strict=True):
            per_image[image].append(item)
    return per_image


def _foreground(offset: np.ndarray, cut: float) -> np.ndarray:
    """Mask of pixels at least `cut` times as far from the background as their surroundings."""
    square = np.square(offset).sum(-1)
    return np.asarray((square > FOREGROUND**2) & (square > cut**2 * _around(square, np.maximum, 5)))


def _describe(
    blobs: np.ndarray, label: np.ndarray, offset: np.ndarray, background: np.ndarray
) -> list[tuple[Found, _Drawn]]:
    """Found objects of the blobs, in their order, and how to draw them."""
    image = blobs // CANVAS**2
    colour, own = _blob_colours(blobs, label, offset, background[image])
    cover, centre, outside = _coverages(blobs, grow(label, 2), offset, own)
    overlap, place = overlaps(cover, outside)
    kind = overlap.reshape(len(blobs), -1).argmax(1)
    ranked = np.sort(overlap.max(2), axis=1)
    least = np.asarray([OVERLAP[shape] for shape in SHAPES])[kind // len(SIZES)]
    clear = (ranked[:, -1] >= least) & (ranked[:, -1] - ranked[:, -2] >= MARGIN)
    place = place.reshape(len(blobs), -1, 3)[np.arange(len(blobs)), kind]
    described = []
    for i, shape in enumerate(SHAPES[k // len(SIZES)] for k in kind):
        x, y = (centre[i] + place[i, :2]).tolist()
        found = Found(
            shape if clear[i] else UNKNOWN,
            _COLOUR_NAMES[colour[i]] if colour[i] >= 0 else UNKNOWN,
            SIZES[kind[i] % len(SIZES)],
            x,
            y,
            float(ranked[i, -1]),
        )
        described.append((found, _Drawn(shape, x, y, float(place[i, 2]), own[i])))
    return described


def _blob_colours(
    blobs: np.ndarray, label: np.ndarray, offset: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(index into the palette or -1, own colour minus background) of each blob, by majority of its core."""
    blob, core = _core(blobs, label, offset)
    line = (_COLOURS - background[:, None])[blob]
    along = np.clip((core[:, None] * line).sum(-1) / _squared(line), FAINTEST, 1)
    votes = np.zeros((len(blobs), len(_COLOURS)))
    vote = np.square(core[:, None] - along[..., None] * line).sum(-1).argmin(1)
    np.add.at(votes, (blob, vote), 1)
    winner = votes.argmax(1)
    agreed = vote == winner[blob]
    total = np.zeros((len(blobs), 3), np.float32)
    np.add.at(total, blob[agreed], core[agreed])
    own = total / votes.max(1)[:, None]
    target = _COLOURS[winner] - background
    reach = np.clip((own * target).sum(1) / _squared(target), FAINTEST, 1)
    near = np.linalg.norm(own - reach[:, None] * target, axis=1) <= COLOUR_REACH
    return np.where(near, winner, -1), own


def _squared(line: np.ndarray) -> np.ndarray:
    """Squared lengths, none of them 0: a background may have a colour of the palette."""
    return np.asarray(np.maximum(np.square(line).sum(-1), np.finfo(np.float32).tiny))


def _core(blobs: np.ndarray, label: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blob number, offset from the background) of the pixels with the most neighbours of their own blob.

    Thin shapes, which have no pixel with all eight, keep a core too.
    """
    padded = np.pad(label, ((0, 0), (1, 1), (1, 1)), constant_values=-1)
    same = sum(
        (padded[:, dy : dy + CANVAS, dx : dx + CANVAS] == label).astype(np.int8) for dy in range(3) for dx in range(3)
    )
    inside = np.flatnonzero(np.isin(label, blobs))
    blob = np.searchsorted(blobs, label.reshape(-1)[inside])
    depth = same.reshape(-1)[inside]
    deepest = np.zeros(len(blobs), np.int8)
    np.maximum.at(deepest, blob, depth)
    keep = depth == deepest[blob]
    return blob[keep], offset.reshape(-1, 3)[inside[keep]]


def _coverages(
    blobs: np.ndarray, label: np.ndarray, offset: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coverages `[blob, PATCH * PATCH]`, their centre (x, y), number of the blob's pixels outside)."""
    inside = np.flatnonzero(np.isin(label, blobs))
    blob = np.searchsorted(blobs, label.reshape(-1)[inside])
    area = np.bincount(blob)
    x = np.bincount(blob, inside % CANVAS + 0.5) / area
    y = np.bincount(blob, inside // CANVAS % CANVAS + 0.5) / area
    centre = np.stack([x, y], 1).round().astype(int)
    steps = np.arange(PATCH) - PATCH // 2
    columns, rows = (centre[:, axis, None] + steps for axis in (0, 1))
    canvas = ((columns >= 0) & (columns < CANVAS))[:, None] & ((rows >= 0) & (rows < CANVAS))[:, :, None]
    where = (blobs // CANVAS**2)[:, None, None], rows[:, :, None] % CANVAS, columns[:, None] % CANVAS
    whole = (label[where] == blobs[:, None, None]) & canvas
    return _cover(offset[where], own) * whole.reshape(len(blobs), -1), centre, area - whole.sum((1, 2))


def _cover(patch: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Coverage of each pixel along the line to the blob's own colour; 0 for a pixel of another colour."""
    patch = patch.reshape(len(patch), -1, 3)
    along = (patch @ own[:, :, None])[..., 0] / np.square(own).sum(1)[:, None]
    off = np.square(patch).sum(-1) / np.square(own).sum(1)[:, None] - np.square(along)
    return np.asarray(np.where(off <= OFF_LINE**2, np.clip(along, 0, 1), 0))


@functools.cache
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(coverages `[pixel, template]`, their squared norms, places (x, y, radius) `[kind, template of the kind, 3]`).

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
                places.append((dx, dy, r))
    flat = np.asarray(covers, np.float32).reshape(len(covers), -1).T
    return flat, np.square(flat).sum(0), np.asarray(places).reshape(len(SHAPES) * len(RADII), -1, 3)


def overlaps(cover: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best overlap of each blob with each kind of object, and where that puts the object.

    Args:
        cover: coverages in [0, 1] around a blob's centre, `[blob, PATCH * PATCH]`.
        outside: number of the blob's pixels beyond the patch, `[blob]`.

    Returns:
        Soft intersection over union `[blob, shape, size]`; centre (x, y) in pixels from the patch's middle and radius
        `[blob, shape, size, 3]`.
    """
    flat, square, places = _templates()
    shared = cover @ flat
    overlap = shared / (np.square(cover).sum(1)[:, None] + outside[:, None] + square - shared)
    overlap = overlap.reshape(len(cover), len(places), -1)
    template = overlap.argmax(2)
    kinds = (len(cover), len(SHAPES), len(RADII))
    place = places[np.arange(len(places)), template]
    return overlap.max(2).reshape(kinds), place.reshape(*kinds, 3)


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
