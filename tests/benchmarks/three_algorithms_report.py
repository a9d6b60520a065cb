"""The table and the plot of `three_algorithms.py`: means over 120 prompts and two repeats, 95 % bootstrap intervals."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from noise_search.shapes.train.gates import bootstrap

MODELS = ("shapes-flow", "shapes-ddim")
ALGORITHMS = {"random": ("o", "-"), "zero-order": ("s", "--"), "paths": ("^", ":")}
COLOURS = {"random": "#202124", "zero-order": "#c5221f", "paths": "#1a73e8"}
VERIFIERS = ("clip", "aesthetic", "ensemble")
MEASURES = ("clip", "aesthetic", "oracle")
DIGITS = {"clip": 3, "aesthetic": 2, "oracle": 3}
PANELS = (
    ("clip", "clip"),
    ("aesthetic", "aesthetic"),
    ("clip", "oracle"),
    ("aesthetic", "oracle"),
    ("ensemble", "oracle"),
)

Cell = tuple[float, float, float]
"""A mean with the ends of its interval."""


def _cell(by_prompt: Sequence[float]) -> Cell:
    return (float(np.mean(by_prompt)), *bootstrap(np.asarray(by_prompt)))


def load(out: Path, model: str) -> list[dict[str, Any]]:
    """All records of a model."""
    lines = (out / f"{model}.jsonl").read_text().splitlines()
    return [record for line in lines for record in json.loads(line)["records"]]


def summarise(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Per verifier, budget and algorithm: each measure, its paired difference to random search, NFE; and one sample."""
    values: dict[tuple[Any, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    first: dict[str, dict[str, list[float]]] = {m: defaultdict(list) for m in MEASURES}
    nfe: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for r in records:
        where = (r["verifier"], r["budget"], r["algorithm"])
        nfe[where].append(r["nfe"])
        for measure in MEASURES:
            values[(*where, measure)][r["prompt"]].append(r["values"][measure])
            if r["algorithm"] == "random":
                first[measure][r["prompt"]].append(r["first"][measure])
    found: dict[str, Any] = {"one_sample": {m: _cell(_means(first[m])) for m in MEASURES}, "cells": []}
    for where in nfe:
        verifier, budget, algorithm = where
        cell = {"verifier": verifier, "candidates": budget, "algorithm": algorithm, "nfe": float(np.mean(nfe[where]))}
        for measure in MEASURES:
            own, plain = values[(*where, measure)], values[(verifier, budget, "random", measure)]
            both = [p for p in own if p in plain]
            cell[measure] = _cell(_means(own))
            cell[f"{measure}_minus_random"] = _cell([np.mean(own[p]) - np.mean(plain[p]) for p in both])
        cell["prompts"] = len(own)
        found["cells"].append(cell)
    return found


def _means(by_prompt: dict[str, list[float]]) -> list[float]:
    return [float(np.mean(values)) for values in by_prompt.values()]


def _text(cell: Cell, measure: str) -> str:
    mean, low, high = cell
    return f"{mean:.{DIGITS[measure]}f} ±{(high - low) / 2:.{DIGITS[measure]}f}"


def table(summary: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row per model, budget and verifier; cells are random / zero-order / paths."""
    lines = ["| | candidates | verifier | CLIP | aesthetic | oracle, strict |", "|---|---|---|---|---|---|"]
    for model, found in summary.items():
        base = [_text(found["one_sample"][m], m) for m in MEASURES]
        lines.append(f"| `{model}` | 1 | none | {' | '.join(base)} |")
        for budget in sorted({c["candidates"] for c in found["cells"]}):
            for verifier in VERIFIERS:
                cells = {
                    c["algorithm"]: c for c in found["cells"] if (c["verifier"], c["candidates"]) == (verifier, budget)
                }
                row = [" / ".join(_text(cells[a][m], m) for a in ALGORITHMS if a in cells) for m in MEASURES]
                lines.append(f"| | {budget} | {verifier} | {' | '.join(row)} |")
    return "\n".join(lines)


def plot(summary: dict[str, dict[str, Any]], file: Path) -> None:
    """Own score and oracle accuracy against candidates, per model and verifier."""
    figure, axes = plt.subplots(
        len(summary), len(PANELS), figsize=(3.1 * len(PANELS), 2.8 * len(summary)), layout="constrained", squeeze=False
    )
    for row, (model, found) in zip(axes, summary.items(), strict=True):
        for panel, (verifier, measure) in zip(row, PANELS, strict=True):
            _draw(panel, found, verifier, measure)
            panel.set_title(f"{model}, verifier {verifier}", fontsize=9, loc="left")
        for panel in row[2:]:
            panel.set_ylim(0, 1)
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw(panel: Axes, found: dict[str, Any], verifier: str, measure: str) -> None:
    start = found["one_sample"][measure]
    for which, (algorithm, (marker, line)) in enumerate(ALGORITHMS.items()):
        cells = [c for c in found["cells"] if (c["verifier"], c["algorithm"]) == (verifier, algorithm)]
        points = sorted([(1, start), *((c["candidates"], c[measure]) for c in cells)])
        # A little apart, so that intervals don't hide each other.
        x = [n * 1.04 ** (which - 1) for n, _ in points]
        mean = np.array([cell[0] for _, cell in points])
        ends = np.abs(np.array([cell[1:] for _, cell in points]).T - mean)
        style = {"marker": marker, "linestyle": line, "color": COLOURS[algorithm], "markersize": 4, "capsize": 2}
        panel.errorbar(x, mean, ends, label=algorithm, linewidth=1.2, **style)
    panel.set_xscale("log", base=2)
    panel.set_xticks([1, 4, 16], ["1", "4", "16"])
    panel.set_xlabel("budget in candidates (20 NFE each)", fontsize=8)
    panel.set_ylabel("oracle, strict" if measure == "oracle" else f"own score ({measure})", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def report(out: Path) -> None:
    """Print the table; write table.json and table.png."""
    summary = {m: summarise(load(out, m)) for m in MODELS if (out / f"{m}.jsonl").exists()}
    (out / "table.json").write_text(json.dumps(summary, indent=1) + "\n")
    plot(summary, out / "table.png")
    print(table(summary))
