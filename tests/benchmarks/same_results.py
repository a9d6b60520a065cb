"""Whether two versions of the code give the same results, bit for bit, on the embedded models.

    python tests/benchmarks/same_results.py run before.json     # with one version
    python tests/benchmarks/same_results.py run after.json      # with the other; same machine and OMP_NUM_THREADS
    python tests/benchmarks/same_results.py compare before.json after.json

`run` searches by every algorithm on every embedded model, by one verifier, by an ensemble and with drafts, makes a
comparison in a directory, and writes down all that comes of it: pixels as hashes, floats as hex, everything but what a
clock says. `compare` prints every difference by its place and ends with 1 if there is one. It uses nothing but the
public calls, so that it runs with versions whose modules lie elsewhere.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from noise_search import Candidate, SearchResult, compare, search

TIMINGS = frozenset({"seconds"})
"""Fields that a clock fills: of a ledger, and of the records and pools of a comparison. Nothing else is left out."""

MODELS = ("shapes-flow", "shapes-ddim")
ALGORITHMS = ("random", "zero-order", "paths")
PROMPTS = ("a red circle to the left of a blue square", "two yellow stars")
VARIANTS: dict[str, dict[str, Any]] = {
    "clip": {"verifier": "clip"},
    "ensemble": {"verifier": ["clip", "aesthetic"]},
    "drafts": {"verifier": "clip", "draft_steps": 3, "draft_renders": 1},
}
SEARCH: dict[str, Any] = {
    "candidates": 6,
    "steps": 6,
    "seed": 3,
    "judges": ["oracle"],
    "top_k": 3,
    "batch_size": 4,
    "deterministic": True,
    "progress": False,
}
COMPARISON: dict[str, Any] = {
    "algorithms": list(ALGORITHMS),
    "candidates": (2, 4),
    "steps": 4,
    "judges": ["oracle"],
    "seeds": 2,
    "batch_size": 4,
    "progress": False,
}


def run(file: Path) -> None:
    """Search, compare, and write down what came of it."""
    found: dict[str, Any] = {"searches": {}, "comparison": _comparison()}
    for model in MODELS:
        for algorithm in ALGORITHMS:
            for variant, options in VARIANTS.items():
                name = f"{model} {algorithm} {variant}"
                found["searches"][name] = _searched(model, algorithm, options)
                print(name, flush=True)
    file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _searched(model: str, algorithm: str, options: dict[str, Any]) -> dict[str, Any]:
    """One search, or the words in which it is refused."""
    seen: list[list[Any]] = []
    try:
        result = search(
            PROMPTS[0],
            model=model,
            algorithm=algorithm,
            on_candidate=lambda one: seen.append([one.id, _hash(one.pixels)]),
            **SEARCH,
            **options,
        )
    except ValueError as refused:
        return {"refused": str(refused)}
    return {"seen": seen, **_result(result)}


def _result(result: SearchResult) -> dict[str, Any]:
    """All that a result says."""
    return {
        "json": _exact(result.to_json()),
        "candidates": [_candidate(one) for one in result.candidates],
        "winner": {"id": result.best.id, "recipe": result.recipe.to_json(), "pixels": _hash(result.best.pixels)},
        "first": result.first.id,
        "bests": [one.id for one in result.bests],
        "bests_nfe": list(result.bests_nfe),
        "curves": _exact(result.curves()),
        "schedule": result.schedule,
        "stop_reason": result.stop_reason,
        "words": repr(result),
    }


def _candidate(one: Candidate) -> dict[str, Any]:
    """What a search keeps of a candidate."""
    return {**_exact(one.to_json()), "pixels": _hash(one.pixels)}


def _comparison() -> dict[str, Any]:
    """A comparison by its directory's files, and by what it says of itself."""
    with tempfile.TemporaryDirectory() as place:
        found = compare(list(PROMPTS), out=place, **COMPARISON)
        files = {str(file.relative_to(place)): _content(file) for file in Path(place).rglob("*") if file.is_file()}
        return {"files": files, "rows": _exact(found.rows()), "complete": found.complete}


def _content(file: Path) -> Any:
    """A picture by its pixels and texts, JSON by its values, other files by their bytes."""
    if file.suffix == ".png":
        with Image.open(file) as picture:
            return {"pixels": _hash(np.asarray(picture)), "texts": {name: str(v) for name, v in picture.info.items()}}
    if file.suffix == ".json":
        return _exact(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".jsonl":
        return [_exact(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _exact(value: Any) -> Any:
    """Plain JSON without timings, with floats as hex."""
    if isinstance(value, dict):
        return {str(name): _exact(one) for name, one in value.items() if name not in TIMINGS}
    if isinstance(value, list | tuple):
        return [_exact(one) for one in value]
    return float(value).hex() if isinstance(value, float) else value


def _hash(pixels: np.ndarray | None) -> str | None:
    """Of the shape and the bytes; None where there are none."""
    if pixels is None:
        return None
    return f"{pixels.shape} {pixels.dtype} {hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()}"


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Every difference of two values of JSON, by its place."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from differences(before.get(name, _MISSING), after.get(name, _MISSING), f"{place}/{name}")
    elif isinstance(before, list) and isinstance(after, list):
        for at in range(max(len(before), len(after))):
            pair = [one[at] if at < len(one) else _MISSING for one in (before, after)]
            yield from differences(*pair, f"{place}/{at}")
    elif before != after or type(before) is not type(after):
        yield f"{place}: {_shown(before)} before, {_shown(after)} after"


_MISSING = "(missing)"


def _shown(value: Any) -> str:
    """A value, short enough for a line; a float in hex also as people read it."""
    if isinstance(value, str) and value.lstrip("-").startswith("0x"):
        return f"{value} = {float.fromhex(value)}"
    return str(value) if len(str(value)) <= 200 else f"{str(value)[:200]}..."


def values(content: Any) -> int:
    """How many values JSON holds."""
    if isinstance(content, dict | list):
        return sum(values(one) for one in (content.values() if isinstance(content, dict) else content))
    return 1


def compared(before: Path, after: Path) -> int:
    """Print what differs between two runs; returns how the script ends."""
    first, second = (json.loads(file.read_text(encoding="utf-8")) for file in (before, after))
    found = list(differences(first, second))
    for line in found:
        print(line)
    if found:
        print(f"{len(found)} differences")
        return 1
    refused = sum("refused" in one for one in first["searches"].values())
    print(
        f"equal: {len(first['searches']) - refused} searches, {refused} refused in the same words, a comparison of "
        f"{len(first['comparison']['files'])} files; {values(first)} values"
    )
    return 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("out", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    asked = parser.parse_args()
    if asked.command == "compare":
        return compared(asked.before, asked.after)
    run(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
