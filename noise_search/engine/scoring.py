"""Scores of a batch of images, whatever a verifier does: a failure costs one image, and is never a score."""

import gc
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from noise_search.engine.sources import Source, given_sources
from noise_search.engine.x0_predictions import level_of
from noise_search.results.candidate import middle
from samplers.base import is_out_of_memory
from samplers.space import NoiseSpace
from verifiers.base import Verifier, VerifierUnusable

T = TypeVar("T")
Scored = tuple[np.ndarray, list[Exception | None]]
Asked = dict[str, Scored]
"""By verifier key, scores and errors of each row."""
Copy = Callable[[Tensor], np.ndarray]

_GIVE_UP, _NEVER_WORKED = 16, 4
"""Failures in a row after which a verifier is taken to be broken: one that has worked before, and one that hasn't."""


NO_X0: Mapping[float, Tensor] = MappingProxyType({})


class Scorer:
    """Scores batches with several verifiers, and remembers which of them work.

    Args:
        verifiers: that score.
        sources: what the images are made from, for verifiers that need it.
        timeout: seconds after which a call counts as failed; None for never.
        device: where the images go before they are scored; where they are when None.

    Attributes:
        unusable: why one of them can score no further images, None while all can.
    """

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        sources: Sequence[Source] = (),
        timeout: float | None = None,
        device: str | None = None,
    ) -> None:
        self.verifiers, self._sources, self._timeout = tuple(verifiers), tuple(sources), timeout
        self._device = device
        self._worked: set[str] = set()
        self._failed_in_a_row = dict.fromkeys((v.key for v in verifiers), 0)
        self.unusable: VerifierUnusable | None = None

    def score(
        self, images: Tensor, prompts: Sequence[str], x0: Mapping[float, Tensor] = NO_X0
    ) -> tuple[dict[str, np.ndarray], list[str | None]]:
        """Float64 scores `[row]` by verifier key, NaN where one failed, and per row why it has none.

        Rows are images, or clips `[row, frames, 3, height, width]`: a verifier that needs frames gets the whole clip
        as `frames` and its middle frame as the image; any other scores up to 8 frames, and their mean counts (of a
        constraint, the worst). A verifier that needs x0 gets those of `x0`, pictures like the images by noise level,
        that were predicted at its own; of clips, frame by frame. One that needs a source gets that of the scorer.

        Raises:
            Exception: what a verifier raised that failed on 16 images in a row, or on its first 4.
        """
        return self.read(self.ask(images, prompts, x0), len(images))

    def ask(
        self, images: Tensor, prompts: Sequence[str], x0: Mapping[float, Tensor] = NO_X0, copy: Copy | None = None
    ) -> Asked:
        """Have everything scored, as `score` does; where they are copied by a `copy` that doesn't wait, look later."""
        if self._device is not None:
            images, x0 = images.to(self._device), {level: one.to(self._device) for level, one in x0.items()}
        asked: Asked = {}
        for verifier in self.verifiers:
            found = asked[verifier.key] = self._scores(verifier, images, prompts, x0, copy)
            self._check(verifier, found[1])
        return asked

    def read(self, asked: Asked, rows: int) -> tuple[dict[str, np.ndarray], list[str | None]]:
        """The scores, and why a row has none; see `score`."""
        failures: list[str | None] = [None] * rows
        for verifier in self.verifiers:
            scores, errors = asked[verifier.key]
            for row, error in enumerate(errors):
                if isinstance(error, Exception):
                    reason: str | None = f"{verifier.name} failed: {error}"
                else:
                    reason = None if np.isfinite(scores[row]) else f"{verifier.name} gave no finite score"
                failures[row] = failures[row] or reason
            if verifier.exhausted and not np.isfinite(scores).all():
                self.unusable = VerifierUnusable(f"{verifier.name}: {verifier.exhausted}")
        return {key: scores for key, (scores, _) in asked.items()}, failures

    def _check(self, verifier: Verifier, errors: Sequence[Exception | None]) -> None:
        for error in errors:
            if error is None:
                self._worked.add(verifier.key)
                self._failed_in_a_row[verifier.key] = 0
                continue
            if isinstance(error, VerifierUnusable):
                self.unusable = error
                continue
            self._failed_in_a_row[verifier.key] += 1
            allowed = _GIVE_UP if verifier.key in self._worked else _NEVER_WORKED
            if self._failed_in_a_row[verifier.key] >= allowed:
                raise error

    def _scores(
        self, verifier: Verifier, images: Tensor, prompts: Sequence[str], x0: Mapping[float, Tensor], copy: Copy | None
    ) -> Scored:
        """Scores and errors of images or clips."""
        needs: dict[str, Tensor] = {}
        if (level := level_of(verifier)) is not None:
            if level not in x0:
                error = ValueError(f"no run to this image makes an x0 prediction at noise level {level:g}")
                return np.full(len(images), np.nan), [error] * len(images)
            needs["x0"] = x0[level]
        if not is_clip(images):
            return self._rows(verifier, images, prompts, needs, copy)
        if "frames" in verifier.needs:
            at = middle(images.shape[1])
            needs = {name: clips[:, at] for name, clips in needs.items()} | {"frames": images}
            return self._rows(verifier, images[:, at], prompts, needs, copy)
        frames = scored_frames(images)
        count = frames.shape[1]
        needs = {name: scored_frames(clips).flatten(0, 1) for name, clips in needs.items()}
        scores, errors = self._rows(verifier, frames.flatten(0, 1), [p for p in prompts for _ in range(count)], needs)
        rows = [[e for e in errors[at : at + count] if e is not None] for at in range(0, len(errors), count)]
        by_row = scores.reshape(-1, count)
        combined = by_row.min(1) if verifier.kind == "constraint" else by_row.mean(1)
        return combined, [row[0] if row else None for row in rows]

    def _rows(
        self,
        verifier: Verifier,
        images: Tensor,
        prompts: Sequence[str],
        needs: Mapping[str, Any],
        copy: Copy | None = None,
    ) -> Scored:
        """Scores, and the error of each row that has none; `needs` has a row for each image.

        A batch that fails is scored one by one, in halves where memory runs out, and not again where nothing can help.
        """
        failure: Exception | None = None
        try:
            shared = given_sources(verifier, self._sources, images.device)
            scores = within(self._timeout, lambda: verifier(images, prompts, **needs, **shared))
            return (_as_array(scores) if copy is None else copy(scores.detach().double())), [None] * len(images)
        except VerifierUnusable as error:
            failure = error.with_traceback(None)
            found = np.full(len(images), np.nan) if error.scores is None else _as_array(error.scores)
            return found, [None if np.isfinite(score) else failure for score in found]
        except Exception as error:
            failure = error.with_traceback(None)
        if len(images) == 1:
            if is_out_of_memory(failure):
                raise failure
            return np.array([np.nan]), [failure]
        if is_out_of_memory(failure):
            free_memory()
        step = len(images) // 2 if is_out_of_memory(failure) else 1
        cuts = [slice(at, at + step) for at in range(0, len(images), step)]
        parts = [self._rows(verifier, images[cut], prompts[cut], {k: v[cut] for k, v in needs.items()}) for cut in cuts]
        return np.concatenate([scores for scores, _ in parts]), [error for _, errors in parts for error in errors]


def within(seconds: float | None, call: Callable[[], T]) -> T:
    """What a call returns or raises, if it does so in time; else it is left alone, in a thread that nobody waits for.

    Raises:
        TimeoutError: it didn't.
    """
    if seconds is None:
        return call()
    answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def answering() -> None:
        try:
            answer.put((True, call()))
        except BaseException as error:
            answer.put((False, error))

    threading.Thread(target=answering, daemon=True).start()
    try:
        fine, found = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no score within {seconds:g} s") from None
    if not fine:
        raise found
    made: T = found
    return made


def _as_array(scores: Tensor) -> np.ndarray:
    return scores.detach().double().cpu().numpy()


def as_images(pixels: Sequence[np.ndarray], device: str | torch.device | None) -> Tensor:
    """Float32 images, or clips, in [0, 1] of 8-bit pixels `[height, width, 3]` or `[frames, height, width, 3]`."""
    rows = [torch.from_numpy(p).movedim(-1, -3).float() / 255 for p in pixels]
    return torch.stack(rows).to(device)


def free_memory() -> None:
    """Give cached device memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


FRAMES_SCORED = 8
"""Frames of a clip that a verifier of images sees."""


def makes_clips(space: NoiseSpace) -> bool:
    """Whether rows of this noise become clips: they have a time axis that is longer than 1."""
    return any(axis == "frame" and size > 1 for axis, size in zip(space.axes, space.shape, strict=True))


def is_clip(images: Tensor) -> bool:
    """Whether a batch holds clips rather than images."""
    return images.ndim == 5


def check_frames(verifiers: tuple[Verifier, ...], space: NoiseSpace, model: str) -> None:
    """Raise ValueError for a verifier that needs frames where the model makes images."""
    wanting = [v.name for v in verifiers if "frames" in v.needs]
    if wanting and not makes_clips(space):
        raise ValueError(
            f"verifier {wanting[0]!r} needs frames, and {model} makes single images (noise axes {space.axes}); "
            "use it with a model that makes video, or score with a verifier of images"
        )


def scored_frames(clips: Tensor) -> Tensor:
    """The frames of each clip that a verifier of images sees: at most 8, evenly spaced, both ends among them."""
    frames = clips.shape[1]
    at = torch.linspace(0, frames - 1, min(frames, FRAMES_SCORED)).round().long()
    return clips[:, at.to(clips.device)]


def pictures(images: Tensor, verifier: Verifier) -> int:
    """How many pictures a verifier looks at to score one row of the batch."""
    if not is_clip(images):
        return 1
    return images.shape[1] if "frames" in verifier.needs else min(images.shape[1], FRAMES_SCORED)
