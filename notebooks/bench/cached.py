"""How well drafts with a static step cache rank noises: `python -m notebooks.bench.cached SHARDS [--report]`.

A cached draft evaluates the model at a fixed list of a grid's steps, and goes through the others with what it said
last. By DDIM's rule and by Euler's steps for flows that is one long step: a draft on another, coarser grid. "linear"
goes through them with x0 predictions that are extrapolated from the last two. Both are held against drafts of as many
even steps and x0 predictions at the same NFE: Spearman's rank correlation with the full sample's score, within a
prompt, mean over validation prompts. A file per prompt; those that are there are left out.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from noise_search.arguments import first_seed
from noise_search.disk.files import write_atomically
from noise_search.engine.scoring import Scorer
from noise_search.models import load_model
from noise_search.prompt_sets import load
from noise_search.resolve import resolve_verifier
from noise_search.shapes import EMBEDDED_MODELS
from samplers.base import Sampler
from samplers.space import NoiseSpace
from samplers.state import State

NFE = (4, 6, 8, 10)
NOISES, PER_FAMILY = 12, 2


def evaluated(end: int, count: int) -> list[int]:
    """Steps that are evaluated, evenly spread from the first on."""
    return [round(end * at / count) for at in range(count)]


def extrapolated(sampler: Sampler, space: NoiseSpace, noises: State, steps: Sequence[int]) -> State:
    """Draft with these steps evaluated; the others go through what the last two predictions extrapolate to."""
    states, before = noises, None
    for at, until in pairwise([*steps, space.end]):
        known = sampler.run(states, at + 1).final.x0
        assert known is not None
        x = states.x
        for step in range(at, until):
            x0 = known
            if before is not None:
                x0 = known + (known - before[1]) * (step - at) / (at - before[0])
            noise = (x - space.alphas[step] * x0) / space.sigmas[step]
            x = space.alphas[step + 1] * x0 + space.sigmas[step + 1] * noise
        before = at, known
        states = replace(states, x=x, x0=known, step=until)
    return states


def shard(model: str, prompt: str) -> dict[str, dict[str, list[float]]]:
    """Scores by kind of draft and verifier."""
    loaded = load_model(model)
    verifiers = [resolve_verifier(one, loaded) for one in ("clip", "aesthetic")]
    for one in verifiers:
        one.load("cpu")
    scorer, sampler = Scorer(verifiers), loaded.sampler

    def scored(states: State) -> dict[str, list[float]]:
        found, _ = scorer.score(sampler.decode(states), [prompt] * len(states))
        return {one.name: [round(float(v), 6) for v in found[one.key]] for one in verifiers}

    with sampler:
        condition, space = sampler.condition(prompt), sampler.space()
        noises = space.fresh(range(first_seed(prompt), first_seed(prompt) + NOISES), condition)
        run = sampler.run(noises, space.end, keep=NFE)
        found = {"full": scored(run.final)} | {f"x0 {k}": scored(run.kept[k]) for k in NFE}
        for k in NFE:
            draft = sampler.space(steps=k)
            found[f"even {k}"] = scored(sampler.run(draft.adopt(noises), draft.end).final)
            steps = evaluated(space.end, k)
            thinned = sampler.space(points=steps)
            found[f"cached {k}"] = scored(sampler.run(thinned.adopt(noises), thinned.end).final)
            found[f"linear {k}"] = scored(extrapolated(sampler, space, noises, steps))
    return found


def report(directory: Path) -> str:
    """The table."""
    lines = []
    for model in EMBEDDED_MODELS:
        shards = [json.loads(file.read_text()) for file in sorted(directory.glob(f"{model}-*.json"))]
        if not shards:
            continue
        for verifier in ("clip", "aesthetic"):
            lines.append(f"{model}, {verifier}, {len(shards)} prompts: " + ", ".join(f"{k} NFE" for k in NFE))
            for kind in dict.fromkeys(name.rpartition(" ")[0] for name in shards[0] if name != "full"):
                told = []
                for k in NFE:
                    rows = [spearmanr(one[f"{kind} {k}"][verifier], one["full"][verifier])[0] for one in shards]
                    error = np.std(rows, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else np.nan
                    told.append(f"{np.mean(rows):.2f} ({error:.2f})")
                lines.append(f"  {kind:<12} {'  '.join(told)}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.bench.cached", description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--report", action="store_true", help="print the table of what is there")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.shards.mkdir(parents=True, exist_ok=True)
    for prompt in [] if asked.report else load("shapes", split="validation", per_family=PER_FAMILY).texts:
        for model in EMBEDDED_MODELS:
            file = asked.shards / f"{model}-{first_seed(prompt):010d}.json"
            if not file.exists():
                write_atomically(file, json.dumps(shard(model, prompt)).encode())
    print(report(asked.shards))


if __name__ == "__main__":
    main()
