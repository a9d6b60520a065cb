"""Seconds of `search` with random search of 32 against the plain-diffusers loop, alternating in one process.

Run with `python tests/benchmarks/random_search.py [MODEL ...] [--rounds N]`. Both make the same noises, must pick the
same winner, and use the batch size that is best for the plain loop; each round is another prompt. Beside it is
`algorithm="auto"` with the budget by which its calibration says that it finds as good a score as random search of 32.
Ratios are medians over the rounds, of wall-clock, and of the process's CPU seconds, which other work on the machine
disturbs less.
"""

import argparse
import statistics
import time
from functools import partial

import open_clip
import torch
from diffusers import DiffusionPipeline

from noise_search import search
from noise_search.models import load_model
from noise_search.prompt_sets import load
from noise_search.resolve import resolve_aggregator, resolve_calibration
from noise_search.shapes import EMBEDDED_MODELS, WEIGHTS
from noise_search.shapes.train.pipelines import call_arguments

COUNT, BATCHES = 32, (4, 8, 16, 32)


def plain_loop(pipe, name, prompt, clip, batch):
    """The winner's seed."""
    model, preprocess, words = clip
    scores = []
    for start in range(0, COUNT, batch):
        generators = [torch.Generator().manual_seed(seed) for seed in range(start, start + batch)]
        images = pipe(prompt, num_images_per_prompt=batch, generator=generators, **call_arguments(name)).images
        with torch.no_grad():
            text = model.encode_text(words([prompt]), normalize=True)
            image = model.encode_image(torch.stack([preprocess(i) for i in images]), normalize=True)
        scores.append((image @ text.T).squeeze(1))
    return int(torch.cat(scores).argmax())


def timed(call):
    """Wall-clock and CPU seconds, and what was found."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    return (time.perf_counter() - wall, time.process_time() - cpu), found


def equal_budget(pipe):
    """Whole trajectories by which `auto` finds what random search of 32 does, by the shipped calibration."""
    loaded = load_model(pipe)
    with loaded.sampler as sampler:
        sampler.condition("a star")
        steps = sampler.space().end
    known = resolve_calibration(None, loaded.facts, steps, resolve_aggregator("clip", loaded, "mean-z"))
    return int(known.trajectories_for(COUNT))


def ratios(ours, theirs):
    """Medians of the ratios of wall-clock and CPU seconds, in words."""
    wall, cpu = (statistics.median(o[i] / t[i] for o, t in zip(ours, theirs, strict=True)) for i in (0, 1))
    return f"{wall:.3f} of its wall-clock, {cpu:.3f} of its CPU seconds"


def main(name, rounds):
    pipe = DiffusionPipeline.from_pretrained(EMBEDDED_MODELS[name])
    pipe.set_progress_bar_config(disable=True)
    folder = f"local-dir:{WEIGHTS / 'clip'}"
    model, preprocess = open_clip.create_model_from_pretrained(folder)
    clip = model.eval(), preprocess, open_clip.get_tokenizer(folder)
    prompts = load("shapes").texts[:rounds]
    asked = {"model": pipe, "progress": False}
    trials = {batch: timed(lambda b=batch: plain_loop(pipe, name, prompts[0], clip, b))[0][1] for batch in BATCHES * 2}
    best = min(trials, key=trials.get)
    print(f"{name}: CPU seconds of the plain loop by batch size { ({b: round(t, 2) for b, t in trials.items()}) }")
    count = equal_budget(pipe)
    search(prompts[0], candidates=2, algorithm="random", **asked)  # loads its own tower
    plain, ours, auto, overhead, higher = [], [], [], [], []
    for i, prompt in enumerate(prompts):
        size = {"batch_size": best, **asked}
        calls = {
            "plain": partial(plain_loop, pipe, name, prompt, clip, best),
            "ours": partial(search, prompt, candidates=COUNT, algorithm="random", **size),
        }
        taken = {}
        for which in sorted(calls, reverse=i % 2 == 0):  # each of them as often first
            taken[which] = timed(calls[which])
        plain.append(taken["plain"][0])
        ours.append(taken["ours"][0])
        result = taken["ours"][1]
        assert result.best.seed == taken["plain"][1], (result.best.seed, taken["plain"][1])
        overhead.append((ours[-1][0] - sum(result.ledger.seconds.values())) / COUNT)
        seconds, found = timed(partial(search, prompt, candidates=count, algorithm="auto", **size))
        auto.append(seconds)
        higher.append(found.score - result.score)
        print(
            f"  {prompt}: plain {plain[-1][0]:.2f} s, search {ours[-1][0]:.2f} s, auto {auto[-1][0]:.2f} s", flush=True
        )
    print(f"{name}, medians of {len(prompts)} rounds with batches of {best}")
    print(f"  search of {COUNT}: {ratios(ours, plain)}; the same winners")
    print(f"  driver: {1000 * statistics.median(overhead):.2f} ms per candidate")
    error = statistics.stdev(higher) / len(higher) ** 0.5
    print(f"  auto with the NFE of {count}: {ratios(auto, plain)}")
    print(f"    its best score is {statistics.mean(higher):+.4f} above that of random search, +- {error:.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=sorted(EMBEDDED_MODELS))
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args()
    for asked_for in given.models:
        main(asked_for, given.rounds)
