"""Pair judges, `(a, b, prompt) -> P(a is better)`, and what they say of several images.

Two images side by side are told apart where two grades are equal: judges by vision language models agree better with
people so (GenArena, arXiv 2602.06013), if both orders are asked (MMRB2, arXiv 2512.16899).
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from noise_search.arguments import check_callable, check_counts
from noise_search.choosing.ranking import ALL_PAIRS, all_pairs, bradley_terry, knockout
from noise_search.words import counted
from verifiers.base import Verifier

PairJudge = Callable[[Image.Image, Image.Image, str], float | None]
"""P(the first image is the better one for the prompt), in [0, 1]; None or NaN where it can't tell."""

DOUBTFUL = 0.3
"""Share of contradictions from which on a judge tells little."""


@dataclass(frozen=True)
class Contest:
    """What a judge said of images, which are numbered in the order in which they were given, the best seed first.

    Attributes:
        order: the images, best first.
        strengths: of Bradley and Terry, in the order in which the images were given.
        wins: `[image, image]`, of the row's over the column's; both orders of a pair count 1 together.
        calls: of the judge.
        pairs: that were to be compared.
        compared: pairs of which it told something.
        contradictions: pairs of which it preferred another image in the other order; each image gets half.
        stopped: why pairs were left out, "" where none was.
    """

    order: tuple[int, ...]
    strengths: tuple[float, ...]
    wins: np.ndarray = field(repr=False)
    calls: int
    pairs: int
    compared: int
    contradictions: int
    stopped: str = ""

    def __str__(self) -> str:
        told = f"{counted(self.calls, 'call')} of the judge, {self.compared} of {counted(self.pairs, 'pair')} told"
        if self.compared:
            told += f", contradictions {self.contradictions / self.compared:.0%}"
            told += ": it tells little" if self.contradictions > DOUBTFUL * self.compared else ""
        return f"{told}; {self.stopped}" if self.stopped else told


def hold_contest(images: Sequence[Image.Image], prompt: str, judge: PairJudge, calls: int | None = None) -> Contest:
    """Compare images in pairs, in both orders: all pairs up to 6 images, by knockout beyond.

    Args:
        images: best seed first.
        prompt: what they are for.
        judge: see `PairJudge`; one that sets `exhausted` after a call isn't asked again.
        calls: most calls, two for a pair; None for all: n (n - 1) up to 6 images, else 2 (n - 1).

    Raises:
        TypeError: a judge that can't be called, or an answer that is no number.
        ValueError: fewer than 2 calls, or an answer outside [0, 1].
    """
    check_callable(judge=judge)
    check_counts(2, calls=calls)
    asking = _Asking(images, prompt, judge, calls)
    rounds = (all_pairs if len(images) <= ALL_PAIRS else knockout)(len(images), asking.match)
    strengths: list[float] = bradley_terry(asking.wins).tolist()
    # rounded, so that equal ones keep the order of their seeds
    order = sorted(range(len(images)), key=lambda one: (-rounds[one], -round(strengths[one], 9), one))
    return Contest(
        tuple(order),
        tuple(strengths),
        asking.wins,
        asking.calls,
        asking.pairs,
        asking.compared,
        asking.contradictions,
        asking.stopped,
    )


class _Asking:
    """Asks for both orders of pairs within a number of calls, and counts."""

    def __init__(self, images: Sequence[Image.Image], prompt: str, judge: PairJudge, calls: int | None) -> None:
        self._images, self._prompt, self._judge, self._most = images, prompt, judge, calls
        self.wins = np.zeros((len(images), len(images)))
        self.calls = self.pairs = self.compared = self.contradictions = 0
        self.stopped = ""

    def match(self, one: int, other: int) -> float | None:
        """The share of the first: the mean over both orders, or half where they contradict each other."""
        self.pairs += 1
        if self._most is not None and self.calls + 2 > self._most and not self.stopped:
            self.stopped = f"the cap of calls={self._most} is reached"
        if self.stopped:
            return None
        first, second = self._ask(one, other), self._ask(other, one)
        told = [share for share in (first, None if second is None else 1 - second) if share is not None]
        if not told:
            return None
        contradicts = len(told) == 2 and (told[0] - 0.5) * (told[1] - 0.5) < 0
        share = 0.5 if contradicts else sum(told) / len(told)
        self.compared += 1
        self.contradictions += contradicts
        self.wins[one, other], self.wins[other, one] = share, 1 - share
        return share

    def _ask(self, one: int, other: int) -> float | None:
        if self.stopped:
            return None
        self.calls += 1
        said = self._judge(self._images[one], self._images[other], self._prompt)
        self.stopped = str(getattr(self._judge, "exhausted", ""))
        if said is None:
            return None
        try:
            share = float(said)
        except (TypeError, ValueError):
            kind = type(said).__name__
            raise TypeError(f"the judge said {said!r:.60} ({kind}); expected P(the first is better), 0 to 1") from None
        if math.isnan(share):
            return None
        if not 0 <= share <= 1:
            raise ValueError(f"the judge said {share:g}; expected P(the first is better), from 0 to 1")
        return share


class ByScores:
    """A verifier as a pair judge: whose score is higher, or a logistic function of the difference.

    P(a is better) = 1 / (1 + exp(-(score of a - score of b) / scale)). Each image is scored once.

    Example:
        >>> result.choose(ByScores(verifiers.load("image-reward"), scale=0.5))
    """

    def __init__(self, verifier: Verifier, scale: float | None = None) -> None:
        """Take the verifier, and the difference of scores at which one wins 73 %; None for whoever is higher.

        Raises:
            TypeError: what is no verifier.
            ValueError: a scale that isn't above 0, or a verifier that needs more than images and prompts.
        """
        if not isinstance(verifier, Verifier):
            raise TypeError(f"verifier is {verifier!r:.60}; expected a Verifier, such as verifiers.load('clip')")
        if verifier.needs:
            raise ValueError(
                f"verifier {verifier.name!r} needs {', '.join(sorted(verifier.needs))}, which a pair of images doesn't "
                "have: take another"
            )
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"scale={scale!r} must be greater than 0: the difference of scores at which one wins 73 %")
        self.verifier, self.scale = verifier, scale
        self._known: dict[str, float] = {}

    @property
    def exhausted(self) -> str:
        """Why the verifier scores no more, as after its own calls."""
        return self.verifier.exhausted

    def __call__(self, a: Image.Image, b: Image.Image, prompt: str) -> float:
        """P(a is better); NaN where one has no score."""
        difference = self._score(a, prompt) - self._score(b, prompt)
        if math.isnan(difference):
            return math.nan
        if self.scale is None:
            return 0.5 + 0.5 * float(np.sign(difference))
        return 0.5 + 0.5 * math.tanh(difference / self.scale / 2)  # the logistic function, which overflows nowhere

    def _score(self, image: Image.Image, prompt: str) -> float:
        key = hashlib.sha256(repr((image.size, prompt)).encode() + image.tobytes()).hexdigest()
        if (known := self._known.get(key)) is not None:
            return known
        score = float(self.verifier(as_batch([image]), [prompt]))  # alone, so that it depends on no other
        if not math.isnan(score):
            self._known[key] = score
        return score


_ANSWERS = {"a": 1.0, "b": 0.0, "": 0.5, "tie": 0.5, "neither": 0.5}


class ByPerson:
    """A person as a pair judge: asked which of two images is better.

    Example:
        >>> def ask(a, b, prompt):
        ...     display(a, b)
        ...     return input(f"{prompt}: a, b, or neither? ")
        >>> result.choose(ByPerson(ask), k=4)
    """

    def __init__(self, ask: Callable[[Image.Image, Image.Image, str], str]) -> None:
        """Take what shows two images and a prompt, and returns "a", "b", or "tie".

        Raises:
            TypeError: it can't be called.
        """
        if not callable(ask):
            raise TypeError(f"ask is {ask!r:.60}; expected a function of two images and the prompt")
        self.ask = ask

    def __call__(self, a: Image.Image, b: Image.Image, prompt: str) -> float:
        """1 for a, 0 for b, 1/2 for a tie; ValueError for anything else."""
        said = self.ask(a, b, prompt)
        key = said.strip().lower() if isinstance(said, str) else None
        if key not in _ANSWERS:
            raise ValueError(f"ask returned {said!r:.60}; expected 'a', 'b' or 'tie'")
        return _ANSWERS[key]


def as_judge(judge: Any) -> PairJudge:
    """A pair judge: what is one already, or a verifier by whose score is higher."""
    found: PairJudge = ByScores(judge) if isinstance(judge, Verifier) else judge
    return found


def as_batch(images: Sequence[Image.Image]) -> torch.Tensor:
    """Images of one size as float32 `[image, 3, height, width]` in [0, 1]."""
    pixels = [np.array(image.convert("RGB")) for image in images]
    return torch.from_numpy(np.stack(pixels)).movedim(-1, 1).float() / 255
