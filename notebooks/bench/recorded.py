"""What halving and auto are worth, replayed from recorded scores: `python -m notebooks.bench.recorded`.

`results/ladders.safetensors` has, for both models, 40 noises of each of 36 evaluation prompts of "shapes" and of the 60
of "shapes-hard", scored by all verifiers on the way and in the end (`noise_search.shapes.train.ladders`). The algorithm
and the driver are the real ones; a table answers in place of the model (`noise_search.engine.recorded`). Each prompt is
searched in several random orders of its noises, whose mean counts, and intervals are Student's t over prompts. Where
`auto` chooses random search, its worth is 1 by definition. It writes `results/recorded.csv`.
"""

import csv
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from scipy.special import stdtrit

from noise_search.algorithms import Auto, Halving
from noise_search.algorithms.base import Terms
from noise_search.comparison.records import Pool, Record
from noise_search.comparison.standard_pools import StandardPools
from noise_search.comparison.statistics.multiplier import Multiplier, multipliers
from noise_search.engine.recorded import Found, Ladder, bare_space, search_recorded
from noise_search.models import load_model
from noise_search.order_statistics import expected_best
from noise_search.resolve import resolve_aggregator, resolve_calibration, verifier_facts
from noise_search.settings import ModelSettings
from noise_search.shapes import EMBEDDED_MODELS

RESULTS = Path(__file__).parent / "results"
LADDERS, FILE = RESULTS / "ladders.safetensors", RESULTS / "recorded.csv"
STEPS, ORDERS = 20, 4
COUNTS = (2, 3, 4, 6, 8, 12, 16)
VERIFIERS = (("clip",), ("aesthetic",), ("vlm",), ("clip", "aesthetic"))
COLUMNS = (
    *("model", "task", "verifier", "algorithm", "chosen", "candidates", "worth", "low", "high", "saturated"),
    *("score", "random", "nfe", "looks", "look", "cost"),
    *("oracle", "oracle_random", "oracle_difference", "oracle_low", "oracle_high"),
)


@dataclass(frozen=True)
class Task:
    """One model's prompts: what their noises score on the way and in the end.

    Attributes:
        prompts: texts.
        way: `[prompt, noise, look]` by verifier.
        final: `[prompt, candidate]` by verifier; of the hard prompts all 256 random candidates.
        right: `[prompt, candidate]`, the oracle's verdict on the finished images.
        looks: grid points.
    """

    prompts: tuple[str, ...]
    way: Mapping[str, np.ndarray]
    final: Mapping[str, np.ndarray]
    right: np.ndarray
    looks: tuple[int, ...]

    @classmethod
    def load(cls, model: str, task: str) -> "Task":
        """Read it from the ladders, and for hard prompts from the shipped candidates."""
        with safe_open(LADDERS, "np") as file:
            about = json.loads(file.metadata()["about"])
            looks, prompts = tuple(about["looks"]), tuple(about["prompts"][task])
            read = {name: file.get_tensor(f"{model}/{task}/{name}").astype(float) for name in about["keys"]}
            way = {name: values[:, :, : len(looks)] for name, values in read.items()}
            if task == "shapes":
                final = {name: values[:, :, -1] for name, values in read.items()}
                verdicts = file.get_tensor(f"{model}/{task}/oracle").astype(float)
                return cls(prompts, way, final, np.where(verdicts < 0, np.nan, verdicts), looks)
        pools = StandardPools.load(model, "evaluation")
        rows = [pools.prompts.index(one) for one in prompts]
        return cls(prompts, way, {name: pools.scores[name][rows] for name in way}, pools.scores["oracle"][rows], looks)

    def ladder(self, prompt: int, keys: Mapping[str, str]) -> Ladder:
        """One prompt's noises, under these verifiers' keys."""
        count = next(iter(self.way.values())).shape[1]
        rows = {
            key: np.column_stack([self.way[name][prompt], self.final[name][prompt, :count]])
            for name, key in keys.items()
        }
        return Ladder((*self.looks, STEPS), rows)


def measured(model: str, task: str, names: tuple[str, ...]) -> Iterator[dict[str, object]]:
    """A row for each budget that the noises suffice for, of halving and of auto."""
    loaded = load_model(model, ModelSettings())
    aggregator = resolve_aggregator(list(names), loaded)
    keys = {one.name: one.key for one in aggregator.verifiers}
    look = loaded.priced.look_price or 0.0
    known = Task.load(model, task)
    calibration = resolve_calibration(None, loaded.facts, STEPS, aggregator)
    pools = [_pool(known, at, names, order) for at in range(len(known.prompts)) for order in range(ORDERS)]
    where = {"model": model, "task": task, "verifier": "+".join(names)}
    for count in COUNTS:
        facts = loaded.facts, verifier_facts(aggregator), calibration
        terms = Terms(bare_space(STEPS), count * STEPS, True, *facts)
        winners = np.zeros((len(known.prompts), ORDERS), int)
        records, looks = [], []
        for at, order in np.ndindex(winners.shape):
            ladder = known.ladder(at, keys)
            shuffled = np.random.default_rng([at, order]).permutation(len(ladder)).tolist()
            found = search_recorded(Halving(), ladder, terms, aggregator, shuffled)
            if found is None:
                break
            looks.append(found.looks)
            winners[at, order] = found.winner
            records.append(_record(known, at, names, count, order, found))
        if found is None:  # too few noises
            continue
        row = {
            **_worth(count, multipliers(records, pools)[0], records),
            "looks": round(float(np.mean(looks)), 2),
            **_beside(known, names, winners, count),
        }
        row |= {"look": round(look, 3), "cost": _cost(row, count, look)}
        chosen, _ = Auto().choose(terms)
        yield {**where, "algorithm": "halving", "chosen": "halving", **row}
        by_definition = {"worth": 1, "low": 1, "high": 1, "nfe": count * STEPS, "looks": count, "cost": 1}
        same = {"score": row["random"], "oracle": row["oracle_random"]}
        same |= {name: 0 for name in ("oracle_difference", "oracle_low", "oracle_high")}
        auto = row if chosen == Halving() else {**row, **by_definition, **same}
        yield {**where, "algorithm": "auto", "chosen": chosen.name, **auto}


def _pool(known: Task, at: int, names: tuple[str, ...], order: int) -> Pool:
    scores = {name: tuple(known.final[name][at].tolist()) for name in names}
    return Pool(known.prompts[at], "", order, STEPS, 1.0, scores)


def _record(known: Task, at: int, names: tuple[str, ...], count: int, order: int, found: Found) -> Record:
    scores = {name: float(known.final[name][at, found.winner]) for name in names}
    return Record(known.prompts[at], "", "halving", count * STEPS, order, found.nfe, 0, 1.0, scores)


def _worth(count: int, told: Multiplier, records: list[Record]) -> dict[str, object]:
    return {
        "candidates": count,
        **{
            name: round(getattr(told.times, end), 4)
            for name, end in (("worth", "value"), ("low", "low"), ("high", "high"))
        },
        "saturated": int(told.saturated),
        "nfe": round(float(np.mean([one.nfe for one in records])), 2),
    }


def _cost(row: dict[str, Any], count: int, look: float) -> float:
    """What the search takes over what random search takes for an equal score, looks counted at their price in FLOPs."""
    return round((row["nfe"] + row["looks"] * look) / (row["worth"] * count * (STEPS + look)), 4)


def _beside(known: Task, names: tuple[str, ...], winners: np.ndarray, count: int) -> dict[str, object]:
    """Own score and oracle of the winners `[prompt, order]`, and of the best of as many candidates as the NFE buy."""
    size, rows = np.array([float(count)]), range(len(known.prompts))
    own = [_own(known, at, names) for at in rows]
    score = np.array([own[at][winners[at]].mean() for at in rows])
    right = np.array([np.nanmean(known.right[at, winners[at]]) for at in rows])
    random = np.array([expected_best(own[at], size)[0] for at in rows])
    true = np.array([expected_best(own[at], size, known.right[at])[0] for at in rows])
    gain = (right - true)[np.isfinite(right - true)]
    half = float(stdtrit(len(gain) - 1, 0.975) * gain.std(ddof=1) / np.sqrt(len(gain)))
    told = {
        "score": score.mean(),
        "random": random.mean(),
        "oracle": np.nanmean(right),
        "oracle_random": np.nanmean(true),
        "oracle_difference": gain.mean(),
        "oracle_low": gain.mean() - half,
        "oracle_high": gain.mean() + half,
    }
    return {name: round(float(value), 4) for name, value in told.items()}


def _own(known: Task, at: int, names: tuple[str, ...]) -> np.ndarray:
    """Scores of a prompt's candidates, or the mean of their z-scores within its pool."""
    rows = np.array([known.final[name][at] for name in names])
    if len(names) == 1:
        return np.asarray(rows[0])
    return np.asarray(((rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)).mean(0))


def main() -> None:
    """Write the file."""
    logging.basicConfig(level=logging.WARNING)
    found = [
        row
        for task in ("shapes", "shapes-hard")
        for model in EMBEDDED_MODELS
        for names in VERIFIERS
        for row in measured(model, task, names)
    ]
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
