"""Wall-clock of `search` with random search of 32 against the plain-diffusers loop, alternating in one process.

Run with `python tests/benchmarks/random_search.py [MODEL]`. Both make the same noises, must pick the same winner, and
use the batch size that is best for the plain loop. Prints seconds, ratio, and the driver's own time per candidate.
"""

import statistics
import sys
import time

import open_clip
import torch
from diffusers import DiffusionPipeline

from noise_search import search
from noise_search.shapes import EMBEDDED_MODELS, WEIGHTS
from noise_search.shapes.train.pipelines import call_arguments

PROMPT, COUNT, ROUNDS = "a red circle to the left of a blue square", 32, 5


def plain_loop(pipe, name, clip, batch):
    model, preprocess, words = clip
    scores = []
    for start in range(0, COUNT, batch):
        generators = [torch.Generator().manual_seed(seed) for seed in range(start, start + batch)]
        images = pipe(PROMPT, num_images_per_prompt=batch, generator=generators, **call_arguments(name)).images
        with torch.no_grad():
            text = model.encode_text(words([PROMPT]), normalize=True)
            image = model.encode_image(torch.stack([preprocess(i) for i in images]), normalize=True)
        scores.append((image @ text.T).squeeze(1))
    return int(torch.cat(scores).argmax())


def timed(call):
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def main(name):
    pipe = DiffusionPipeline.from_pretrained(EMBEDDED_MODELS[name])
    pipe.set_progress_bar_config(disable=True)
    folder = f"local-dir:{WEIGHTS / 'clip'}"
    model, preprocess = open_clip.create_model_from_pretrained(folder)
    clip = model.eval(), preprocess, open_clip.get_tokenizer(folder)
    trials = {
        batch: timed(lambda b=batch: plain_loop(pipe, name, clip, b))[0] for batch in (4, 8, 16, 32) for _ in "ab"
    }
    best = min(trials, key=trials.get)
    print(f"{name}: plain loop by batch size { ({b: round(t, 2) for b, t in trials.items()}) }, best {best}")
    ours, theirs, overhead = [], [], []
    for _ in range(ROUNDS):
        seconds, winner = timed(lambda: plain_loop(pipe, name, clip, best))
        theirs.append(seconds)
        seconds, result = timed(
            lambda: search(PROMPT, model=pipe, candidates=COUNT, batch_size=best, progress=False, algorithm="random")
        )
        ours.append(seconds)
        overhead.append((seconds - sum(result.ledger.seconds.values())) / COUNT)
        assert result.best.seed == winner, (result.best.seed, winner)
    default = timed(lambda: search(PROMPT, model=pipe, candidates=COUNT, progress=False, algorithm="random"))[0]
    plain, searched = statistics.median(theirs), statistics.median(ours)
    print(f"  plain {plain:.3f} s, search {searched:.3f} s (with the default batch {default:.3f} s)")
    print(f"  ratio {statistics.median(o / t for o, t in zip(ours, theirs, strict=True)):.3f}")
    print(f"  driver overhead {1000 * statistics.median(overhead):.2f} ms per candidate; winner seed {winner} for both")


if __name__ == "__main__":
    torch.manual_seed(0)
    for asked in sys.argv[1:] or sorted(EMBEDDED_MODELS):
        main(asked)
