"""Whether chosen sets are better than random ones: `PYTHONPATH=. python tests/benchmarks/sets.py --prompts 8`.

The candidates of a random search are the reference: qualities and distances of sets are in its standard deviations, so
that random sets of it have 0 of both in the mean. Beside it two halvings of as many NFE, and the schedule of Group
Inference, 128 noises to 4 by looks at the first five of 20 steps, with a random search of as many. Differences are
those of thumbnails and of the verifier's tower that scores don't explain.
"""

import argparse
from collections import defaultdict
from itertools import combinations
from typing import Any

import numpy as np

import noise_search
from noise_search import Halving, RandomSearch, prompt_sets
from noise_search.choosing.pairs import as_batch
from noise_search.choosing.sets import cosine_distances, pick_set, unexplained
from noise_search.models import load_model
from noise_search.results.choosing import features_of, kept_images
from noise_search.shapes import EMBEDDED_MODELS

EARLY = 308 / 640
ARMS = {
    "random": (RandomSearch(), 1.0),
    "halving": (Halving(finish=4), 1.0),
    "halving to a set": (Halving(finish=4, diversity=1.5), 1.0),
    "early halving to a set": (Halving((0.05, 0.1, 0.15, 0.2, 0.25), finish=4, diversity=1.5), EARLY),
    "fewer random": (RandomSearch(), EARLY),
}
"""Algorithms, and their share of the budget."""


def measured(found: dict[str, Any], features: str, diversities: list[float]) -> dict[str, tuple[float, float]]:
    """Quality and mean pairwise distance of each way to pick 4, in standard deviations of the random candidates."""
    kept = {arm: kept_images(result) for arm, result in found.items()}
    every = [one for some in kept.values() for one in some]
    shown = features_of(found["random"], features, as_batch([one.image for one in every]))
    place = {id(one): at for at, one in enumerate(every)}
    pool = list(range(len(kept["random"])))
    quality = np.array([one.score for one in every])
    distance = cosine_distances(unexplained(shown, quality))
    pairs = distance[np.ix_(pool, pool)][np.triu_indices(len(pool), 1)]

    def told(rows: list[int]) -> tuple[float, float]:
        apart = np.mean([distance[pair] for pair in combinations(rows, 2)])
        return (quality[rows].mean() - quality[pool].mean()) / quality[pool].std(), (apart - pairs.mean()) / pairs.std()

    within = distance[np.ix_(pool, pool)]
    sets = {f"random, diverse(4, {one:g})": pick_set(quality[pool], within, 4, one) for one in diversities}
    for arm in [*ARMS][1:]:
        sets[f"{arm}, top(4)"] = [place[id(one)] for one in kept[arm][:4]]
        picked = found[arm].diverse(4, diversity=1.5, features=features)
        sets[f"{arm}, diverse(4, 1.5)"] = [place[id(one)] for one in picked]
    return {name: told(rows) for name, rows in sets.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=list(EMBEDDED_MODELS))
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--verifier", default="clip")
    parser.add_argument("--diversities", nargs="*", type=float, default=[0.0, 0.5, 1.5, 3.0])
    asked = parser.parse_args()
    prompts = [one.text for one in prompt_sets.load("shapes-hard", split="validation")]
    prompts = prompts[:: max(1, len(prompts) // asked.prompts)][: asked.prompts]
    for model in asked.models:
        rows: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        pipe = load_model(model).sampler
        for prompt in prompts:
            budget = asked.candidates * pipe.space().end
            common = {"model": model, "verifier": asked.verifier, "top_k": 64, "progress": False}
            found = {
                arm: noise_search.search(prompt, algorithm=one, nfe=round(budget * share), **common)
                for arm, (one, share) in ARMS.items()
            }
            for features in (asked.verifier, "thumbnails"):
                for name, values in measured(found, features, asked.diversities).items():
                    rows[features, name].append(values)
            print(f"{model}: {prompt}", flush=True)
        for (features, name), values in rows.items():
            table = np.array(values)
            error = table.std(0, ddof=1) / np.sqrt(len(table))
            quality, apart = (f"{m:+.2f} +- {e:.2f}" for m, e in zip(table.mean(0), error, strict=True))
            print(f"{model} | {features} | {name} | quality {quality} | distance {apart}", flush=True)


if __name__ == "__main__":
    main()
