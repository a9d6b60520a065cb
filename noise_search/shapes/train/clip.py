"""Stages "clip" and "aesthetic": the embedded CLIP, and a head of LAION's published form on it.

The CLIP is contrastive on rendered scenes, with a near miss per caption as hard negative. The head learns a rule of
composition that ignores the prompt and likes pictures that are balanced, generous and clear: 5, plus 3 for a centroid
of the painted area at the middle of the canvas falling to 0 at its edge, plus 2 at 15 % of the canvas painted, plus 2
for full luminance contrast to the background, less 3.5 to keep the scale around 5.
"""

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from noise_search.shapes import configs
from noise_search.shapes.captions import captions, near_miss
from noise_search.shapes.render import CANVAS, render, sprites
from noise_search.shapes.scenes import BACKGROUNDS, COLOURS, Scenes, sample_scenes
from noise_search.shapes.train.loop import Plan, fit

PLAN = Plan("clip", steps=1500, rate=1e-3, weight_decay=0.05)
BATCH = 192
HEAD_SCENES, HELD_OUT = 12_000, 2_000
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def tokenizer(directory: Path, seed: int) -> CLIPTokenizer:
    """The world's CLIP tokenizer, written under `tokenizer/` at the first call."""
    folder = directory / "tokenizer"
    if (folder / "vocab.json").exists():
        return configs.clip_tokenizer(folder)
    return configs.write_clip_tokenizer(captions(sample_scenes(50_000, seed), seed), folder)


def corrupt(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mild blur and noise: generated images are never perfectly crisp and must stay in distribution."""
    count = len(images)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    strength = 0.06 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return (share * images + (1 - share) * blurred + strength * noise).clamp(0, 1)


def train_clip(directory: Path, seed: int, device: torch.device, plan: Plan = PLAN) -> open_clip.CLIP:
    """Train the model and save it under `clip/` in the form that open_clip reads as `local-dir:`."""
    torch.manual_seed(seed + 1)
    words = tokenizer(directory, seed)
    settings = configs.open_clip_config(len(words))
    model = open_clip.CLIP(
        embed_dim=settings["model_cfg"]["embed_dim"],
        vision_cfg=settings["model_cfg"]["vision_cfg"],
        text_cfg=settings["model_cfg"]["text_cfg"],
    ).to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        scenes = sample_scenes(BATCH, seed=(seed + 1) * 200_003 + step)
        true = captions(scenes, seed=step)
        wrong = [near_miss(caption, seed=step * BATCH + row) for row, caption in enumerate(true)]
        texts = [*true, *wrong]
        ids = words(texts, padding="max_length", max_length=configs.LENGTH, truncation=True).input_ids
        images = corrupt(render(scenes), generator).to(device) * 2 - 1
        image, text, scale = model(images, torch.tensor(ids, device=device))[:3]
        logits: Tensor = (scale * image @ text.T).float()
        same = torch.tensor([[a == b for b in texts] for a in true], device=device).float()
        to_text: Tensor = -(same / same.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
        square = same[:, :BATCH]
        to_image: Tensor = -(square / square.sum(0) * logits[:, :BATCH].log_softmax(0)).sum(0).mean()
        return (to_text + to_image) / 2

    fit(plan, model, loss, directory / "checkpoints", seed + 1)
    return _finish(model, directory, seed)


@torch.no_grad()
def _finish(model: open_clip.CLIP, directory: Path, seed: int) -> open_clip.CLIP:
    """Save the model, its configuration and its tokenizer."""
    model.logit_scale.clamp_(max=math.log(100))
    words = tokenizer(directory, seed)
    folder = directory / "clip"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.detach().half().contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    settings = configs.open_clip_config(len(words))
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    words.save_pretrained(folder)
    return model.eval()


def composition(scenes: Scenes) -> np.ndarray:
    """The rule's score of each scene, about 1 to 9, float64 `[scene]`."""
    area = sprites().sum((2, 3))[scenes.shape, scenes.large.astype(int)]
    area = area * (np.arange(area.shape[1]) < scenes.count[:, None])
    painted = area.sum(1)
    x, y = (area * scenes.x).sum(1) / painted, (area * scenes.y).sum(1) / painted
    balance = 1 - np.hypot(x - CANVAS / 2, y - CANVAS / 2) / (CANVAS / 2)
    ink = np.array(list(COLOURS.values())) / 255 @ _LUMINANCE
    paper = np.array(list(BACKGROUNDS.values())) / 255 @ _LUMINANCE
    contrast = (np.abs(ink[scenes.colour] - paper[scenes.background][:, None]) * area).sum(1) / painted
    return np.asarray(5 + 3 * balance + 2 * painted / (0.15 * CANVAS**2) + 2 * contrast - 3.5)


def _head() -> nn.Sequential:
    """LAION's v2 form (christophschuhmann/improved-aesthetic-predictor): linear layers without activations."""
    return nn.Sequential(
        nn.Linear(configs.WIDTH, 1024),
        nn.Dropout(0.2),
        nn.Linear(1024, 128),
        nn.Dropout(0.2),
        nn.Linear(128, 64),
        nn.Dropout(0.1),
        nn.Linear(64, 16),
        nn.Linear(16, 1),
    )


def train_aesthetic(directory: Path, seed: int, device: torch.device) -> dict[str, float]:
    """Train the head on embeddings of rendered scenes, save it, and report its fit on held-out scenes."""
    torch.manual_seed(seed + 4)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{directory / 'clip'}")
    scenes = sample_scenes(HEAD_SCENES + HELD_OUT, seed=seed + 23)
    wanted = torch.from_numpy(composition(scenes)).float()
    embedding = _embed(model.to(device).eval(), scenes, seed).cpu()
    layers = _head()
    layers.eval()
    # Dropout stays off: the map is linear, and its least squares is what a trained head approaches.
    optimiser = torch.optim.AdamW(layers.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3000)
    with torch.no_grad():
        next(reversed(list(layers.parameters()))).fill_(float(wanted[:HEAD_SCENES].mean()))
    generator = torch.Generator().manual_seed(seed + 4)
    for _ in range(3000):
        rows = torch.randint(0, HEAD_SCENES, (512,), generator=generator)
        loss = (layers(embedding[rows])[:, 0] - wanted[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    folder = directory / "aesthetic"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"layers.{k}": v.detach().half().contiguous() for k, v in layers.state_dict().items()}
    save_file(tensors, folder / "head.safetensors")
    return _fit(layers(embedding[HEAD_SCENES:])[:, 0].detach(), wanted[HEAD_SCENES:])


@torch.no_grad()
def _embed(model: open_clip.CLIP, scenes: Scenes, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 5)
    parts = []
    for start in range(0, len(scenes), 500):
        images = corrupt(render(scenes[start : start + 500]), generator)
        parts.append(model.encode_image(images.to(next(model.parameters()).device) * 2 - 1, normalize=True))
    return torch.cat(parts)


def _fit(made: Tensor, wanted: Tensor) -> dict[str, float]:
    r2 = 1 - (made - wanted).square().mean() / wanted.var(unbiased=False)
    ranks = torch.stack([made.argsort().argsort(), wanted.argsort().argsort()]).float()
    return {"r2": round(float(r2), 4), "spearman": round(float(torch.corrcoef(ranks)[0, 1]), 4)}
