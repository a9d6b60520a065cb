"""What to take of a result's kept images: a set that is good and different, and the winner of pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from noise_search.arguments import check_counts
from noise_search.choosing.features import Features
from noise_search.choosing.pairs import Contest, as_batch, as_judge, hold_contest
from noise_search.choosing.sets import check_diversity, cosine_distances, pick_set, unexplained
from noise_search.models import ModelCard, read_card
from noise_search.resolve import resolve_verifier
from noise_search.results.candidate import Candidate
from noise_search.results.data import ResultData
from noise_search.shapes import EMBEDDED_MODELS
from verifiers.base import Verifier

FeaturesLike = str | Verifier | Callable[[torch.Tensor], Any]
"""What tells images apart: "thumbnails", a verifier with a tower or its name, or a function of images."""
THUMBNAILS = "thumbnails"


@dataclass(frozen=True)
class Choice:
    """What a judge chose among the best images of a search.

    Attributes:
        candidates: those that were compared, best first by the judge.
        strengths: theirs, in this order: P(one beats another) = its strength / (its strength + the other's).
        contest: calls, pairs and contradictions; its images are numbered by the search's own ranks, from 0.
    """

    candidates: tuple[Candidate, ...]
    strengths: tuple[float, ...]
    contest: Contest

    @property
    def best(self) -> Candidate:
        """What it chose."""
        return self.candidates[0]

    @property
    def image(self) -> Image.Image:
        """Its image; the middle frame of a clip."""
        found = self.best.image
        assert found is not None
        return found

    @property
    def calls(self) -> int:
        """Calls of the judge."""
        return self.contest.calls

    @property
    def contradictions(self) -> float:
        """Share of the pairs of which it preferred another image in the other order; NaN where it told nothing."""
        return self.contest.contradictions / self.contest.compared if self.contest.compared else float("nan")

    def __str__(self) -> str:
        rank = self.contest.order[0] + 1
        return f"candidate {self.best.id}, number {rank} of {len(self.candidates)} by score: {self.contest}"


def diverse_set(result: ResultData, count: int, diversity: float, features: FeaturesLike) -> list[Candidate]:
    """The kept candidates that are good and different; see `SearchResult.diverse`."""
    check_counts(k=count)
    check_diversity(diversity)
    if diversity is None:
        raise TypeError("diversity=None stands for nothing: give a number, such as 1.5")
    kept = kept_images(result)
    _check_kept(result, kept, count)
    images = as_batch([image for one in kept if (image := one.image) is not None])
    quality = np.array([one.score for one in kept])
    distance = cosine_distances(unexplained(features_of(result, features, images), quality))
    return [kept[row] for row in pick_set(quality, distance, count, diversity)]


def choose_by_pairs(result: ResultData, judge: Any, count: int, calls: int | None) -> Choice:
    """What a judge chooses among the best kept candidates; see `SearchResult.choose`."""
    check_counts(2, k=count, calls=calls)
    kept = kept_images(result)[:count]
    _check_kept(result, kept, 1)
    asked = recorded_verifier(result, judge) if isinstance(judge, str) else judge
    images = [image for one in kept if (image := one.image) is not None]
    contest = hold_contest(images, result.prompt, as_judge(asked), calls)
    order = contest.order
    return Choice(tuple(kept[at] for at in order), tuple(contest.strengths[at] for at in order), contest)


def kept_images(result: ResultData) -> list[Candidate]:
    """The finished candidates whose images were kept, best first."""
    return [one for one in result.top(len(result.candidates)) if one.pixels is not None]


def _check_kept(result: ResultData, kept: Sequence[Candidate], count: int) -> None:
    if result.failed:
        raise result.failure()
    if len(kept) < count:
        finished = len(result.top(len(result.candidates)))
        fix = f"search with top_k={count}" if finished >= count else "search with a larger budget, or more to finish"
        raise ValueError(
            f"k={count} images were asked for, and {len(kept)} of {finished} finished ones were kept: {fix}, or ask "
            "for fewer"
        )


def features_of(result: ResultData, asked: FeaturesLike, images: torch.Tensor) -> np.ndarray:
    """Features `[image, feature]`, by what was asked for."""
    if callable(asked) and not isinstance(asked, Verifier):
        found = np.asarray(asked(images), dtype=np.float64)
        if found.ndim != 2 or len(found) != len(images):
            raise ValueError(
                f"features returned shape {found.shape} for {len(images)} images; expected [image, feature]"
            )
        return found
    if asked == THUMBNAILS:
        return Features([])(images)
    named = recorded_verifier(result, asked) if isinstance(asked, str) else asked
    made = Features([named])
    if made.label == Features([]).label:
        raise ValueError(
            f"features={getattr(named, 'name', named)!r:.60} has no tower whose features could be used: name one such "
            "as 'clip', 'thumbnails', or give a function of images"
        )
    return made(images)


@dataclass(frozen=True)
class _Recorded:
    """What names of verifiers are resolved for: the searched model by its recorded name, not loaded."""

    name: str
    card: ModelCard


def recorded_verifier(result: ResultData, name: str) -> Verifier:
    """A verifier by the name that it has for the searched model, which isn't loaded.

    Raises:
        ValueError: no such name.
    """
    model = str(result.settings["model"].get("name"))
    card = read_card(EMBEDDED_MODELS[model]) if model in EMBEDDED_MODELS else ModelCard()
    return resolve_verifier(name, _Recorded(model, card))
