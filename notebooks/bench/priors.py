"""What a prior over seeds is worth on prompts that it hasn't seen: `python -m notebooks.bench.priors`.

`results/common.safetensors` has the same 64 noises of 36 evaluation prompts of "shapes", six of each family, scored by
all verifiers on the way and in the end (`noise_search.shapes.train.ladders`, task "common"), of the models that were
run. A prior is learned on the 30 prompts of five families and tried on the sixth's, in turn. The algorithm, the driver
and the order of noises are the real ones; a table answers in place of the model (`noise_search.engine.recorded`). Each
prompt is searched in several random orders of its noises, of which the first is noise 0. Seeds that the prior finds
worse than the mean stand in for those that it doesn't know, so that what many noises are worth is if anything too low.

All prompts share their noises, so that another sample of either would give another worth. The error of a mean is that
over prompts, as if noises were given, and beside it, squares added, that over noises: a jackknife that leaves an eighth
of them out in turn, and learns and searches anew. Both contain what noises do to single prompts, so that the sum is
careful: in simulations of 36 prompts and 64 noises intervals hold the truth in 99 % and more of the cases, and those
over prompts alone in 83 to 90 %. The curve of random search is the exact expected best of n of the same noises.

It writes `results/priors.csv`. `kind` is "plain" for halving without a prior, "prior" where it is trusted, "forced"
where it isn't and is used all the same, and "few" where it is learned from fewer prompts and used if it is trusted.
`gain` is what the same algorithm scores more than without the prior, in the same orders.
"""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.special import stdtrit

from noise_search.algorithms import Halving, RandomSearch
from noise_search.algorithms.base import SearchAlgorithm, Terms
from noise_search.algorithms.knowledge import SeedPrior
from noise_search.engine.recorded import Found, Ladder, bare_space, search_recorded
from noise_search.models import LoadedModel, load_model
from noise_search.order_statistics import crossing, expected_best
from noise_search.prompt_sets import load
from noise_search.resolve import resolve_aggregator, resolve_calibration, verifier_facts
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS
from verifiers.aggregators.base import Aggregator

RESULTS = Path(__file__).parent / "results"
COMMON, FILE = RESULTS / "common.safetensors", RESULTS / "priors.csv"
STEPS, ORDERS, GROUPS, DRAWS = 20, 2, 8, 4
COUNTS, FEW, AT = (2, 4, 8, 12, 16), (6, 12, 24, 30), 8
VERIFIERS = ("aesthetic", "clip", "vlm")
COLUMNS = (
    *("model", "verifier", "kind", "algorithm", "learned", "candidates", "worth", "low", "high", "bounds", "repaid"),
    *("score", "random", "gain", "gain_low", "gain_high", "nfe", "reliability", "trusted"),
    *("oracle", "oracle_random", "oracle_difference", "oracle_low", "oracle_high"),
)
Values = NDArray[np.float64]
Priors = Mapping[str, SeedPrior]
"""By the family that they are tried on."""

log = logging.getLogger("notebooks.bench.priors")


@dataclass(frozen=True)
class Task:
    """One model under one verifier: what the noises that all prompts share score.

    Attributes:
        model: its name.
        verifier: its name.
        families: of each prompt.
        points: grid points, the end last.
        scores: `[prompt, noise, point]`.
        right: `[prompt, noise]`, the oracle's verdict on the finished images, NaN where there is none.
    """

    model: str
    verifier: str
    families: tuple[str, ...]
    points: tuple[int, ...]
    scores: Values
    right: Values = field(repr=False)

    @classmethod
    def load(cls, model: str, verifier: str) -> "Task":
        """Read it from the recorded scores."""
        with safe_open(COMMON, "np") as file:
            about = json.loads(file.metadata()["about"])
            scores = file.get_tensor(f"{model}/common/{verifier}").astype(float)
            verdicts = file.get_tensor(f"{model}/common/oracle").astype(float)
        known = load("shapes", split="evaluation")
        families = dict(zip(known.texts, known.families, strict=True))
        of_prompts = tuple(families[one] for one in about["prompts"]["common"])
        points = (*about["looks"], STEPS)
        return cls(model, verifier, of_prompts, points, scores, np.where(verdicts < 0, np.nan, verdicts))

    @cached_property
    def known(self) -> LoadedModel:
        """The model, whose calibration says where halving looks."""
        return load_model(self.model, ModelSettings())

    @cached_property
    def aggregator(self) -> Aggregator:
        """Of the verifier alone."""
        return resolve_aggregator(self.verifier, self.known)

    @cached_property
    def terms(self) -> Terms:
        """Of a search, but for its budget and prior."""
        calibration = resolve_calibration(None, self.known.facts, STEPS, self.aggregator)
        facts = self.known.facts, verifier_facts(self.aggregator), calibration
        return Terms(bare_space(STEPS), STEPS, True, *facts)

    @property
    def final(self) -> Values:
        """`[prompt, noise]`, of finished images."""
        return self.scores[:, :, -1]

    def priors(self, noises: Sequence[int], prompts: int | None = None, draw: int = 0) -> Priors:
        """Of each family, what these noises are worth on so many prompts of the others; None for all."""
        found = {}
        for family in dict.fromkeys(self.families):
            others = [at for at, other in enumerate(self.families) if other != family]
            chosen = np.random.default_rng([draw, 7]).permutation(others)[:prompts]
            table = {str(at): {one: float(self.final[at, one]) for one in noises} for at in chosen}
            nfe = len(chosen) * len(noises) * STEPS
            found[family] = SeedPrior.learned(self.known.facts.identity, self.verifier, STEPS, table, nfe)
        return found

    def search(
        self, algorithm: SearchAlgorithm, count: int, priors: Priors, noises: Sequence[int], order: int
    ) -> list[Found]:
        """Of each prompt what is found among these noises, in a random order behind those of its prior."""
        (key,) = (one.key for one in self.aggregator.verifiers)
        found = []
        for at, family in enumerate(self.families):
            shuffled = np.random.default_rng([at, order]).permutation(self.final.shape[1]).tolist()
            ordered = [one for one in shuffled if one in set(noises)]
            terms = replace(self.terms, nfe_total=count * STEPS)
            if (prior := priors.get(family)) is not None:  # a noise's seed is its place
                better = {ordered.index(one): prior.values[one] for one in prior.best()}
                terms = replace(terms, prior=replace(prior, values=better))
            ladder = Ladder(self.points, {key: self.scores[at]})
            done = search_recorded(algorithm, ladder, terms, self.aggregator, ordered)
            assert done is not None, f"{algorithm} with {count} candidates needs more than {len(ordered)} noises"
            found.append(done)
        return found

    def shortfall(self, winners: Values, noises: Sequence[int]) -> Values:
        """`[prompt, n]`: the expected best of n of the noises, less what the winners `[prompt, order]` score."""
        sizes = np.arange(1.0, len(noises) + 1)
        curve = np.array([expected_best(row[list(noises)], sizes) for row in self.final])
        return np.asarray(curve - _taken(self.final, winners).mean(1, keepdims=True))

    def wronged(self, winners: Values, noises: Sequence[int], count: int) -> Values:
        """`[prompt]`: how often the winners are right, less how often the best of so many random noises is."""
        size, some = np.array([float(count)]), list(noises)
        rows = zip(self.final[:, some], self.right[:, some], strict=True)
        random = np.array([expected_best(own, size, right)[0] for own, right in rows])
        return np.asarray(_mean(_taken(self.right, winners), 1) - random)


def _taken(values: Values, winners: Values) -> Values:
    return np.take_along_axis(values, winners.astype(int), axis=1)


def _winners(found: Sequence[Sequence[Found]]) -> Values:
    """`[prompt, order]`."""
    return np.array([[one.winner for one in some] for some in found], dtype=np.float64).T


def _mean(values: Values, axis: int) -> Values:
    """Of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis) / known.sum(axis))


def half_width(rows: Values, groups: Values) -> Values:
    """Of the 95 % interval of a mean over prompts that share their noises, by both errors (see above).

    Args:
        rows: `[prompt, ...]`, whose mean it is.
        groups: `[group, ...]`, the mean without each group of noises.
    """
    prompts, left_out = len(rows), len(groups)
    over_prompts = rows.var(0, ddof=1) / prompts
    over_noises = (left_out - 1) / left_out * np.square(groups - groups.mean(0)).sum(0)
    error = over_prompts + over_noises
    parts = over_prompts**2 / (prompts - 1) + over_noises**2 / (left_out - 1)
    freedom = np.divide(error**2, parts, out=np.full_like(error, left_out - 1), where=parts > 0)
    return np.asarray(stdtrit(freedom, 0.975) * np.sqrt(error))


def worth(count: int, short: Values, groups: Values) -> dict[str, object]:
    """How many random candidates over `count` find as much, with the interval and which ends are but bounds.

    Args:
        count: candidates.
        short: `[prompt, n]`, as `Task.shortfall`.
        groups: `[group, n]`, its means without groups of noises, of which there are fewer n.
    """
    half = half_width(short[:, : groups.shape[1]], groups)
    half = np.concatenate([half, np.full(short.shape[1] - len(half), half[-1])])
    mean = short.mean(0)
    position, side = crossing(np.stack([mean, mean + half, mean - half]), np.zeros(3))
    values = np.exp(np.interp(position, np.arange(len(mean)), np.log(np.arange(1, len(mean) + 1)))) / count
    names = ("worth", "low", "high")
    bounds = " ".join(f"{name}{'>' if at > 0 else '<'}" for name, at in zip(names, side, strict=True) if at)
    return {"candidates": count, **dict(zip(names, values.round(4).tolist(), strict=True)), "bounds": bounds}


def row(task: Task, kind: str, algorithm: SearchAlgorithm, count: int) -> dict[str, object]:
    """What an algorithm is worth with so many candidates, and what that does to the truth."""
    every = list(range(task.final.shape[1]))
    priors = {} if kind == "plain" else task.priors(every)
    found = [task.search(algorithm, count, priors, every, order) for order in range(ORDERS)]
    winners, without = _winners(found), _winners([task.search(algorithm, count, {}, every, o) for o in range(ORDERS)])
    short, wronged = task.shortfall(winners, every), task.wronged(winners, every, count)
    gain = (_taken(task.final, winners) - _taken(task.final, without)).mean(1)
    groups, wrong_groups, gain_groups = [], [], []
    for group in np.random.default_rng(0).permutation(every).reshape(GROUPS, -1):
        rest = [one for one in every if one not in group]
        known = {} if kind == "plain" else task.priors(rest)
        again, bare = (_winners([task.search(algorithm, count, some, rest, 0)]) for some in (known, {}))
        groups.append(task.shortfall(again, rest).mean(0))
        wrong_groups.append(np.nanmean(task.wronged(again, rest, count)))
        gain_groups.append((_taken(task.final, again) - _taken(task.final, bare)).mean())
    told = worth(count, short, np.array(groups))
    known = np.isfinite(wronged)
    half = float(half_width(wronged[known], np.array(wrong_groups)))
    by = float(wronged[known].mean())
    right = float(np.nanmean(_mean(_taken(task.right, winners), 1)[known]))
    score = float(_taken(task.final, winners).mean())
    gained = float(half_width(gain, np.array(gain_groups)))
    gains = {"gain": gain.mean(), "gain_low": gain.mean() - gained, "gain_high": gain.mean() + gained}
    beside = {
        **({} if kind == "plain" else {name: float(value) for name, value in gains.items()}),
        "score": score,
        "random": score + float(short[:, count - 1].mean()),
        "nfe": float(np.mean([one.nfe for some in found for one in some])),
        "oracle": right,
        "oracle_random": right - by,
        "oracle_difference": by,
        "oracle_low": by - half,
        "oracle_high": by + half,
    }
    named = {"model": task.model, "verifier": task.verifier, "kind": kind, "algorithm": algorithm.name}
    return {**named, **told, **{name: round(value, 4) for name, value in beside.items()}, **_of(priors, told)}


def _of(priors: Priors, told: Mapping[str, Any]) -> dict[str, object]:
    """How reliable the priors are, and the searches after which what they cost is saved against random search."""
    if not priors:
        return {}
    saved = (float(told["worth"]) - 1) * int(told["candidates"]) * STEPS
    cost = float(np.mean([one.nfe for one in priors.values()]))
    return {
        "learned": round(float(np.mean([one.prompts for one in priors.values()]))),
        "reliability": round(float(np.mean([one.reliability for one in priors.values()])), 4),
        "trusted": round(float(np.mean([one.trusted for one in priors.values()])), 4),
        "repaid": round(cost / saved, 1) if saved > 0 else "",
    }


def few(task: Task, prompts: int, algorithm: SearchAlgorithm) -> dict[str, object]:
    """What is left of the worth where a prior is learned from so many prompts, over several draws of them."""
    every = list(range(task.final.shape[1]))
    found, told = [], []
    for draw in range(DRAWS if prompts < len(task.families) - task.families.count(task.families[0]) else 1):
        priors = task.priors(every, prompts, draw)
        used = {family: one for family, one in priors.items() if one.trusted}
        found.append([one.winner for one in task.search(algorithm, AT, used, every, draw)])
        told.append(_of(priors, {"worth": 1, "candidates": AT}))
    short = task.shortfall(np.array(found).T, every)
    point = worth(AT, short, np.tile(short.mean(0), (GROUPS, 1)))
    shares = {name: round(float(np.mean([one[name] for one in told])), 4) for name in ("reliability", "trusted")}
    named = {"model": task.model, "verifier": task.verifier, "kind": "few", "algorithm": algorithm.name}
    return {**named, "learned": prompts, "candidates": AT, "worth": point["worth"], **shares}


def measured(model: str, verifier: str) -> Iterator[dict[str, object]]:
    """All rows of a model under a verifier; of one without a trusted prior at 8 candidates alone."""
    task = Task.load(model, verifier)
    trusted = all(one.trusted for one in task.priors(range(task.final.shape[1])).values())
    kind, counts = ("prior", COUNTS) if trusted else ("forced", (AT,))
    for count in counts:
        yield row(task, kind, RandomSearch(), count)
        yield row(task, kind, Halving(), count)
        yield row(task, "plain", Halving(), count)
    for prompts in FEW if trusted else ():
        yield few(task, prompts, RandomSearch())
        yield few(task, prompts, Halving())


def packed() -> list[str]:
    """The models whose scores are there."""
    with safe_open(COMMON, "np") as file:
        names = set(file.keys())
    return [model for model in EMBEDDED_MODELS if f"{model}/common/oracle" in names]


def main() -> None:
    """Write the file."""
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    found = []
    for model in packed():
        for verifier in VERIFIERS:
            for one in measured(model, verifier):
                log.info("%s", one)
                found.append(one)
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
