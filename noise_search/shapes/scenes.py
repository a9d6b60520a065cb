"""Scenes of the embedded world: coloured shapes on a lattice, sampled so that a caption of a chosen family is true.

Objects sit on an eight-pixel lattice, in one of two radii. The lattice is what lets denoisers of a few million weights
learn the world on two CPU cores (see the card beside the weights); what is left to chance, and to search, is which of
49 places, which sizes, which background and which of the objects that the caption leaves open.
"""

from dataclasses import dataclass, fields

import numpy as np

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
COLOURS = {
    "red": (220, 40, 40),
    "orange": (250, 140, 30),
    "yellow": (245, 215, 50),
    "green": (50, 170, 70),
    "cyan": (60, 200, 215),
    "blue": (45, 85, 215),
    "purple": (135, 60, 185),
    "pink": (245, 130, 185),
}
SINGLE_OBJECTS = tuple(f"{'an' if c[0] in 'aeiou' else 'a'} {c} {s}" for s in SHAPES for c in COLOURS)
"""Captions of the 64 kinds of object."""
BACKGROUNDS = {"light": (245, 245, 242), "grey": (150, 150, 152), "dark": (32, 32, 36)}
RADII = (7.0, 12.0)
"""Radius in pixels of a small and of a large object."""
LATTICE = 8
GAP = 3.5
"""Least distance in pixels between the circles around two objects."""
FAMILIES = ("single", "two", "relation", "counting", "size", "three")
RELATIONS = ("left", "right", "above", "below")
MOST_OBJECTS = 4


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes as arrays; the slots from `count` on are unused.

    Attributes:
        shape, colour: index into `SHAPES` and `COLOURS`, `[scene, slot]`.
        large: whether the object has the larger radius, `[scene, slot]`.
        x, y: centre in pixels, y down, `[scene, slot]`.
        count: number of objects, `[scene]`.
        background: index into `BACKGROUNDS`, `[scene]`.
        family: index into `FAMILIES` of the caption that the scene was made for, `[scene]`.
        relation: index into `RELATIONS` of object 0 with respect to object 1; holds only in the family "relation".
    """

    shape: np.ndarray
    colour: np.ndarray
    large: np.ndarray
    x: np.ndarray
    y: np.ndarray
    count: np.ndarray
    background: np.ndarray
    family: np.ndarray
    relation: np.ndarray

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, rows: np.ndarray | slice) -> "Scenes":
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def sample_scenes(count: int, seed: int, families: tuple[str, ...] = FAMILIES) -> Scenes:
    """Draw scenes; equal arguments give equal scenes on every machine.

    Raises:
        ValueError: an unknown family.
    """
    unknown = set(families) - set(FAMILIES)
    if unknown:
        raise ValueError(f"unknown families {sorted(unknown)}; expected some of {FAMILIES}")
    rng = np.random.default_rng(seed)
    family = np.asarray([FAMILIES.index(f) for f in families])[rng.integers(0, len(families), count)]
    objects = _object_counts(family, rng)
    shape, colour = _kinds(family, rng)
    large = rng.random((count, MOST_OBJECTS)) < 0.5
    size_rows = family == FAMILIES.index("size")
    large[size_rows, 1] = ~large[size_rows, 0]
    large[objects >= 3] = False
    relation = rng.integers(0, len(RELATIONS), count)
    wanted = np.where(family == FAMILIES.index("relation"), relation, -1)
    x, y = _places(objects, large, wanted, rng)
    background = rng.integers(0, len(BACKGROUNDS), count)
    return Scenes(shape, colour, large, x, y, objects, background, family, relation)


def _object_counts(family: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fixed = {"single": 1, "two": 2, "relation": 2, "size": 2, "three": 3, "counting": 0}
    objects = np.asarray([fixed[f] for f in FAMILIES])[family]
    return np.where(objects == 0, rng.integers(2, MOST_OBJECTS + 1, len(family)), objects)


def _kinds(family: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(shape, colour) of every slot: all equal when counting, all different otherwise."""
    pairs = len(SHAPES) * len(COLOURS)
    kind = np.argsort(rng.random((len(family), pairs)), axis=1)[:, :MOST_OBJECTS]
    counting = family == FAMILIES.index("counting")
    kind[counting] = kind[counting, :1]
    return kind // len(COLOURS), kind % len(COLOURS)


def _places(
    objects: np.ndarray, large: np.ndarray, relation: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lattice points by rejection, so that nothing overlaps and the wanted relation is plain to see."""
    x, y = np.zeros(large.shape, int), np.zeros(large.shape, int)
    radius = np.where(large, RADII[1], RADII[0])
    first = np.where(large, 2, 1)
    places = np.where(large, 5, 7)
    todo = np.arange(len(objects))
    while len(todo):
        size = (len(todo), MOST_OBJECTS)
        tx = (first[todo] + np.floor(rng.random(size) * places[todo]).astype(int)) * LATTICE
        ty = (first[todo] + np.floor(rng.random(size) * places[todo]).astype(int)) * LATTICE
        good = np.ones(len(todo), bool)
        for i in range(1, MOST_OBJECTS):
            for j in range(i):
                distance = np.hypot(tx[:, i] - tx[:, j], ty[:, i] - ty[:, j])
                apart = distance >= radius[todo, i] + radius[todo, j] + GAP
                good &= apart | (objects[todo] <= i)
        dx, dy = tx[:, 0] - tx[:, 1], ty[:, 0] - ty[:, 1]
        across, down = np.abs(dx) > 1.3 * np.abs(dy), np.abs(dy) > 1.3 * np.abs(dx)
        holds = np.stack([across & (dx < 0), across & (dx > 0), down & (dy < 0), down & (dy > 0)])
        good &= (relation[todo] < 0) | holds[relation[todo], np.arange(len(todo))]
        x[todo[good]], y[todo[good]] = tx[good], ty[good]
        todo = todo[~good]
    return x, y
