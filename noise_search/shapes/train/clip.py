"""Stage "clip": the embedded CLIP, contrastive on rendered scenes, with a near miss per caption as hard negative."""

import json
import math
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTokenizer

from noise_search.shapes import configs
from noise_search.shapes.captions import captions, near_miss
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train.loop import Plan, fit

PLAN = Plan("clip", steps=1500, rate=1e-3, weight_decay=0.05)
BATCH = 192


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


def train(directory: Path, seed: int, device: torch.device, plan: Plan = PLAN) -> open_clip.CLIP:
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
    return finish(model, directory, seed)


@torch.no_grad()
def finish(model: open_clip.CLIP, directory: Path, seed: int) -> open_clip.CLIP:
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
