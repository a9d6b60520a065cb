"""All that a search found, as values: what its face, its plots and its files are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from noise_search.results.candidate import Candidate, best_finished, components, number
from noise_search.results.ledger import Ledger
from noise_search.results.lineage import lineages, parents
from noise_search.words import constraints, counted, schedule_in_words, short_names, violation
from samplers.recipe import Recipe

BEYOND = "beyond the end of the search"
"""How the failure of a row begins that ran in the round of a limit, after the row that reached it."""


class AllCandidatesFailed(RuntimeError):
    """No candidate has a usable image and score, so there is no winner to return.

    Attributes:
        results: of every prompt of the search, with what was tried; empty where the error is of one result.
    """

    results: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ResultData:
    """The best image of a search, how to make it again, all that was tried, and what it cost.

    Attributes:
        prompt: what was asked for.
        candidates: everything that was scored, in order; the unfinished ones were scored by their x0 prediction.
        bests: every new best, in order; where values depend on the pool, an earlier one may be the best again.
        bests_nfe: NFE spent when each of them became the best.
        ledger: what it cost.
        stop_reason: why the search ended, in words.
        error: what ended it early, or None.
        settings: everything that the result depends on, as plain JSON.
        absolute: whether `score` has a meaning outside this pool of candidates.
        run: the directory in which it was journalled, or None.
        again: the same search once more, with other arguments by keyword, where it has a directory.
    """

    prompt: str
    candidates: tuple[Candidate, ...]
    bests: tuple[Candidate, ...]
    bests_nfe: tuple[int, ...]
    ledger: Ledger
    stop_reason: str
    settings: dict[str, Any] = field(repr=False)
    absolute: bool = True
    error: BaseException | None = None
    run: Path | None = None
    again: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    @property
    def failed(self) -> bool:
        """Whether there is no winner: every candidate failed, or the search of many prompts ended before this one's."""
        return not self.bests

    @property
    def best(self) -> Candidate:
        """The winner.

        Raises:
            AllCandidatesFailed: there is none.
        """
        if self.failed:
            raise self.failure()
        return max(self.bests, key=lambda c: (c.score, -c.id))

    def failure(self) -> AllCandidatesFailed:
        """The error that says why there is no winner."""
        count = len(self.candidates)
        violations = [f"{said} in {bad} of {count}" for said, bad in self._violations()]
        reasons = sorted({c.failure for c in self.candidates if c.failure}) + violations or [self.stop_reason]
        return AllCandidatesFailed(
            f"none of {counted(count, 'candidate')} for {self.prompt!r} can win: {'; '.join(reasons)}"
        )

    def _violations(self) -> list[tuple[str, int]]:
        """Each constraint that candidates violate, with the value that came nearest, and how many violate it."""
        found = []
        for key, name in constraints(self.settings["verifier"]).items():
            if bad := [c.scores[key] for c in self.candidates if c.scores.get(key, 0) < 0]:
                found.append((violation(name, max(bad)), len(bad)))
        return found

    @property
    def first(self) -> Candidate:
        """Random search's noise 0, which is what one plain sample gives; where that isn't there, the first finished.

        Published variants (`literal=True`) render no plain sample, and `baseline=False` asks for none.
        """
        finished = [c for c in self.candidates if c.finished]
        if not finished:
            raise self.failure()
        return next((c for c in finished if self._plain(c)), finished[0])

    def _plain(self, candidate: Candidate) -> bool:
        beyond = (candidate.failure or "").startswith(BEYOND)
        return candidate.seed == int(self.settings["seed"]) % 2**32 and not beyond

    @property
    def first_name(self) -> str:
        """What `first` is, in words."""
        return "one sample" if self._plain(self.first) else "first candidate"

    @property
    def schedule(self) -> str:
        """How the algorithm shares the budget, in words: candidates, drafts, or the noise levels of its rounds."""
        return schedule_in_words(self.settings["algorithm"]["schedule"])

    @property
    def parents(self) -> dict[int, int | None]:
        """By candidate id, the one scored earlier on its trajectory that it goes on from; None for none.

        Read from recipes. A candidate that is nobody's parent ended where it was scored, one of several branched there.
        """
        return parents(self.candidates)

    @property
    def lineages(self) -> dict[int, int]:
        """By grid point, how many first noises the candidates scored there descend from; 1 is a collapse.

        Noise 0 isn't counted where it was only finished for its own sake.
        """
        return lineages(self.candidates)

    @property
    def prediction(self) -> dict[str, Any] | None:
        """What the calibration foretold of the target score, and what came of it, as plain JSON; None where nothing.

        `nfe` were to reach `target_score` with the `chance`, None where no budget was; `reached` says whether the best
        score did, and `taken` is the NFE spent by then.
        """
        told = self.settings.get("prediction")
        if told is None:
            return None
        reaching = zip(self.bests, self.bests_nfe, strict=True)
        taken = next((nfe for best, nfe in reaching if best.score >= told["target_score"]), None)
        return {**told, "reached": taken is not None, "taken": taken}

    @property
    def image(self) -> Image.Image:
        """The winner's image; the middle frame of a clip."""
        if (image := self.best.image) is None:
            raise ValueError(f"the winner's picture isn't in {str(self.run)!r} any more; resume() makes it again")
        return image

    @property
    def frames(self) -> list[Image.Image] | None:
        """The frames of the winner's clip; None where the model makes images."""
        return self.best.frames

    @property
    def score(self) -> float:
        """The winner's score, higher is better."""
        return self.best.score

    @property
    def first_score(self) -> float | None:
        """The score of one plain sample; NaN if it failed, None where none was finished (`baseline=False`)."""
        return self.first.score if self._plain(self.first) else None

    @property
    def recipe(self) -> Recipe:
        """The winner's recipe."""
        return self.best.recipe

    @property
    def judges(self) -> dict[str, dict[str, float]]:
        """Per judge, its score of the first image and of the winner, and its mean score; NaN where it can't tell.

        The mean is over all that it judged: one pair of images says little.
        """
        return {
            key: {"first": self.first.judges.get(key, float("nan")), "best": value, "mean": self._judged_mean(key)}
            for key, value in self.best.judges.items()
        }

    def _judged_mean(self, key: str) -> float:
        known = [c.judges[key] for c in self.candidates if np.isfinite(c.judges.get(key, np.nan))]
        return float(np.mean(known)) if known else float("nan")

    def components(self) -> dict[str, np.ndarray]:
        """Raw scores of the finished candidates by verifier key, float64 `[finished]`, NaN where one failed.

        Example:
            frozen = MeanZ(clip, aesthetic).freeze(result.components())
        """
        pool = [c for c in self.candidates if c.finished]
        return components(pool, pool[0].scores if pool else ())

    def top(self, count: int) -> list[Candidate]:
        """The best finished candidates, best first: `count` of them, or as many as there are."""
        return best_finished(self.candidates, count)

    def curve(self) -> list[tuple[int, float]]:
        """(NFE, best score so far) at every new best and at the end.

        Raises:
            ValueError: the score only ranks a pool; read `curves()` instead.
        """
        if not self.absolute:
            raise ValueError(
                f"{self.settings['verifier']['name']} has no absolute value to draw a curve of; use curves() for its "
                "components"
            )
        # Against a reference frozen later, an early best need not have been the best.
        so_far = accumulate((c.score for c in self.bests), max)
        return [*zip(self.bests_nfe, so_far, strict=True), (self.ledger.nfe, self.score)]

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """Per verifier key, (NFE, raw score of the best candidate so far)."""
        found = {}
        for key in self.best.scores:
            points = [(nfe, c.scores[key]) for nfe, c in zip(self.bests_nfe, self.bests, strict=True)]
            found[key] = [*points, (self.ledger.nfe, points[-1][1])]
        return found

    def to_pandas(self) -> Any:
        """The candidates as a pandas DataFrame, a row each in their order, so that those of several results join.

        Columns: prompt, id, seed (missing where the noise was moved), step, finished, draft, nfe (spent once it was
        done), score, "score:NAME" for each verifier, "judge:NAME" for each judge (NaN where it didn't look), failure.
        """
        import pandas

        names = short_names(key for one in self.candidates for key in one.scores)
        judges = short_names(key for one in self.candidates for key in one.judges)
        plain = ("id", "seed", "step", "finished", "draft", "nfe", "score")
        rows = [
            {
                "prompt": self.prompt,
                **{name: getattr(one, name) for name in plain},
                **{f"score:{name}": one.scores.get(key, float("nan")) for key, name in names.items()},
                **{f"judge:{name}": one.judges.get(key, float("nan")) for key, name in judges.items()},
                "failure": one.failure,
            }
            for one in self.candidates
        ]
        return pandas.DataFrame(rows).astype({"seed": "Int64"})

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON, without pixels."""

        found = {} if self.failed else self._winner_to_json()
        beginnings: dict[str, tuple[int, int]] = {}
        return {
            "prompt": self.prompt,
            "model": self.settings["model"],
            "algorithm": self.settings["algorithm"],
            "verifier": self.settings["verifier"],
            "seed": self.settings["seed"],
            "score": None,
            "first_score": None,
            "nfe": {"budget": self.ledger.nfe_budget, "spent": self.ledger.nfe},
            "ledger": self.ledger.to_json(),
            "stop_reason": self.stop_reason,
            **({} if self.prediction is None else {"prediction": self.prediction}),
            "best": None,
            "first": None,
            "judges": {},
            **found,
            "candidates": [c.to_json(beginnings) for c in self.candidates],
            "settings": self.settings,
        }

    def _winner_to_json(self) -> dict[str, Any]:
        return {
            "score": number(self.score),
            "first_score": None if self.first_score is None else number(self.first_score),
            "best": {**self.best.to_json(), "image": None},
            "first": self.first.to_json(),
            "judges": {k: {w: number(v) for w, v in s.items()} for k, s in self.judges.items()},
        }

    def __repr__(self) -> str:
        if self.failed:
            return f"{type(self).__name__}({self.prompt!r}: no winner, {self.stop_reason})"
        seed = f", seed {self.best.seed}" if self.best.seed is not None else ""
        return (
            f"{type(self).__name__}({self.prompt!r}: score {self.first.score:.4f} -> {self.score:.4f}{seed}, "
            f"{counted(len(self.candidates), 'candidate')}, {self.ledger.nfe} NFE, {self.stop_reason})"
        )
