"""What a search itself costs a candidate, beside model and verifiers, and whether that grows with their number.

`OMP_NUM_THREADS=1 PYTHONPATH=.:tests python tests/benchmarks/bookkeeping.py [500 8000]`: milliseconds of the driver a
candidate at both numbers, and their ratio, which should stay within 1.5, with less than .5 ms at 8,000. What the ledger
counts for model and verifiers isn't in it; the algorithm's own moves are.
"""

import sys
import time
from typing import Any

from noise_search import ZeroOrderSearch
from tiny.search import CountingSampler, brightness, contrast, toy_search


def darkness(images: Any, prompts: Any) -> Any:
    return 1 - images.amax((1, 2, 3))


THREE = [brightness, contrast, darkness]
CASES: dict[str, dict[str, Any]] = {
    "random": {},
    "random, mean-z of three": {"verifier": THREE},
    "random, mean-rank of three": {"verifier": THREE, "ensemble": "mean-rank"},
    "drafts": {"draft_steps": 1},
    "zero-order": {"algorithm": "zero-order"},
    "zero-order, published": {"algorithm": ZeroOrderSearch(literal=True)},
}


def milliseconds(count: int, options: dict[str, Any]) -> float:
    started = time.perf_counter()
    drafts = "draft_steps" in options
    result = toy_search(CountingSampler(2), candidates=count // 2 if drafts else count, batch_size=16, **options)
    took = time.perf_counter() - started - sum(result.ledger.seconds.values())
    return 1e3 * took / len(result.candidates)


if __name__ == "__main__":
    few, many = map(int, sys.argv[1:] or (500, 8000))
    for name, options in CASES.items():
        milliseconds(64, options)
        small, large = milliseconds(few, options), milliseconds(many, options)
        print(f"{name:28} {small:6.2f} ms at {few}, {large:6.2f} ms at {many}, growth {large / small:.2f}", flush=True)
