"""What an algorithm may know of the model and the verifier that it serves, and of what was measured of them before.

All of it is read-only and stands in a result's settings, so that a winner depends on it alone and not on a machine.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

VERSION = 1
"""Of calibrations and priors as they are written; a newer one isn't read."""

_FURTHEST = 8
"""Candidates over the noises of a prompt, up to which budgets that reach a target were checked against what does."""


@dataclass(frozen=True)
class ModelFacts:
    """The model of a search.

    Attributes:
        name: to be shown.
        identity: a hash of everything that changes its images: equal on every machine.
        can_stop: whether states on the way can be had.
        own_steps: whether its steps are those of its own scheduler, so that a state on the way is one of the plain
            pipeline's trajectory; or whether others were asked for.
        can_mix: whether fresh noise can be mixed in on the way, so that trajectories have branches.
        look_price: what an x0 prediction's picture costs, decoded, in guided denoiser evaluations: declared, or from
            FLOPs, and never timed; None where nobody knows.
    """

    name: str = ""
    identity: str = ""
    can_stop: bool = True
    own_steps: bool = True
    can_mix: bool = True
    look_price: float | None = None


@dataclass(frozen=True)
class VerifierFacts:
    """What ranks the candidates of a search.

    Attributes:
        keys: of the verifiers, each with its version.
        absolute: whether values of different pools may be compared.
        pooled: whether it only ranks a pool, so that no reference makes its values absolute.
        finished: whether it needs finished images, and can't look at x0 predictions.
        prompt_agnostic: whether no score depends on the prompt.
        paid: whether an image that is scored costs money, or a person's time.
    """

    keys: tuple[str, ...] = ()
    absolute: bool = True
    pooled: bool = False
    finished: bool = False
    prompt_agnostic: bool = False
    paid: bool = False


@dataclass(frozen=True)
class Calibration:
    """What was measured of a model under one verifier: how early its final scores can be told, and what moves keep.

    Attributes:
        model: its identity, as in `ModelFacts`.
        verifier: its key.
        steps: of a trajectory.
        correlations: by grid point, Spearman's rank correlation, within a prompt and averaged over prompts, of the
            score of the x0 prediction that led there with that of the finished image.
        errors: by grid point, the standard error of that mean.
        slopes: by move ("neighbour 0.95", "branch 6"), how much of a parent's score above its prompt's mean its child
            keeps.
        spread: standard deviation of finished scores within a prompt, averaged over prompts.
        rises: by n, what 2 n random candidates gain over n, in these standard deviations: a Gaussian gains .30 from 16.
        worth: by N whole trajectories, how many random candidates over N find the mean score that halving finds.
        prompts, noises: how many, and how many of each prompt.
        nfe: what it took.
        scores: finished scores of each prompt; () where they weren't kept.
    """

    model: str
    verifier: str
    steps: int
    correlations: Mapping[int, float]
    errors: Mapping[int, float] = field(default_factory=dict)
    slopes: Mapping[str, float] = field(default_factory=dict)
    spread: float = float("nan")
    rises: Mapping[int, float] = field(default_factory=dict)
    worth: Mapping[int, float] = field(default_factory=dict)
    prompts: int = 0
    noises: int = 0
    nfe: int = 0
    scores: tuple[tuple[float, ...], ...] = field(default=(), repr=False)

    @classmethod
    def joint(cls, parts: Sequence["Calibration"]) -> "Calibration | None":
        """Of an ensemble: the mean of its verifiers' correlations at the points that all have, all else alike.

        None where there are no parts, or where they are of different models.
        """
        if not parts or len({(one.model, one.steps) for one in parts}) > 1:
            return None

        def mean(name: str) -> dict[Any, float]:
            columns = [getattr(one, name) for one in parts]
            shared = set.intersection(*(set(one) for one in columns))
            return {key: float(np.mean([one[key] for one in columns])) for key in sorted(shared)}

        return cls(
            parts[0].model,
            "+".join(one.verifier for one in parts),
            parts[0].steps,
            mean("correlations"),
            mean("errors"),
            mean("slopes"),
            rises=mean("rises"),
            worth=mean("worth"),
            prompts=min(one.prompts for one in parts),
            noises=min(one.noises for one in parts),
            nfe=max(one.nfe for one in parts),
        )

    def worth_at(self, candidates: float) -> float | None:
        """What halving is worth at so many whole trajectories, by the nearest below that was measured, else above.

        None where nothing was.
        """
        below = [n for n in self.worth if n <= candidates]
        return self.worth[max(below) if below else min(self.worth)] if self.worth else None

    def candidates_for(self, target: float, chance: float = 0.8) -> float:
        """How many random candidates reach a target with this chance, for a prompt like those that were measured.

        By k of m scores of a prompt that reach it, the chance of one candidate has Jeffreys' beta distribution, so that
        n of them all miss it with B(k + 1/2, m - k + 1/2 + n) / B(k + 1/2, m - k + 1/2); the mean over prompts counts.
        Nothing is assumed of how scores are distributed. Infinite where it takes more than 8 times the noises of a
        prompt, which tell nothing of so rare a score; NaN where no scores were kept.
        """
        below, enough = 0, _FURTHEST * max(map(len, self.scores), default=0)
        if not enough:
            return float("nan")
        hits = np.array([sum(one >= target for one in row) for row in self.scores]) + 0.5
        misses = np.array([len(row) for row in self.scores]) + 1 - hits

        def reached(count: int) -> float:
            return float(1 - np.exp(betaln(hits, misses + count) - betaln(hits, misses)).mean())

        if reached(enough) < chance:
            return float("inf")
        while enough - below > 1:
            middle = (below + enough) // 2
            below, enough = (below, middle) if reached(middle) >= chance else (middle, enough)
        return enough

    def trajectories_for(self, candidates: float) -> float:
        """Whole trajectories by which halving finds what so many random candidates do; NaN where that isn't known."""
        if not self.worth or not np.isfinite(candidates):
            return candidates if self.worth else float("nan")
        count = max(1, int(candidates / max(self.worth.values())))
        while count * (self.worth_at(count) or 1) < candidates:
            count += 1
        return count

    @property
    def neighbours_keep(self) -> float | None:
        """How much of a parent's score a neighbour at cosine .95 keeps; None where that wasn't measured."""
        return self.slopes.get("neighbour 0.95")

    def first_above(self, correlation: float) -> int | None:
        """The earliest measured grid point with at least this rank correlation; None where there is none."""
        return next((at for at, found in sorted(self.correlations.items()) if found >= correlation), None)

    def to_json(self, scores: bool = True) -> dict[str, Any]:
        """As plain JSON, with the `scores`, which a search's course doesn't depend on, or without."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if scores or one.name != "scores"}
        plain = {
            k: {str(at): v for at, v in told[k].items()} if isinstance(told[k], Mapping) else told[k] for k in told
        }
        if scores:
            plain["scores"] = [list(row) for row in self.scores]
        return {"version": VERSION, **plain, "spread": None if np.isnan(self.spread) else self.spread}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Calibration":
        """Read what `to_json` wrote.

        Raises:
            ValueError: a newer version, or something that is no calibration.
        """
        if not isinstance(content, Mapping) or not {"model", "verifier", "steps", "correlations"} <= content.keys():
            raise ValueError("no calibration: it needs model, verifier, steps and correlations; see calibrate()")
        if content.get("version", 0) > VERSION:
            raise ValueError(f"a calibration of version {content['version']}, and this release reads up to {VERSION}")
        told = {one.name: content[one.name] for one in fields(cls) if content.get(one.name) is not None}
        for name in ("correlations", "errors", "rises", "worth"):
            told[name] = {int(at): float(value) for at, value in told.get(name, {}).items()}
        told["scores"] = tuple(tuple(map(float, row)) for row in told.get("scores", ()))
        return cls(**told)


@dataclass(frozen=True)
class SeedPrior:
    """What seeds are worth on other prompts, under one model and verifier: the better ones are tried first.

    Attributes:
        model: its identity, as in `ModelFacts`; it covers weights, guidance, size and scheduler.
        verifier: its key.
        steps: of a trajectory.
        values: mean z-score within a prompt, by seed; 0 is what a seed that isn't known is worth.
        prompts: how many prompts it rests on.
        reliability: correlation of the seeds' means over one half of the prompts with those over the other half, by
            Pearson, averaged over 50 random halvings. It isn't corrected for the halves' length (Spearman-Brown), so
            that the whole is a little better than it says. NaN where there are too few prompts or seeds.
        nfe: what it took.
    """

    TRUSTED: ClassVar[float] = 0.4
    """Reliability from which on it is used. Of 16 seeds or more that are all worth the same, 1 prior in 20 at most gets
    there by chance, by simulation of 2 to 24 prompts."""

    model: str
    verifier: str
    steps: int
    values: Mapping[int, float]
    prompts: int
    reliability: float
    nfe: int = 0

    @classmethod
    def learned(
        cls, model: str, verifier: str, steps: int, scores: Mapping[str, Mapping[int, float]], nfe: int = 0
    ) -> "SeedPrior":
        """From finished scores, by prompt and seed; a prompt of fewer than two different scores tells nothing."""
        seeds = sorted({seed for by_seed in scores.values() for seed in by_seed})
        rows = [[by_seed.get(seed, np.nan) for seed in seeds] for by_seed in scores.values()]
        z = _within(np.array(rows, dtype=np.float64).reshape(len(rows), len(seeds)))
        values = {seed: float(mean) for seed, mean in zip(seeds, _means(z), strict=True) if np.isfinite(mean)}
        return cls(model, verifier, steps, values, len(z), _split_half(z), nfe)

    @property
    def trusted(self) -> bool:
        """Whether it tells enough of seeds to be used."""
        return self.reliability >= self.TRUSTED

    def best(self, count: int | None = None) -> list[int]:
        """The seeds of the highest values, best first; None for all that are worth more than an unknown one."""
        ordered = sorted(self.values, key=lambda seed: (-self.values[seed], seed))
        return [seed for seed in ordered if self.values[seed] > 0] if count is None else ordered[:count]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        values = {str(seed): value for seed, value in self.values.items()}
        reliability = None if np.isnan(self.reliability) else self.reliability
        return {"version": VERSION, **told, "values": values, "reliability": reliability}

    def record(self) -> dict[str, Any]:
        """What a result keeps of it, as plain JSON: a hash in place of the values."""
        told = self.to_json()
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
        return {**told, "values": len(self.values), "hash": digest}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SeedPrior":
        """Read what `to_json` wrote.

        Raises:
            ValueError: a newer version, or something that is no prior.
        """
        if not isinstance(content, Mapping) or not {"model", "verifier", "steps", "values"} <= content.keys():
            raise ValueError("no prior: it needs model, verifier, steps and values; see learn_prior()")
        if content.get("version", 0) > VERSION:
            raise ValueError(f"a prior of version {content['version']}, and this release reads up to {VERSION}")
        values = {int(seed): float(value) for seed, value in content["values"].items()}
        if strange := [seed for seed, value in values.items() if not np.isfinite(value)]:
            raise ValueError(f"its value of seed {strange[0]} is {values[strange[0]]}, no finite number")
        known = content.get("reliability")
        return cls(
            str(content["model"]),
            str(content["verifier"]),
            int(content["steps"]),
            values,
            int(content.get("prompts", 0)),
            float("nan") if known is None else float(known),
            int(content.get("nfe", 0)),
        )


_HALVINGS, _LEAST = 50, 3
"""Of the prompts, and seeds that have a correlation."""

Values = NDArray[np.float64]


def _within(scores: Values) -> Values:
    """Scores `[prompt, seed]` as z-scores of their prompt, without prompts that have no spread; NaN stays."""
    rows = []
    for row in np.where(np.isfinite(scores), scores, np.nan):
        known = row[np.isfinite(row)]
        if len(known) > 1 and known.std() > 0:
            rows.append((row - known.mean()) / known.std())
    return np.array(rows).reshape(len(rows), scores.shape[1])


def _means(z: Values) -> Values:
    """By seed, over the prompts that know it; NaN where none does."""
    known = np.isfinite(z)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, z, 0).sum(0) / known.sum(0))


def _split_half(z: Values) -> float:
    rng, half, found = np.random.default_rng(0), len(z) // 2, []
    for _ in range(_HALVINGS if half else 0):
        order = rng.permutation(len(z))
        one, other = _means(z[order[:half]]), _means(z[order[half : 2 * half]])
        both = np.isfinite(one) & np.isfinite(other)
        if both.sum() >= _LEAST and np.ptp(one[both]) > 0 and np.ptp(other[both]) > 0:
            found.append(np.corrcoef(one[both], other[both])[0, 1])
    return float(np.mean(found)) if found else float("nan")
