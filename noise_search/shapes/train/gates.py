"""Stage "gates": measure the embedded models as the card reports them, through plain diffusers calls.

`python -m noise_search.shapes.train.gates [FOLDER]` prints what the vision-language model in the folder can do, beside
the embedded CLIP.
"""

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from torch import Tensor

from noise_search.shapes import WEIGHTS
from noise_search.shapes.captions import Prompt, captions, evaluation_prompts, near_miss
from noise_search.shapes.oracle import Oracle, judge
from noise_search.shapes.render import render
from noise_search.shapes.scenes import FAMILIES, sample_scenes
from noise_search.shapes.train.pipelines import call_arguments
from verifiers import VLM, CLIPScore, Verifier

log = logging.getLogger(__name__)
HELD_OUT = 10_000_000
VLM_HELD_OUT = 20_000_003
SEEDS = range(16)


def _by_family(strict: np.ndarray, family: Sequence[str]) -> dict[str, float]:
    names = np.asarray(family)
    return {name: round(float(strict[names == name].mean()), 4) for name in FAMILIES if (names == name).any()}


@torch.no_grad()
def gate_a(vae: AutoencoderKL, scenes: int = 1800) -> dict[str, Any]:
    """Strict accuracy of the oracle on reconstructions of held-out scenes."""
    drawn = sample_scenes(scenes, HELD_OUT)
    texts = captions(drawn, HELD_OUT)
    images = render(drawn)
    made = [vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample for part in torch.split(images, 100)]
    pixels = (torch.cat(made) / 2 + 0.5).clamp(0, 1)
    strict = np.array([v.strict for v in judge(pixels, texts)], float)
    psnr = float(-10 * (pixels - images).square().mean().log10())
    names = [FAMILIES[i] for i in drawn.family]
    return {
        "strict": round(float(strict.mean()), 4),
        "by_family": _by_family(strict, names),
        "psnr": round(psnr, 2),
    }


@torch.no_grad()
def gate_b(directory: Path, count: int = 120, rounds: int = 10) -> dict[str, Any]:
    """Rank-1 retrieval of the right caption among distinct ones, for rendered held-out scenes."""
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{directory}")
    words = open_clip.get_tokenizer(f"local-dir:{directory}")
    model.eval()
    found = []
    for turn in range(rounds):
        drawn = sample_scenes(2 * count, HELD_OUT + 1 + turn)
        texts = captions(drawn, HELD_OUT + turn)
        keep = sorted({text: row for row, text in reversed(list(enumerate(texts)))}.values())[:count]
        image = model.encode_image(render(drawn[np.asarray(keep)]) * 2 - 1, normalize=True)
        text = model.encode_text(words([texts[row] for row in keep]), normalize=True)
        found.append(((image @ text.T).argmax(1) == torch.arange(len(keep))).float().mean().item())
    return {"rank_1": round(float(np.mean(found)), 4), "candidates": count, "rounds": rounds}


@torch.no_grad()
def sample(pipe: Any, name: str, prompts: Sequence[Prompt], seeds: Sequence[int] = SEEDS) -> Tensor:
    """Images `[prompt, seed, 3, 64, 64]` of plain pipeline calls with the card's arguments."""
    pipe.set_progress_bar_config(disable=True)
    images = []
    for prompt in prompts:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        made = pipe(
            prompt.text,
            num_images_per_prompt=len(seeds),
            generator=generators,
            output_type="pt",
            **call_arguments(name),
        ).images
        images.append(made.float())
    return torch.stack(images)


def gate_c(pipe: Any, name: str, clip: Path, prompts: Sequence[Prompt], seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Strict accuracy of one sample, of the oracle's best of 16, and of CLIP's with its bootstrap interval."""
    started = time.perf_counter()
    images = sample(pipe, name, prompts, seeds)
    seconds = (time.perf_counter() - started) / (len(prompts) * len(seeds))
    texts = [p.text for p in prompts for _ in seeds]
    flat = images.flatten(0, 1)
    strict = Oracle()(flat, texts).double().numpy().reshape(len(prompts), len(seeds))
    scores = CLIPScore(str(clip))(flat, texts).double().numpy().reshape(strict.shape)
    chosen = strict[np.arange(len(prompts)), scores.argmax(1)]
    gain = chosen - strict.mean(1)
    families = [p.family for p in prompts]
    return {
        "one_sample": round(float(strict.mean()), 4),
        "one_sample_by_family": _by_family(strict.mean(1), families),
        "best_of_16_oracle": round(float(strict.max(1).mean()), 4),
        "best_of_16_oracle_by_family": _by_family(strict.max(1), families),
        "best_of_16_clip": round(float(chosen.mean()), 4),
        "best_of_16_clip_by_family": _by_family(chosen, families),
        "clip_gain": round(float(gain.mean()), 4),
        "clip_gain_interval": bootstrap(gain),
        "seconds_per_image": round(seconds, 4),
    }


def bootstrap(values: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """95 % interval of the mean over prompts."""
    rows = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(values[rows].mean(1), [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


def gate_d(weights: Path, name: str, rounds: int = 3) -> float:
    """Seconds per candidate in a search of sixteen: sampling, decoding and scoring; the best of a few rounds."""
    from noise_search.engine.driver import search

    taken = []
    for turn in range(rounds + 1):
        started = time.perf_counter()
        search(
            "a red circle",
            model=str(weights / name),
            algorithm="random",
            candidates=16,
            seed=16 * turn,
            batch_size=16,
            progress=False,
        )
        taken.append((time.perf_counter() - started) / 16)
    return round(min(taken[1:]), 4)


def report(weights: Path) -> dict[str, Any]:
    """Every gate, measured on the weights in the directory."""
    found: dict[str, Any] = {
        "a": gate_a(AutoencoderKL.from_pretrained(weights / "shapes-ddim" / "vae", torch_dtype=torch.float32)),
        "b": gate_b(weights / "clip"),
    }
    for name in ("shapes-ddim", "shapes-flow"):
        pipe = DiffusionPipeline.from_pretrained(weights / name)
        found[name] = gate_c(pipe, name, weights / "clip", evaluation_prompts())
        found[name]["seconds_per_candidate"] = gate_d(weights, name)
        log.info("%s: %s", name, found[name])
    return found


def auc(scores: np.ndarray, truths: np.ndarray) -> float:
    """Chance that a true case scores above a false one, ties counted half."""
    above = scores[truths][:, None] - scores[~truths][None]
    return round(float((above > 0).mean() + (above == 0).mean() / 2), 4) if above.size else float("nan")


def rendered(verifier: Verifier, per_family: int = 200) -> dict[str, dict[str, float]]:
    """True captions against near misses of held-out scenes: accuracy by sign, share of pairs ranked right, AUC."""
    report = {}
    for at, family in enumerate(FAMILIES):
        scenes = sample_scenes(per_family, VLM_HELD_OUT + at, (family,))
        true = captions(scenes, at)
        wrong = [near_miss(text, row) for row, text in enumerate(true)]
        images = render(scenes)
        good, bad = verifier(images, true).numpy(), verifier(images, wrong).numpy()
        truths = np.repeat([True, False], per_family)
        report[family] = {
            "accuracy": round(float(((good > 0).mean() + (bad < 0).mean()) / 2), 4),
            "pairs": round(float((good > bad).mean()), 4),
            "auc": auc(np.concatenate([good, bad]), truths),
        }
    return report


@torch.no_grad()
def generated(scorers: dict[str, Verifier], seeds: int, weights: Path) -> dict[str, dict[str, float]]:
    """AUC for the oracle's verdict over images of `shapes-flow`, in all and per family, and best of `seeds`."""
    pipe = DiffusionPipeline.from_pretrained(weights / "shapes-flow")
    pipe.set_progress_bar_config(disable=True)
    texts = [prompt.text for prompt in evaluation_prompts()]
    families = np.asarray([prompt.family for prompt in evaluation_prompts()])
    arguments = call_arguments("shapes-flow") | {"negative_prompt": [""] * len(texts), "output_type": "pt"}
    scores: dict[str, list[np.ndarray]] = {name: [] for name in scorers}
    truths = []
    for seed in range(seeds):
        generators = [torch.Generator().manual_seed(seed * 1000 + row) for row in range(len(texts))]
        images = pipe(texts, generator=generators, **arguments).images.clamp(0, 1)
        truths.append(np.asarray([bool(verdict.strict) for verdict in judge(images, texts)]))
        for name, scorer in scorers.items():
            scores[name].append(scorer(images, texts).numpy())
    truth = np.stack(truths)
    report: dict[str, dict[str, float]] = {"share_true": {"all": round(float(truth.mean()), 4)}}
    groups: dict[str, Any] = {"all": slice(None), **{family: families == family for family in FAMILIES}}
    for name, parts in scores.items():
        made = np.stack(parts)
        best = truth[made.argmax(0), np.arange(len(texts))]
        report[f"{name}_auc"] = {k: auc(made[:, rows].ravel(), truth[:, rows].ravel()) for k, rows in groups.items()}
        report[f"{name}_best"] = {k: round(float(best[rows].mean()), 4) for k, rows in groups.items()}
    return report


def main(folder: Path, weights: Path = WEIGHTS) -> None:
    """Print the report on the model in the folder."""
    vlm, clip = VLM(folder, batch=100), CLIPScore(str(weights / "clip"))
    found = {"rendered": rendered(vlm), "generated": generated({"vlm": vlm, "clip": clip}, 8, weights)}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS / "vlm")
