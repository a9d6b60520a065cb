"""Real faults for run directories, counted: `python tests/benchmarks/faults.py kills disks fuzz replays cost`.

`kills` sends SIGKILL at random moments to searches of the embedded models until they end, and compares what they found
with a search that nobody killed. `disks` fills a file system, and makes one read-only (as root, on Linux). `fuzz` reads
mutated manifests, journals, latents and pictures, in which only errors of our own may end. `replays` makes 200
candidates of each algorithm again, in a process that has nothing but the run. `cost` is what a journal takes, in time
and bytes.
"""

import argparse
import copy
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noise_search import ALGORITHMS, load, replay, search
from noise_search.disk.images import look_at
from noise_search.disk.journal import Journal, seal
from noise_search.disk.run import RunFiles, Sizes
from noise_search.engine.loading import state_of
from noise_search.engine.run import Run
from noise_search.shapes import EMBEDDED_MODELS

PROMPT = "a red circle and two blue squares"


def told(result: Any) -> dict[str, Any]:
    """What two searches must agree on."""
    found: dict[str, Any] = copy.deepcopy(result.to_json())
    del found["ledger"]["seconds"], found["settings"]["batch_size"]
    return found


def child(work: Callable[..., Any], *given: Any, **named: Any) -> int:
    """Run something in a process of its own that imports nothing again; returns its id."""
    if (pid := os.fork()) == 0:
        try:
            work(*given, **named)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid


def write_told(file: Path, **asked: Any) -> None:
    """What a search found that nobody killed."""
    file.write_text(json.dumps(told(search(PROMPT, **asked))))


def kills(count: int) -> None:
    """SIGKILLs for every algorithm on every embedded model."""
    rng = random.Random(0)
    for model in EMBEDDED_MODELS:
        for name in ALGORITHMS:
            asked = {"model": model, "algorithm": name, "candidates": 8, "batch_size": 2, "progress": False}
            asked |= {"verifier": "aesthetic", "judges": ["oracle"]}
            search(PROMPT, **asked | {"candidates": 1})  # loaded here, so that what is killed is the search
            with tempfile.TemporaryDirectory() as directory:
                plain = Path(directory) / "plain.json"
                os.waitpid(child(write_told, plain, **asked), 0)
                killed = runs = starts = 0
                while killed < count:
                    run = Path(directory) / f"run{runs}"
                    while True:
                        starts += 1
                        pid = child(search, PROMPT, run=run, **asked)
                        time.sleep(rng.uniform(0.0, 3.0))
                        os.kill(pid, signal.SIGKILL)
                        _, status = os.waitpid(pid, 0)
                        if os.WIFSIGNALED(status):
                            killed += 1
                            if (run / "run.json").exists():
                                os.waitpid(child(load, run), 0)
                            continue
                        assert os.WEXITSTATUS(status) == 0, "it failed"
                        break
                    found = told(load(run))
                    keys = [line["key"] for line in RunFiles(run).lines() if "id" in line]
                    assert len(keys) == len({*keys}), "evaluated twice"
                    expected = json.loads(plain.read_text())
                    for one in (found, expected):
                        one["ledger"].pop("nfe_waste"), one["ledger"].pop("check_nfe")
                    differs = [key for key in expected if expected[key] != json.loads(json.dumps(found))[key]]
                    assert not differs, differs
                    runs += 1
            print(
                f"{model}, {name}: {killed} kills in {starts} starts, {runs} runs to their ends, all equal", flush=True
            )


def disks() -> None:
    """A full file system, and one that is read-only, where this may mount them."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "small"
        place.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72k", "tmpfs", str(place)], capture_output=True)
        if mounted.returncode:
            print(f"disks: nothing can be mounted here ({mounted.stderr.decode().strip()})")
            return
        asked = {"algorithm": "climb", "candidates": 8, "batch_size": 2, "progress": False}
        try:
            found = search(PROMPT, run=place / "run", **asked)
            done = len(RunFiles(place / "run").lines())
            assert isinstance(found.error, OSError), found.stop_reason
            print(f"full: ended with {found.stop_reason!r}; {done} lines are whole, best {load(place / 'run')!r}")
            subprocess.run(["mount", "-o", "remount,size=9m", str(place)], check=True)
            whole = search(PROMPT, **asked)
            assert told(search(PROMPT, run=place / "run", **asked))["candidates"] == told(whole)["candidates"]
            print("full: with room, it went on and found the same")
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
            print(f"read-only: {load(place / 'run')!r}, {state_of(place / 'run')}")
            for one in ("run", "other"):
                try:
                    search(PROMPT, run=place / one, **asked)
                    raise AssertionError("it searched on")
                except ValueError as error:
                    print(f"read-only: {error}")
        finally:
            subprocess.run(["umount", str(place)], check=True)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Bytes with something wrong: flipped, cut, doubled, or a JSON value of another kind."""
    data = bytearray(content)
    kind = rng.randrange(6)
    if not data or kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
    at = rng.randrange(len(data))
    if kind == 1:
        data[at] ^= 1 << rng.randrange(8)
        return bytes(data)
    if kind == 2:
        return bytes(data[:at])
    if kind == 3:
        there = rng.randrange(len(data))
        return bytes(data[:at] + data[there : there + rng.randrange(200)] + data[at:])
    try:  # well-formed, with its checksum as it should be, and wrong
        lines = content.split(b"\n") if content.count(b"crc") else [content]
        which = rng.randrange(len(lines))
        value = json.loads(lines[which])
        spoil(value, rng)
        value.pop("crc", None)
        lines[which] = seal(json.dumps(value)) if content.count(b"crc") else json.dumps(value).encode()
        return b"\n".join(lines)
    except (ValueError, AttributeError):
        return bytes(data[at:])


def spoil(value: Any, rng: random.Random) -> None:
    """Replace something inside by something else."""
    wrong = [None, -1, 2**70, 1.5, "x", "../../x", [], {}, [[]], {"key": 1}, True, "nan", 10**400]
    while isinstance(value, dict | list) and value:
        place = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if not isinstance(value[place], dict | list) or not value[place] or rng.random() < 0.2:
            value[place] = rng.choice(wrong)
            return
        value = value[place]


def fuzz(seconds: float) -> None:
    """Read mutated runs until the time is over; anything but a ValueError is a defect."""
    logging.disable(logging.WARNING)
    rng, counts, bad = random.Random(int(time.time())), Counter[str](), []
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        asked = {"algorithm": "halving", "candidates": 4, "progress": False, "verifier": ["clip", "aesthetic"]}
        search(PROMPT, run=place / "run", judges=["oracle"], **asked)
        outside = {*place.rglob("*")}
        files = [one for one in (place / "run").rglob("*") if one.is_file() and one.name != ".lock"]
        ends, slowest = time.monotonic() + seconds, (0.0, "", "")
        while time.monotonic() < ends:
            run = place / "mutated"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(place / "run", run)
            hit = run / rng.choice(files).relative_to(place / "run")
            hit.write_bytes(mutated(hit.read_bytes(), rng))
            tried: dict[str, Callable[[], Any]] = {
                "load": partial(load, run),
                "state": partial(state_of, run),
                "names": RunFiles(run).names,
            }
            if hit.suffix == ".png":
                tried["recipe"] = partial(look_at, hit)
            if rng.random() < 0.02:
                tried["search"] = partial(search, PROMPT, run=run, **asked)
            if rng.random() < 0.01 and hit.suffix == ".png":
                tried["replay"] = partial(replay, hit)
            for name, read in tried.items():
                counts[name] += 1
                started = time.monotonic()
                try:
                    read()
                except ValueError:
                    counts[f"{name}, refused"] += 1
                except Exception as error:
                    bad.append((name, str(hit.relative_to(run)), f"{type(error).__name__}: {error}"))
                    if len(bad) < 5:
                        traceback.print_exc()
                        shutil.copytree(run, place.parent / f"fuzzed-{len(bad)}", dirs_exist_ok=True)
                slowest = max(slowest, (time.monotonic() - started, name, str(hit.relative_to(run))))
            strange = {*place.rglob("*")} - outside - {*run.rglob("*"), run}
            assert not strange, f"written outside: {strange}"
    print(dict(counts))
    print(f"{len(bad)} crashes: {bad[:10]}; the slowest took {slowest[0]:.1f} s ({slowest[1]} of {slowest[2]})")


def replays(count: int = 200) -> None:
    """Candidates of a run, finished or not, from their recipes alone."""
    for name in ALGORITHMS:
        with tempfile.TemporaryDirectory() as directory:
            run, candidates = Path(directory) / "run", count
            asked = {"algorithm": name, "steps": 4, "keep_images": "all", "progress": False, "verifier": "aesthetic"}
            found = search(PROMPT, run=run, candidates=candidates, **asked)
            print(f"{name}: {len(found.candidates)} candidates, ", end="", flush=True)
            code = f"from tests.benchmarks.faults import made_again; made_again({str(run)!r}, {count})"
            subprocess.run([sys.executable, "-c", code], check=True)


def made_again(run: str, count: int) -> None:
    """Make candidates of a run again, and say how far they are from what was recorded."""
    logging.disable(logging.WARNING)
    found = load(run)
    whole = [one for one in found.candidates if one.finished]
    others = [one for one in found.candidates if not one.finished]
    chosen = [*whole, *random.Random(0).sample(others, len(others))][:count]
    apart, pixels = [], []
    keys = {line["id"]: line["key"] for line in RunFiles(Path(run)).lines() if "id" in line}
    for one in chosen:
        again = replay(found, candidate=one.id, verifier="aesthetic", progress=False)
        apart += [abs(again.scores[key] - score) for key, score in one.scores.items()]
        if one.finished:
            kept = RunFiles(Path(run)).read_picture(keys[one.id])
            assert kept is not None
            pixels.append(int(np.abs(again.pixels.astype(int) - kept).max()))
    print(
        f"{len(chosen)} made again: scores {max(apart):.2g} apart at most, pixels of {len(pixels)} images {max(pixels)}"
    )


def cost() -> None:
    """Time spent on a run's directory, and its bytes, as shares of a search of the embedded models."""
    spent = [0.0]

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def within(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*given, **named)
            finally:
                spent[0] += time.perf_counter() - started

        return within

    for name in ("answers", "commit", "settle", "end"):
        setattr(Run, name, timed(getattr(Run, name)))
    for name in ("write_settings", "lines"):
        setattr(Journal, name, timed(getattr(Journal, name)))
    for model in EMBEDDED_MODELS:
        for name in ("random", "halving", "climb"):
            asked = {"model": model, "algorithm": name, "candidates": 48, "progress": False}
            search(PROMPT, **asked | {"candidates": 2})
            with tempfile.TemporaryDirectory() as directory:
                spent[0], started = 0.0, time.perf_counter()
                result = search(PROMPT, run=directory, **asked)
                took, sizes, count = time.perf_counter() - started, Sizes.of(Path(directory)), len(result.candidates)
            print(
                f"{model}, {name}: {took:.2f} s, of which the run takes {spent[0]:.3f} s ({spent[0] / took:.2%}, "
                f"{1000 * spent[0] / count:.2f} ms a candidate); {sizes.lines / count:.0f} bytes of lines, "
                f"{sizes.states / count:.0f} of latents, {sizes.images / count:.0f} of images a candidate",
                flush=True,
            )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="+", choices=("kills", "disks", "fuzz", "replays", "cost"))
    parser.add_argument("--count", type=int, default=50, help="kills for each algorithm and model")
    parser.add_argument("--seconds", type=float, default=600, help="of fuzzing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for one in asked.faults:
        {
            "kills": lambda: kills(asked.count),
            "disks": disks,
            "fuzz": lambda: fuzz(asked.seconds),
            "replays": replays,
            "cost": cost,
        }[one]()


if __name__ == "__main__":
    main()
