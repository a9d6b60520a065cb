"""Time of a row by the size of its micro-batch, and what writing on a thread brings, as ratios.

Run with `python tests/benchmarks/micro_batches.py [sizes|measured|writing] [MODEL ...]`. Seconds are this process's CPU
time for sizes and measured, which other processes disturb less, and wall-clock for writing, which is about waiting.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from noise_search import search
from noise_search.disk.writer import Writer
from noise_search.engine.batches import usual
from noise_search.models import load_model
from noise_search.shapes import EMBEDDED_MODELS

PROMPT, SIZES, ROUNDS, STEPS = "a red circle to the left of a blue square", (1, 2, 4, 8, 16, 32, 64), 3, 2


def sizes(name: str) -> None:
    """Milliseconds of CPU time per row and evaluation, and ratios to the size that a search begins with."""
    sampler = load_model(name, first_prompt=PROMPT).sampler
    found: dict[int, list[float]] = {size: [] for size in SIZES}
    with sampler:
        condition, space = sampler.condition(PROMPT), sampler.space()
        for turn in range(ROUNDS + 1):
            for size in SIZES:
                noise = space.fresh(list(range(size)), condition=condition)
                started = time.process_time()
                sampler.run(noise, STEPS)
                if turn:  # the first finds everything cold
                    found[size].append((time.process_time() - started) / size / STEPS)
    first = min(found[usual(space.shape)])
    for size, times in found.items():
        print(f"{name}: {size:3} rows {1000 * min(times):6.2f} ms a row, ratio {min(times) / first:.3f}", flush=True)


def measured(name: str) -> None:
    """A search that measures its micro-batches, and one after it, against one with those that it begins with."""
    asked = {"candidates": 256, "steps": STEPS, "algorithm": "random", "progress": False}
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict("os.environ", {"NOISE_SEARCH_CACHE": cache}):
        search(PROMPT, model=name, **asked | {"candidates": 2})
        times = []
        for size in (16, None, None):
            started = time.process_time()
            found = search(PROMPT, model=name, batch_size=size, **asked)
            times.append(time.process_time() - started)
            said = "of 16" if size else "measured" if len(times) == 2 else "remembered"
            print(
                f"{name}: {said}, {found.settings['batch_size']} in the end: ratio {times[-1] / times[0]:.3f}",
                flush=True,
            )


class AtOnce(Writer):
    """Writes before its owner goes on."""

    def put(self, work):
        work()


def writing(name: str) -> None:
    """A search with all of its images kept, written on a thread against at once, taking turns."""
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for kind in (Writer, AtOnce):
            with tempfile.TemporaryDirectory() as folder, mock.patch("noise_search.engine.run.Writer", kind):
                asked = {"candidates": 16, "steps": 4, "batch_size": 4, "algorithm": "random", "progress": False}
                started = time.perf_counter()
                search(PROMPT, model=name, run=Path(folder) / "run", keep_images="all", **asked)
                seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    print(f"{name}: on a thread / at once {statistics.median(ratios):.3f} of {[round(one, 3) for one in ratios]}")


if __name__ == "__main__":
    which, *names = sys.argv[1:] or ["sizes"]
    for model in names or sorted(EMBEDDED_MODELS):
        {"sizes": sizes, "measured": measured, "writing": writing}[which](model)
