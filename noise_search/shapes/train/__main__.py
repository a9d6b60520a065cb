"""Train the embedded models: `python -m noise_search.shapes.train [STAGE ...] --out DIRECTORY`.

Stages, in order: vae, clip, latents, ddim, flow, aesthetic, vlm, assemble, small, tiny, gates. Every stage is a
function of the seed; interrupted ones continue from their checkpoint. On two cores all of it takes hours.
"""

import argparse
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from noise_search.shapes import WEIGHTS
from noise_search.shapes.train import clip, gates, pipelines, tiny, vlm
from noise_search.shapes.train.loop import Plan

log = logging.getLogger("noise_search.shapes.train")
STAGES = ("vae", "clip", "latents", "ddim", "flow", "aesthetic", "vlm", "assemble", "small", "tiny", "gates")


def main() -> None:
    """Parse the command line and run the stages."""
    parser = argparse.ArgumentParser(prog="python -m noise_search.shapes.train", description=__doc__)
    parser.add_argument("stages", nargs="*", default=STAGES, help=f"some of: {', '.join(STAGES)}")
    parser.add_argument("--out", type=Path, default=Path("shapes-training"), help="checkpoints and trained parts")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where 'assemble' puts the finished models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; one stage per core is fastest")
    parser.add_argument("--steps", type=int, default=None, help="of the stages named, instead of their own number")
    asked = parser.parse_args()
    unknown = [s for s in asked.stages if s not in STAGES]
    if unknown:
        parser.error(f"unknown stages {unknown}; expected some of {', '.join(STAGES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if asked.threads:
        torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    for stage in asked.stages:
        log.info("stage %s", stage)
        run(stage, asked.out, asked.weights, asked.seed, torch.device(asked.device), asked.steps)


def run(stage: str, out: Path, weights: Path, seed: int, device: torch.device, steps: int | None = None) -> None:
    """Run one stage; `steps` replaces a training stage's number of steps."""

    def plan(own: Plan) -> Plan:
        return own if steps is None else replace(own, steps=steps)

    match stage:
        case "vae":
            pipelines.train_vae(out, seed, device, plan(pipelines.VAE))
        case "clip":
            clip.train_clip(out, seed, device, plan(clip.PLAN))
        case "latents":
            pipelines.encode(out, seed, device)
        case "ddim":
            pipelines.train_ddim(out, seed, device, plan(pipelines.DDIM))
        case "flow":
            pipelines.train_flow(out, seed, device, plan(pipelines.FLOW))
        case "aesthetic":
            log.info("aesthetic head on held-out scenes: %s", clip.train_aesthetic(out, seed, device))
        case "vlm":
            vlm.train(out, seed, device, plan(vlm.PLAN))
        case "assemble":
            for part in ("clip", "aesthetic", "vlm"):
                shutil.copytree(out / part, weights / part, dirs_exist_ok=True)
            pipelines.save(pipelines.ddim_pipeline(out, seed), "shapes-ddim", weights)
            pipelines.save(pipelines.flow_pipeline(out, seed), "shapes-flow", weights)
        case "small":
            encoders = pipelines.text_encoders(weights / "shapes-flow")
            small = pipelines.train_small(out, encoders, seed, device, plan(pipelines.SMALL_FLOW))
            pipelines.save_small(small, weights)
        case "tiny":
            tiny.train(out, weights, seed, device, plan(tiny.PLAN))
        case "gates":
            report = gates.report(weights)
            log.info("gates: %s", json.dumps(report, indent=2))
            (weights / "gates.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
