"""Draw the README's picture: a typical search finding, the one with the median gain of 24 evaluation prompts.

    python notebooks/images/overview.py

Four prompts of each family are searched by random search, on which the default improves, as every new best of it is a
finished image. A gain is the best score less the first one; of the two gains in the middle the lower one's search is
drawn. Nothing else chooses.
"""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

import noise_search
from noise_search import Candidate, SearchResult, prompt_sets

CALL: dict[str, Any] = {
    "model": "shapes-flow",
    "algorithm": "random",
    "verifier": "clip",
    "nfe": 640,
    "seed": 0,
    "judges": ["oracle"],
}
_INK, _GREY, _LIGHT, _WRONG, _RIGHT = "#202124", "#80868b", "#dadce0", "#c5221f", "#188038"


def main() -> None:
    """Print every gain in order, and draw the median's search."""
    prompts = [prompt.text for prompt in prompt_sets.load("shapes", per_family=4)]
    results = noise_search.search(prompts, **CALL)
    ranked = sorted(results, key=lambda result: result.score - result.first_score)
    typical = ranked[(len(ranked) - 1) // 2]
    for result in ranked:
        gain = f"{result.score - result.first_score:.4f}, winner at {result.best.nfe} NFE: {result.prompt}"
        print(gain + " (drawn)" * (result is typical))
    draw(typical).savefig(Path(__file__).with_suffix(".png"))


def draw(result: SearchResult) -> Figure:
    """Every new best as its picture, above the score of the best so far and of all candidates over NFE."""
    found = result.bests
    figure = Figure(figsize=(9, 5), dpi=144, facecolor="white")
    grid = figure.add_gridspec(
        2, 1, height_ratios=(1, 1.25), left=0.075, right=0.975, top=0.8, bottom=0.11, hspace=0.42
    )
    curve = figure.add_subplot(grid[1])
    _curve(curve, result)
    for place, candidate in zip(grid[0].subgridspec(1, len(found), wspace=0.25), found, strict=True):
        panel = figure.add_subplot(place)
        _picture(panel, candidate, "one sample" if candidate is result.first else "")
        below, point = (0.5, 0), (candidate.nfe, candidate.score)
        ends = {"coordsA": "axes fraction", "coordsB": "data", "axesA": panel, "axesB": curve}
        figure.add_artist(ConnectionPatch(below, point, **ends, color=_LIGHT, zorder=0))
    figure.text(0.075, 0.945, f"“{result.prompt}”", fontsize=14, color=_INK, weight="bold")
    told = f"{len(result.candidates)} noises tried; each new best image, and whether an oracle calls it right"
    figure.text(0.075, 0.895, told, fontsize=10, color=_GREY)
    return figure


def _picture(panel: Axes, candidate: Candidate, name: str) -> None:
    [right] = candidate.judges.values()
    colour, mark = (_RIGHT, "right") if right == 1 else (_WRONG, "wrong")
    panel.imshow(candidate.pixels, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    for spine in panel.spines.values():
        spine.set(color=colour, linewidth=2)
    panel.set_title(f"{name or f'{candidate.nfe} NFE'}: {mark}", fontsize=9, color=colour)


def _curve(panel: Axes, result: SearchResult) -> None:
    found = result.bests
    panel.patch.set_visible(False)  # or it would hide the lines from the pictures
    line = [*((c.nfe, c.score) for c in found), (result.ledger.nfe, result.score)]
    panel.plot(
        [c.nfe for c in result.candidates], [c.score for c in result.candidates], "o", color=_LIGHT, markersize=5
    )
    panel.plot(*zip(*line, strict=True), drawstyle="steps-post", color=_INK, linewidth=2)
    panel.plot([c.nfe for c in found], [c.score for c in found], "o", color=_INK, markersize=6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(_LIGHT)
    panel.tick_params(color=_LIGHT, labelcolor=_GREY, labelsize=9)
    panel.set_xlim(0, result.ledger.nfe + 10)
    panel.set_xlabel("NFE (denoiser evaluations)", color=_GREY, fontsize=10)
    panel.set_ylabel("CLIP score", color=_GREY, fontsize=10)


if __name__ == "__main__":
    main()
