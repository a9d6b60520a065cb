"""What a running search shows on standard error."""

import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from noise_search.engine.prompt_search import PromptSearch
from noise_search.engine.setup import Setup
from noise_search.models import LoadedModel
from noise_search.previews import agreement_in_words
from noise_search.words import counted, prediction_in_words, short_names, size_in_words
from verifiers.aggregators.base import Aggregator

_FORMAT = "{percentage:3.0f}%|{bar}| {n}/{total} NFE, {elapsed} gone, {left}{postfix}"
_LONGEST = 30 * 24 * 3600


class _Bar(tqdm):  # type: ignore[misc]
    """A bar that says what is left by the mean speed so far, which a fast or slow step doesn't turn round."""

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        """What `_FORMAT` shows."""
        found: MutableMapping[str, Any] = super().format_dict
        found["left"] = _left(found["n"], found["total"], found["elapsed"])
        return found


class Reporter:
    """The cost line before the start, and a bar over NFE with the best score."""

    def __init__(
        self,
        searches: list[PromptSearch],
        aggregator: Aggregator,
        loaded: LoadedModel,
        setup: Setup,
        prediction: Mapping[str, Any],
        enabled: bool,
    ) -> None:
        self._searches, self._enabled = searches, enabled
        # An accelerator has been told of its steps long before it has done them.
        self._stepwise = enabled and str(loaded.device or "cpu").startswith("cpu")
        self._before = 0
        self._bar: Any = None
        self._total = setup.terms.nfe_total * len(searches)
        if enabled:
            many = f" for each of {len(searches)} prompts" if len(searches) > 1 else ""
            many += f", shared by {setup.share}" if setup.share != "equal" else ""
            keys = [v.key for v in aggregator.verifiers]
            verifiers = ", ".join(short_names(keys)[key] for key in keys)
            self._say(setup.in_words(many))
            note = f"; scheduler: {loaded.sampler.note}" * bool(loaded.sampler.note)
            self._say(f"model {loaded.name}{note}; verifier {verifiers}")
            if how := loaded.loading.get("compile"):
                what = "the denoiser" if how == "whole" else "the denoiser's blocks"
                self._say(f"{what} will be compiled in the first micro-batch; each is padded to one shape")
            if prediction:
                self._say(prediction_in_words(prediction["prediction"]))

    @staticmethod
    def _say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def directory(self, run: Path, known: int, pictures: int, picture: int, latent: int) -> None:
        """Say where it is journalled, what is there already, and how much that takes.

        Args:
            run: the directory.
            known: evaluations that are there.
            pictures: how many are kept at most, besides new bests.
            picture: bytes of one before it is packed, 0 where that isn't known.
            latent: bytes of what a row takes that stops on its way.
        """
        if self._enabled:
            there = f", which goes on: {counted(known, 'evaluation')} needn't be made again" * bool(known)
            each = f" of at most {size_in_words(picture)}" * bool(picture)
            stop = f"{size_in_words(latent)} for a stop on the way"
            takes = f"{counted(pictures, 'picture')}{each} and every new best, {stop}"
            self._say(f"run {run}{there}; it keeps {takes}")

    def preview(self, record: Mapping[str, Any]) -> None:
        """Say how far a small decoder can be trusted."""
        if self._enabled:
            self._say(f"preview {agreement_in_words(record)}")

    def workers(self) -> None:
        """Say what takes a while before the start."""
        if self._enabled:
            self._say("workers are started: each loads model and verifiers")

    def start(self) -> None:
        """Show the bar."""
        shown = {"bar_format": _FORMAT, "miniters": 1, "leave": False}
        self._bar = _Bar(total=self._total, disable=not self._enabled, **shown)

    @property
    def on_step(self) -> Callable[[int], None] | None:
        """To be told the NFE of the running micro-batch that are done; None where nobody looks, or none are known."""
        return self._step if self._stepwise else None

    def _step(self, nfe: int) -> None:
        self._move(min(self._before + nfe, self._charged))  # what is charged is the batch without its padding

    def update(self) -> None:
        """Move the bar to the NFE charged so far, and show the best score."""
        pools = [one.pool for one in self._searches]
        bests = [pool.best.score for pool in pools if pool.best is not None and pool.aggregator.absolute]
        if bests:
            mean = "mean of the best" if len(pools) > 1 else "best"
            self._bar.set_postfix_str(f"{mean} {np.mean(bests):.4f}", refresh=False)
        self._before = self._charged
        self._move(self._before)

    @property
    def _charged(self) -> int:
        return sum(one.ledger.nfe for one in self._searches)

    def _move(self, nfe: int) -> None:
        self._bar.update(nfe - self._bar.n)

    def close(self) -> None:
        """Take the bar away, and say what warming up took."""
        self._bar.close()
        if self._enabled and (seconds := sum(one.ledger.seconds.get("compile", 0.0) for one in self._searches)):
            self._say(f"compiling took {seconds:.1f} s")


def _left(done: int, total: int, elapsed: float) -> str:
    """The time left, in words."""
    if not done:
        return "time left unknown"
    seconds = elapsed * (total - done) / done
    return "more than 30 days left" if seconds > _LONGEST else f"{tqdm.format_interval(seconds)} left"
