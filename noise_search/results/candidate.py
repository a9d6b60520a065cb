"""A candidate: one noise that a search ran, what it scored, and how to make it again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from samplers.recipe import Recipe


@dataclass
class Candidate:
    """One row that a search evaluated.

    Attributes:
        id: position in the order in which rows were proposed, from 0; rows that weren't scored have ids too.
        recipe: regenerates it alone.
        step: the grid point it was scored at.
        finished: whether that is the end of the grid.
        draft: whether that is the end of a draft's coarser grid, whose scores only choose what is rendered in full.
        nfe: NFE spent by the search once this candidate was done.
        score: the value that ranks it, higher is better; NaN when it failed. Under an aggregator without absolute
            values it is its value in the pool of all finished candidates, and NaN for what isn't finished and for
            drafts, which are in no such pool: read their `scores`.
        scores: raw score by verifier key.
        looks: raw scores of its x0 predictions on the way, by grid point and verifier key, where they were asked for.
        judges: raw score by judge key, where judged.
        failure: why it can't win, or None.
        pixels: uint8 `[height, width, 3]`, the middle frame of a clip; kept for the first, the top k and every new
            best.
        clip: uint8 `[frames, height, width, 3]`, kept like `pixels`; None for images.
        x0: by noise level, the x0 prediction on its way, uint8 like the image or clip; kept with it where a judge needs
            it and the last run passed that level.
    """

    id: int
    recipe: Recipe
    step: int
    finished: bool
    nfe: int
    score: float = float("nan")
    draft: bool = False
    scores: dict[str, float] = field(default_factory=dict)
    looks: dict[int, dict[str, float]] = field(default_factory=dict)
    judges: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    pixels: np.ndarray | None = field(default=None, repr=False)
    clip: np.ndarray | None = field(default=None, repr=False)
    x0: Mapping[float, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def seed(self) -> int | None:
        """The seed of its noise, when that is one plain draw; None where it was moved or re-noised.

        Pasted into plain diffusers it makes the same image where steps are deterministic (eta 0).
        """
        return self.recipe.seed

    @property
    def image(self) -> Image.Image | None:
        """The image, where it was kept; the middle frame of a clip."""
        return None if self.pixels is None else Image.fromarray(self.pixels)

    @property
    def frames(self) -> list[Image.Image] | None:
        """The frames of a clip, where it was kept; None for images."""
        return None if self.clip is None else [Image.fromarray(frame) for frame in self.clip]

    @property
    def raw(self) -> np.ndarray | None:
        """What was kept to look at: the clip, else the image."""
        return self.pixels if self.clip is None else self.clip

    def keep(self, raw: np.ndarray | None, x0: Mapping[float, np.ndarray] | None = None) -> None:
        """Keep an image or a clip, and x0 predictions on its way; with None let go of them."""
        self.x0 = x0 or {}
        clip = raw is not None and raw.ndim == 4
        self.clip = raw if clip else None
        self.pixels = raw[middle(len(raw))] if raw is not None and clip else raw

    def to_json(self, beginnings: "dict[str, tuple[int, int]] | None" = None) -> dict[str, Any]:
        """Everything but the pixels, as plain JSON; a failed score is null.

        A list of candidates hands the same `beginnings` to each, by key, the candidate that had it and its length: a
        long recipe then says "recipe_begins" for what it shares with that of an earlier candidate, and gives the rest.
        """
        shared = None if beginnings is None else _shared(self, beginnings)
        recipe = [dict(op) for op in self.recipe.operations[0 if shared is None else shared[1] :]]
        return {
            "id": self.id,
            "seed": self.seed,
            "step": self.step,
            "finished": self.finished,
            "draft": self.draft,
            "nfe": self.nfe,
            "score": number(self.score),
            "scores": {k: number(v) for k, v in self.scores.items()},
            **({"looks": _looks_to_json(self.looks)} if self.looks else {}),
            "judges": {k: number(v) for k, v in self.judges.items()},
            "failure": self.failure,
            **({} if shared is None else {"recipe_begins": {"candidate": shared[0], "operations": shared[1]}}),
            "recipe": recipe,
        }


def _looks_to_json(looks: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    return {str(step): {key: number(v) for key, v in scores.items()} for step, scores in looks.items()}


_LONG = 16
"""Operations from which on a shared beginning is named rather than repeated."""


def _shared(candidate: Candidate, beginnings: dict[str, tuple[int, int]]) -> tuple[int, int] | None:
    """The candidate with which one shares the beginning of its recipe, and its length; None where it isn't long."""
    shared = None
    for recipe in candidate.recipe.beginnings():
        if (shared := beginnings.get(recipe.key)) is not None:
            break
        beginnings[recipe.key] = (candidate.id, len(recipe))
    return shared if shared is not None and shared[1] >= _LONG else None


def components(pool: Sequence[Candidate], keys: Iterable[str]) -> dict[str, np.ndarray]:
    """Raw scores `[pool]` under each verifier's key, NaN for candidates that failed."""
    return {key: np.array([np.nan if c.failure else c.scores[key] for c in pool]) for key in keys}


def best_finished(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """The best finished candidates, best first, ties to the lowest id."""
    good = [c for c in candidates if c.finished and np.isfinite(c.score)]
    return sorted(good, key=lambda c: (-c.score, c.id))[:count]


def number(value: float) -> float | None:
    """A JSON number, null where it isn't finite."""
    return float(value) if np.isfinite(value) else None


def as_pixels(image: Tensor) -> np.ndarray:
    """A float image or clip in [0, 1], channels before height and width, as uint8 with the channels last."""
    found: np.ndarray = eight_bit(image).cpu().numpy()
    return found


def eight_bit(image: Tensor) -> Tensor:
    """The same on the device."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1)


def middle(frames: int) -> int:
    """The index of the frame that stands for a clip."""
    return frames // 2
