"""What the embedded vision-language model can do, beside the embedded CLIP, as numbers for the card."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline

import verifiers
from noise_search.shapes import WEIGHTS
from noise_search.shapes.captions import captions, near_miss
from noise_search.shapes.oracle import judge
from noise_search.shapes.prompts import evaluation_prompts
from noise_search.shapes.render import render
from noise_search.shapes.scenes import FAMILIES, sample_scenes
from verifiers.vlm import VLM

HELD_OUT_SEED = 20_000_003


def auc(scores: np.ndarray, truths: np.ndarray) -> float:
    """Chance that a true case scores above a false one, ties counted half."""
    above = scores[truths][:, None] - scores[~truths][None]
    return round(float((above > 0).mean() + (above == 0).mean() / 2), 4) if above.size else float("nan")


def rendered(verifier: verifiers.Verifier, per_family: int = 200) -> dict[str, dict[str, float]]:
    """True captions against near misses of held-out scenes: accuracy by sign, share of pairs ranked right, AUC."""
    report = {}
    for at, family in enumerate(FAMILIES):
        scenes = sample_scenes(per_family, HELD_OUT_SEED + at, (family,))
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
def generated(scorers: dict[str, verifiers.Verifier], seeds: int, weights: Path) -> dict[str, dict[str, float]]:
    """AUC for the oracle's verdict over images of `shapes-flow`, in all and per family, and best of `seeds`."""
    card = json.loads((weights / "shapes-flow" / "noise_search.json").read_text(encoding="utf-8"))
    pipeline = FluxPipeline.from_pretrained(weights / "shapes-flow")
    pipeline.set_progress_bar_config(disable=True)
    texts = [prompt.text for prompt in evaluation_prompts()]
    families = np.asarray([prompt.family for prompt in evaluation_prompts()])
    scores: dict[str, list[np.ndarray]] = {name: [] for name in scorers}
    truths = []
    for seed in range(seeds):
        images = pipeline(
            texts,
            negative_prompt=[card["negative_prompt"]] * len(texts),
            generator=[torch.Generator().manual_seed(seed * 1000 + row) for row in range(len(texts))],
            num_inference_steps=card["steps"],
            height=card["height"],
            width=card["width"],
            output_type="pt",
            **{card["guidance_argument"]: card["guidance"]},
            **card["options"],
        ).images.clamp(0, 1)
        truths.append(np.asarray([bool(verdict.strict) for verdict in judge(images, texts)]))
        for name, scorer in scorers.items():
            scores[name].append(scorer(images, texts).numpy())
    truth = np.stack(truths)
    report: dict[str, dict[str, float]] = {"share_true": {"all": round(float(truth.mean()), 4)}}
    for name, parts in scores.items():
        made = np.stack(parts)
        report[f"{name}_auc"] = {"all": auc(made.ravel(), truth.ravel())}
        best = truth[made.argmax(0), np.arange(len(texts))]
        report[f"{name}_best"] = {"all": round(float(best.mean()), 4)}
        for family in FAMILIES:
            mine = families == family
            report[f"{name}_auc"][family] = auc(made[:, mine].ravel(), truth[:, mine].ravel())
            report[f"{name}_best"][family] = round(float(best[mine].mean()), 4)
    return report


def main(folder: Path, weights: Path = WEIGHTS) -> None:
    """Print the report on the model in the folder."""
    vlm = VLM(folder, batch=100)
    clip = verifiers.load("clip", model=str(weights / "clip"))
    print(
        json.dumps(
            {"rendered": rendered(vlm), "generated": generated({"vlm": vlm, "clip": clip}, 8, weights)}, indent=1
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS / "vlm")
