"""Stage "aesthetic": a head of LAION's published form on the embedded CLIP, for a rule of composition.

The rule ignores the prompt. It likes pictures that are balanced, generous and clear: 5, plus 3 for a centroid of
the painted area at the middle of the canvas falling to 0 at its edge, plus 2 at 15 % of the canvas painted, plus 2 for
full luminance contrast to the background, less 3.5 to keep the scale around 5.
"""

import logging
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from noise_search.shapes.configs import WIDTH
from noise_search.shapes.render import CANVAS, render, sprites
from noise_search.shapes.scenes import BACKGROUNDS, COLOURS, Scenes, sample_scenes
from noise_search.shapes.train.clip import corrupt

log = logging.getLogger(__name__)
SCENES, HELD_OUT = 12_000, 2_000
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


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


def head() -> nn.Sequential:
    """LAION's v2 form (christophschuhmann/improved-aesthetic-predictor): linear layers without activations."""
    return nn.Sequential(
        nn.Linear(WIDTH, 1024),
        nn.Dropout(0.2),
        nn.Linear(1024, 128),
        nn.Dropout(0.2),
        nn.Linear(128, 64),
        nn.Dropout(0.1),
        nn.Linear(64, 16),
        nn.Linear(16, 1),
    )


def train(directory: Path, seed: int, device: torch.device) -> dict[str, float]:
    """Train the head on embeddings of rendered scenes, save it, and report its fit on held-out scenes."""
    torch.manual_seed(seed + 4)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{directory / 'clip'}")
    scenes = sample_scenes(SCENES + HELD_OUT, seed=seed + 23)
    wanted = torch.from_numpy(composition(scenes)).float()
    embedding = _embed(model.to(device).eval(), scenes, seed).cpu()
    layers = head()
    layers.eval()
    # Dropout stays off: the map is linear, and its least squares is what a trained head approaches.
    optimiser = torch.optim.AdamW(layers.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3000)
    with torch.no_grad():
        next(reversed(list(layers.parameters()))).fill_(float(wanted[:SCENES].mean()))
    generator = torch.Generator().manual_seed(seed + 4)
    for _ in range(3000):
        rows = torch.randint(0, SCENES, (512,), generator=generator)
        loss = (layers(embedding[rows])[:, 0] - wanted[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    folder = directory / "aesthetic"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"layers.{k}": v.detach().half().contiguous() for k, v in layers.state_dict().items()}
    save_file(tensors, folder / "head.safetensors")
    return _fit(layers(embedding[SCENES:])[:, 0].detach(), wanted[SCENES:])


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
