"""Draw the README's first picture: a typical search, the one with the median gain of 24 evaluation prompts.

    python notebooks/images/overview.py

Four prompts of each family are searched by the README's call. A gain is the best score less the first one; of the two
gains in the middle the lower one's search is drawn. Nothing else chooses.
"""

from pathlib import Path
from typing import Any

import noise_search
from noise_search import prompt_sets

CALL: dict[str, Any] = {
    "model": "shapes-flow",
    "algorithm": "random",
    "verifier": "clip",
    "nfe": 640,
    "seed": 0,
    "judges": ["oracle"],
}


def main() -> None:
    """Print every gain in order, and draw the median's search."""
    prompts = [prompt.text for prompt in prompt_sets.load("shapes", per_family=4)]
    results = noise_search.search(prompts, **CALL)
    ranked = sorted(results, key=lambda result: result.score - result.first_score)
    typical = ranked[(len(ranked) - 1) // 2]
    for result in ranked:
        gain = f"{result.score - result.first_score:.4f}, winner at {result.best.nfe} NFE: {result.prompt}"
        print(gain + " (drawn)" * (result is typical))
    typical.plot().savefig(Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
