"""Rank correlation of `consistency` with `clip` and the oracle on the embedded pipelines, as in Ma et al. 2501.09732.

Run with `python notebooks/paper/consistency.py [MODEL...]`; writes `results/consistency.json`. 40 prompts (every third
of the evaluation list) times 8 noises, at several noise levels, on the embedded CLIP's features. The correlation
is Spearman's within a prompt, over its 8 noises; prompts where one side is constant say nothing and are left out.
Mean over prompts, with the 95 % bootstrap interval over prompts.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from noise_search import search
from noise_search.shapes import EMBEDDED_MODELS, WEIGHTS
from noise_search.shapes.captions import evaluation_prompts
from noise_search.shapes.oracle import judge
from verifiers import CLIPScore
from verifiers.consistency import Consistency

LEVELS, NOISES = (0.2, 0.4, 0.6, 0.8), 8
OUT = Path(__file__).parent / "results" / "consistency.json"


def scores_of(model):
    """Per prompt, one column of 8 scores for each verifier and both oracle verdicts."""
    prompts = [prompt.text for prompt in evaluation_prompts()[::3]]
    clip = CLIPScore(WEIGHTS / "clip")
    same = [Consistency(level, "clip", model=WEIGHTS / "clip") for level in LEVELS]
    how = {"algorithm": "random", "candidates": NOISES, "top_k": NOISES, "batch_size": 16, "progress": False}
    results = search(prompts, model=model, verifier=[clip, *same], **how)
    table = []
    for prompt, result in zip(prompts, results, strict=True):
        pictures = torch.stack([torch.from_numpy(c.pixels).permute(2, 0, 1).float() / 255 for c in result.candidates])
        verdicts = judge(pictures, [prompt] * len(pictures))
        columns = {"clip": [c.scores[clip.key] for c in result.candidates]}
        columns |= {f"consistency@{v.noise_level:g}": [c.scores[v.key] for c in result.candidates] for v in same}
        columns["strict"] = [float(v.strict) for v in verdicts]
        columns["facts"] = [v.facts for v in verdicts]
        table.append(columns)
    return table


def correlation(table, name, other):
    """Mean Spearman correlation within prompts, its bootstrap interval, and how many prompts it rests on."""
    pairs = [(np.array(c[name], float), np.array(c[other], float)) for c in table]
    found = np.array([spearmanr(a, b).statistic for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0])
    rng = np.random.default_rng(0)
    means = rng.choice(found, (10_000, len(found))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": found.mean(), "low": low, "high": high, "prompts": len(found)}


def best_of(table, name):
    """The oracle's mean verdicts on the best of 8 by a verifier."""
    best = [int(np.argmax(columns[name])) for columns in table]
    return {k: float(np.mean([c[k][i] for c, i in zip(table, best, strict=True)])) for k in ("strict", "facts")}


def main(models):
    rows = []
    for model in models:
        table = scores_of(model)
        plain = {k: float(np.mean([np.mean(c[k]) for c in table])) for k in ("strict", "facts")}
        rows.append({"model": model, "verifier": "none", "with": "oracle, mean of 8", **plain})
        for name in ("clip", *(f"consistency@{level:g}" for level in LEVELS)):
            rows.append({"model": model, "verifier": name, "with": "oracle, best of 8", **best_of(table, name)})
            for other in ("clip", "strict", "facts"):
                if other != name:
                    rows.append({"model": model, "verifier": name, "with": other, **correlation(table, name, other)})
    rows = [{k: round(float(v), 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    OUT.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(EMBEDDED_MODELS))
