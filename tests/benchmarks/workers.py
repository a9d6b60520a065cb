"""What several workers are worth, what a driver can feed, and what deaths change.

`PYTHONPATH=.:tests python tests/benchmarks/workers.py [speed] [scale [--plot FILE.svg]] [deaths] [cluster]`

`speed` is a search of the embedded model by two processes of a thread each, against this process with two threads, and
needs two cores that nobody else uses. `scale` runs the real driver on workers in simulated time: micro-batches of one
candidate, whose seconds vary by a fifth from one to the next; it needs no model, and sleeps nowhere. `deaths` kills
random workers of this machine in the middle of their batches. `cluster` starts Ray clusters here, of one node and of
three, and kills actors and whole nodes; it needs the extra `ray`.
"""

import argparse
import itertools
import logging
import math
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from noise_search import Halving, LocalWorkers, RandomSearch, RayWorkers, ZeroOrderSearch, search
from noise_search.engine.workers.fed import FedCrew
from tiny.clusters import clustered, node
from tiny.crews import Instant, Simulated
from tiny.search import CountingSampler, toy_search

PROMPT = "a red circle to the left of a blue square"
STEPS = 8


SIZES = (1, 8, 64, 256, 1000)
PER_WORKER = 4
CASES: dict[str, Callable[[int], Any]] = {
    "random": lambda size: "random",
    "random, one round": lambda size: RandomSearch(round=PER_WORKER * size),
    "halving": lambda size: Halving(),
    "zero-order": lambda size: "zero-order",
    "zero-order, a neighbour a worker": lambda size: ZeroOrderSearch(neighbours=size),
}
NARROW = {"random": 512, "zero-order": 128}
"""Candidates of those whose rounds don't grow with the workers: further ones would tell the same."""
TROUBLE = {
    "calm": {},
    "trouble": {"stragglers": 0.01, "deaths": 0.001, "loading": 30.0 * STEPS},
    "trouble, repeats": {"stragglers": 0.01, "deaths": 0.001, "loading": 30.0 * STEPS, "speculate": 3.0},
}
"""1 micro-batch in 100 takes 10 times as long; at 1 in 1,000 the worker dies, and loads for 30 candidates' time."""


def scale(plot: str | None = None) -> None:
    """Print what the driver takes for a candidate, and the share of the workers' time in which they wait."""
    logging.disable(logging.WARNING)  # of every death
    rows: list[dict[str, Any]] = []
    print("algorithm                         workers  what             driver      idle   wasted NFE")
    for name, algorithm in CASES.items():
        for size, trouble in itertools.product(SIZES, TROUBLE):
            if trouble == "trouble, repeats" and size not in (64, max(SIZES)):
                continue
            candidates = min(max(256, PER_WORKER * size), NARROW.get(name, math.inf))
            crew = Simulated(size, worker=Instant(), **TROUBLE[trouble])
            began = time.process_time()
            asked = {"candidates": candidates, "batch_size": 1, "algorithm": algorithm(size), "workers": crew}
            result = toy_search(CountingSampler(STEPS), **asked)
            took = (time.process_time() - began - crew.ran) / len(result.candidates)
            idle, waste = 1 - crew.busy / (size * crew.now), result.ledger.nfe_waste / result.ledger.nfe
            rows.append({"algorithm": name, "size": size, "trouble": trouble, "driver": took, "idle": idle})
            print(f"{name:<33} {size:>7}  {trouble:<16} {1e3 * took:>5.2f} ms {idle:>8.1%} {waste:>10.1%}", flush=True)
    if plot is not None:
        drawn(rows, plot)


def drawn(rows: Sequence[Mapping[str, Any]], file: str) -> None:
    """How long workers wait for the rounds of an algorithm, and how many one driver can feed."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "workers", "font.size": 9}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for i, name in enumerate(CASES):
        for trouble, style in (("calm", "-"), ("trouble", ":")):
            mine = [one for one in rows if (one["algorithm"], one["trouble"]) == (name, trouble)]
            left.plot(
                [one["size"] for one in mine],
                [100 * one["idle"] for one in mine],
                style,
                color=f"C{i}",
                label=name if style == "-" else None,
                marker=".",
            )
    left.plot([], [], "k:", label="with stragglers and deaths")
    left.set(xscale="log", xlabel="workers", ylabel="waiting, % of their time", ylim=(-3, 103))
    figure.legend(loc="outside lower left", ncols=3, frameon=False)
    wide = [one["driver"] for one in rows if one["size"] == max(SIZES) and one["algorithm"] not in NARROW]
    sizes, driver = np.geomspace(1, 1e5, 200), max(wide)
    for i, seconds in enumerate((0.1, 1.0, 10.0, 60.0)):
        label = f"{seconds:g} s: {seconds / driver:,.0f}"
        right.plot(sizes, np.minimum(sizes, seconds / driver), color=f"C{5 + i}", label=label)
    right.set(xscale="log", yscale="log", xlabel="workers", ylabel="of them busy at most")
    right.legend(title=f"a candidate takes, driver {1e3 * driver:.1f} ms", frameon=False)
    for one in (left, right):
        one.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})


def speed(candidates: int = 64, batch_size: int = 8) -> None:
    """Print the seconds of both, the start of the processes left out, and their ratio."""
    asked = {"algorithm": "random", "batch_size": batch_size, "progress": False, "candidates": candidates}
    torch.set_num_threads(2)
    seconds: dict[str, float] = {}
    for name, workers in (("one process of two threads", None), ("two processes of one", LocalWorkers(2, threads=1))):
        marks: list[float] = []
        search(PROMPT, workers=workers, on_candidate=lambda _, seen=marks: seen.append(time.perf_counter()), **asked)
        # From the first micro-batches on: before them is the loading.
        seconds[name] = (marks[-1] - marks[2 * batch_size - 1]) / (len(marks) - 2 * batch_size)
        print(f"{name}: {1e3 * seconds[name]:.0f} ms a candidate", flush=True)
    one, two = seconds.values()
    print(f"{one / two:.2f} times as fast")


KILLS = 10
SMALL = {"candidates": 16, "batch_size": 2, "verifier": "clip", "algorithm": Halving(), "progress": False}


def told(result: Any) -> dict[str, Any]:
    """All that a result says but for times, devices and waste."""
    content = result.to_json()
    for name in ("seconds", "nfe_waste", "denoiser_rows"):
        del content["ledger"][name]
    return content


@contextmanager
def opened(seen: list[FedCrew]) -> Iterator[None]:
    """Crews that searches open meanwhile are put into the list."""
    begin = FedCrew.begin

    def noted(crew: FedCrew, grids: Mapping[str, Mapping[str, Any]]) -> None:
        seen[:] = [crew]
        begin(crew, grids)

    FedCrew.begin = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        FedCrew.begin = begin  # type: ignore[method-assign]


def killing(workers: Any, kill: Callable[[FedCrew, random.Random], Any], kills: int = KILLS) -> None:
    """Searches in each of which something is killed behind a random candidate; prints how many found the same."""
    alone, same, wasted = told(search(PROMPT, **SMALL)), 0, []
    for i in range(kills):
        crews, chance = list[FedCrew](), random.Random(i)
        at = chance.randrange(1, 8)

        def strike(candidate: Any, at: int = at, crews: list[FedCrew] = crews, chance: random.Random = chance) -> None:
            if candidate.id == at:
                time.sleep(chance.uniform(0, 0.3))
                kill(crews[0], chance)

        with opened(crews):
            result = search(PROMPT, workers=workers, on_candidate=strike, **SMALL)
        same += told(result) == alone
        wasted.append(result.ledger.nfe_waste)
    print(f"{workers}: {kills} kills, {same} results the same; NFE wasted in each: {wasted}", flush=True)


def deaths() -> None:
    """SIGKILL to a worker of this machine that runs a batch."""

    def kill(crew: Any, chance: random.Random) -> None:
        if crew._taken:
            os.kill(chance.choice([*crew._taken]).pid, signal.SIGKILL)

    killing(LocalWorkers(3, threads=1), kill)


def cluster() -> None:
    """Two actors, then three nodes, then actors and nodes that die; against this process."""
    alone = told(search(PROMPT, **SMALL))
    for nodes, count in ((1, 2), (3, 3)):
        with clustered(nodes) as there:
            result = search(PROMPT, workers=RayWorkers(there.address, count=count, num_gpus=0), **SMALL)
            print(f"{nodes} nodes, {count} actors: {'the same' if told(result) == alone else 'ANOTHER'}", flush=True)
    with clustered(3) as there:
        asked = RayWorkers(there.address, count=3, num_gpus=0)

        def kill_actor(crew: Any, chance: random.Random) -> None:
            import ray

            if crew._taken:
                ray.kill(chance.choice([*crew._taken]).handle, no_restart=True)

        def kill_node(crew: Any, chance: random.Random) -> None:
            workers = [one for one in there.list_all_nodes() if not one.is_head()]
            there.remove_node(chance.choice(workers), allow_graceful=False)
            there.add_node(**node())

        killing(asked, kill_actor)
        killing(asked, kill_node)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["speed", "scale"], choices=["speed", "scale", "deaths", "cluster"])
    parser.add_argument("--plot", help="SVG of `scale`")
    given = parser.parse_args()
    for one in given.what:
        {"speed": speed, "scale": lambda: scale(given.plot), "deaths": deaths, "cluster": cluster}[one]()
