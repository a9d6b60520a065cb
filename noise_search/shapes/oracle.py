"""The embedded world's judge, by rule: does an image show what its caption asks for, and nothing else?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from noise_search.shapes.captions import Request, Thing, parse
from noise_search.shapes.reading import Found, read
from noise_search.shapes.render import CANVAS
from samplers.said import warn
from verifiers.base import Verifier

VISIBLE = 0.055
"""Most that may be left of an image when what was read is taken away; see `Reading.rest`.

The autoencoder leaves up to 0.043 of rendered scenes. On 400 generated images a ghost, specks and bled colours leave
0.060 and more, shading of single objects 0.050 and less.
"""


@dataclass(frozen=True)
class Verdict:
    """What the oracle says of an image and its caption.

    Attributes:
        strict: everything asked for is there and nothing else; None when not judgeable.
        facts: share in [0, 1] of the caption's facts that hold; None when not judgeable.
    """

    strict: bool | None = None
    facts: float | None = None

    @property
    def judgeable(self) -> bool:
        """Whether the caption is in the world's grammar and the image's values are finite."""
        return self.strict is not None


def judge(images: Float[Tensor, " batch 3 height width"], captions: Sequence[str]) -> list[Verdict]:
    """Judge each 64 x 64 image in [0, 1] by its caption.

    Raises:
        ValueError: images of another size, or another number of captions than of images.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(captions)} captions for {len(images)} images; give one caption per image")
    if tuple(images.shape[1:]) != (3, CANVAS, CANVAS):
        size = " x ".join(map(str, images.shape[1:]))
        raise ValueError(
            f"images are {size}; the oracle reads 3 x {CANVAS} x {CANVAS} images of the embedded world only"
        )
    requests = [parse(caption) for caption in captions]
    finite = images.isfinite().flatten(1).all(1).tolist()
    rows = [i for i, request in enumerate(requests) if request is not None and finite[i]]
    verdicts = [Verdict()] * len(requests)
    for row, reading in zip(rows, read(images[rows]), strict=True):
        request = requests[row]
        assert request is not None
        facts = _facts(request, reading.found, rest=reading.rest)
        verdicts[row] = Verdict(all(facts), sum(facts) / len(facts))
    return verdicts


def _facts(request: Request, found: tuple[Found, ...], rest: float = 0.0) -> list[bool]:
    """Shape, colour and size of each object asked for, then the relation, then whether that is all.

    All there is are as many objects as asked for, and no visible rest.
    """
    wanted = [thing for thing in request.things for _ in range(thing.number)]
    facts = _best_assignment(wanted, found)
    if request.relation is not None:
        first, second = request.things[:2]
        pairs = [(a, b) for a in found if all(_match(first, a)) for b in found if all(_match(second, b))]
        facts.append(any(_holds(request.relation, a, b) for a, b in pairs))
    facts.append(len(found) == len(wanted) and rest <= VISIBLE)
    return facts


def _match(thing: Thing, found: Found) -> list[bool]:
    facts = [found.shape == thing.shape, found.colour == thing.colour]
    return facts if thing.size is None else [*facts, found.size == thing.size]


def _best_assignment(wanted: list[Thing], found: tuple[Found, ...]) -> list[bool]:
    """Facts of the wanted objects under the assignment to found ones with the most true facts.

    Dynamic programming over which wanted objects, at most twelve, are served; each found one serves once.
    """
    absent = [[False] * (2 + (thing.size is not None)) for thing in wanted]
    best: dict[int, tuple[int, dict[int, list[bool]]]] = {0: (0, {})}
    for item in found:
        for served, (score, chosen) in list(best.items()):
            for i, thing in enumerate(wanted):
                if served >> i & 1:
                    continue
                match = _match(thing, item)
                key, total = served | 1 << i, score + sum(match)
                if key not in best or total > best[key][0]:
                    best[key] = (total, {**chosen, i: match})
    _, chosen = max(best.values(), key=lambda entry: entry[0])
    return [fact for i, none in enumerate(absent) for fact in chosen.get(i, none)]


def _holds(relation: str, first: Found, second: Found) -> bool:
    dx, dy = first.x - second.x, first.y - second.y
    aside = abs(dy) if relation in ("left", "right") else abs(dx)
    return {"left": -dx, "right": dx, "above": -dy, "below": dy}[relation] > aside


class Oracle(Verifier):
    """Judge of the embedded world: 1.0 when an image shows exactly what its caption asks for, else 0.0.

    Scores are NaN where the oracle cannot judge: a caption outside the world's grammar, which it warns of once, or an
    image with values that are not finite. Images of another size than 64 x 64 raise ValueError.
    """

    version, family = "2", "oracle"

    def __init__(self, facts: bool = False) -> None:
        """Score all or nothing; with `facts`, under the name "oracle-facts", the share of facts that hold."""
        self.name = "oracle-facts" if facts else "oracle"
        self.facts = facts
        self._warned: set[str] = set()

    def check(self, prompts: Sequence[str]) -> None:
        """Warn of captions outside the world's grammar, once each."""
        for prompt in dict.fromkeys(prompts):
            if parse(prompt) is None and prompt not in self._warned:
                self._warned.add(prompt)
                warn(
                    f"{self.name} can't read {prompt!r}: it isn't a caption of the shapes world, such as "
                    "'a red circle' or 'two yellow stars'; there is no verdict on its images (nan)",
                )

    def unread(self, prompt: str) -> str:
        """All of a caption outside the world's grammar."""
        return prompt if parse(prompt) is None else ""

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """Score checked images; see `judge`."""
        self.check(prompts)
        verdicts = judge(images, prompts)
        values = [verdict.facts if self.facts else verdict.strict for verdict in verdicts]
        return torch.tensor([math.nan if value is None else float(value) for value in values])
