"""Stages "latents", "ddim", "flow" and "small": denoisers with their text encoders, on cached latents."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer, T5Tokenizer

from noise_search.shapes import configs
from noise_search.shapes.captions import captions
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train.clip import tokenizer
from noise_search.shapes.train.loop import Loss, Plan, fit

BATCH = 64
SCENES = 80_000
PROMPT_DROPOUT = 0.1
"""Share of the rows that learn the empty prompt, for guidance (Ho and Salimans 2022, arXiv 2207.12598)."""


def _is_hidden_matrix(name: str, weight: Tensor) -> bool:
    inside = "transformer_blocks." in name or ".layers." in name or ".block." in name
    return weight.ndim == 2 and inside and "norm" not in name and "bias" not in name


DDIM = Plan("ddim", steps=7300, rate=7e-4, bfloat16=False, decay_from=0.7)
FLOW = Plan("flow", steps=7900, rate=1e-3, decay_from=0.7, muon=_is_hidden_matrix)
SMALL = Plan("small", steps=4000, rate=1.2e-3, bfloat16=False, decay_from=0.6, muon=_is_hidden_matrix)
DDIM_LAYOUT_FROM, FLOW_LAYOUT_FROM, SMALL_LAYOUT_FROM = 2400, 2700, 1400
"""Steps after which training leans on high noise levels, where what and how many objects there are is decided; until
then the appearance of single objects is what there is to learn."""


@dataclass(frozen=True)
class Pool:
    """Latents `[scene, 4, 16, 16]` in half precision, caption index per scene, and token ids per distinct caption."""

    latents: Tensor
    caption: Tensor
    clip_ids: Tensor
    t5_ids: Tensor

    def batch(self, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Random rows: latents, CLIP ids and T5 ids; the last caption is the empty prompt."""
        rows = torch.randint(0, len(self.latents), (BATCH,), generator=generator)
        empty = torch.rand(BATCH, generator=generator) < PROMPT_DROPOUT
        which = torch.where(empty, len(self.clip_ids) - 1, self.caption[rows])
        latents = self.latents[rows].float().to(device)
        return latents, self.clip_ids[which].to(device), self.t5_ids[which].to(device)


@torch.no_grad()
def encode(directory: Path, seed: int, device: torch.device, scenes: int = SCENES) -> None:
    """Stage "latents": encode scenes with the trained autoencoder, and their captions with both tokenizers."""
    vae = AutoencoderKL.from_pretrained(directory / "vae").to(device).eval()
    drawn = sample_scenes(scenes, seed=seed + 17)
    texts = captions(drawn, seed=seed + 17)
    latents = torch.empty(scenes, 4, 16, 16, dtype=torch.float16)
    for start in range(0, scenes, 200):
        part = slice(start, min(start + 200, scenes))
        images = render(drawn[part]).to(device) * 2 - 1
        latents[part] = (vae.encode(images).latent_dist.mean * vae.config.scaling_factor).half().cpu()
    distinct = [*sorted(set(texts)), ""]
    index = {text: i for i, text in enumerate(distinct)}

    def ids(words: CLIPTokenizer | T5Tokenizer) -> Tensor:
        padded = words(distinct, padding="max_length", max_length=configs.LENGTH, truncation=True)
        return torch.tensor(padded.input_ids)

    tensors = {
        "latents": latents,
        "caption": torch.tensor([index[text] for text in texts]),
        "clip_ids": ids(tokenizer(directory, seed)),
        "t5_ids": ids(configs.t5_tokenizer()),
    }
    save_file(tensors, directory / "latents.safetensors")


def load_pool(directory: Path) -> Pool:
    """The cached latents of the stage "latents"."""
    return Pool(**load_file(directory / "latents.safetensors"))


def train_ddim(directory: Path, seed: int, device: torch.device, plan: Plan = DDIM) -> nn.ModuleDict:
    """Train the UNet and its text encoder on the epsilon loss (Ho et al. 2020, eq. 14)."""
    pool = load_pool(directory)
    model = ddim_modules(len(tokenizer(directory, seed)), seed).to(device)
    alphas = configs.ddim_scheduler().alphas_cumprod.to(device)
    weights = velocity_weights(alphas)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        latents, ids, _ = pool.batch(generator, device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        t = torch.randint(0, len(alphas), (BATCH,), generator=generator).to(device)
        signal = alphas[t].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        text = model["text_encoder"](ids).last_hidden_state
        made = model["unet"](noisy, t, text, return_dict=False)[0]
        error: Tensor = (made.float() - noise).square().flatten(1).mean(1)
        return (error * weights[t]).mean() if step >= DDIM_LAYOUT_FROM else error.mean()

    fit(plan, model, loss, directory / "checkpoints", seed + 2)
    return model


def velocity_weights(alphas_cumprod: Tensor) -> Tensor:
    """What the epsilon loss must be weighed with to count x0 errors as the flow's velocity loss does, mean 1.

    With a and s the signal and noise scales, an epsilon error is a/s times an x0 error, a velocity error (a + s)/s
    times: the square of their ratio is (1 + s/a)^2. Capped at 20, since the batches are small.
    """
    ratio = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
    weights = (1 + ratio).square().clamp(max=20)
    return weights / weights.mean()


def ddim_modules(vocabulary: int, seed: int) -> nn.ModuleDict:
    """The weights of `shapes-ddim` but for the autoencoder, as initialised from the seed."""
    torch.manual_seed(seed + 2)
    return nn.ModuleDict({"text_encoder": configs.clip_text(vocabulary), "unet": configs.unet()})


def pack(latents: Tensor) -> Tensor:
    """FLUX's tokens: `[batch, 4, 16, 16]` to `[batch, 64, 16]`, each token a 2 x 2 patch."""
    batch, channels, height, width = latents.shape
    patches = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, height * width // 4, channels * 4)


def train_flow(directory: Path, seed: int, device: torch.device, plan: Plan = FLOW) -> nn.ModuleDict:
    """Train the FLUX transformer and its text encoders on the velocity loss (Lipman et al. 2022, arXiv 2210.02747)."""
    model = flow_modules(len(tokenizer(directory, seed)), len(configs.t5_tokenizer()), seed).to(device)
    loss = velocity_loss(load_pool(directory), model, FLOW_LAYOUT_FROM)
    fit(plan, model, loss, directory / "checkpoints", seed + 3)
    return model


def train_small(
    directory: Path, encoders: nn.ModuleDict, seed: int, device: torch.device, plan: Plan = SMALL
) -> FluxTransformer2DModel:
    """Train a narrower transformer on the text encoders of the stage "flow", which stay as they are."""
    torch.manual_seed(seed + 4)
    small = configs.flux(configs.SMALL_WIDTH).to(device)
    model = nn.ModuleDict({**encoders.to(device).requires_grad_(False), "transformer": small})
    loss = velocity_loss(load_pool(directory), model, SMALL_LAYOUT_FROM)
    fit(plan, small, loss, directory / "checkpoints", seed + 4)
    return small


def velocity_loss(pool: Pool, model: nn.ModuleDict, layout_from: int) -> Loss:
    """The loss of a FLUX transformer and its text encoders; levels are drawn for layout from that step on."""
    device = next(model.parameters()).device
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    image_ids = torch.stack([torch.zeros_like(row), row, column], -1).reshape(64, 3).float().to(device)
    text_ids = torch.zeros(configs.LENGTH, 3, device=device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        latents, clip_ids, t5_ids = pool.batch(generator, device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        sigma = _noise_levels(generator, 0.8 if step >= layout_from else 0.0).to(device)
        share = sigma.view(-1, 1, 1, 1)
        made = model["transformer"](
            hidden_states=pack((1 - share) * latents + share * noise),
            encoder_hidden_states=model["text_encoder_2"](t5_ids).last_hidden_state,
            pooled_projections=model["text_encoder"](clip_ids).pooler_output,
            timestep=sigma,
            img_ids=image_ids,
            txt_ids=text_ids,
            return_dict=False,
        )[0]
        return F.mse_loss(made.float(), pack(noise - latents))

    return loss


def _noise_levels(generator: torch.Generator, centre: float) -> Tensor:
    """Logit-normal levels (Esser et al. 2024, arXiv 2403.03206), a fifth of them uniform for the ends."""
    logit_normal = torch.sigmoid(centre + torch.randn(BATCH, generator=generator))
    uniform = torch.rand(BATCH, generator=generator)
    return torch.where(torch.rand(BATCH, generator=generator) < 0.2, uniform, logit_normal)


def flow_modules(vocabulary: int, t5_vocabulary: int, seed: int) -> nn.ModuleDict:
    """The weights of `shapes-flow` but for the autoencoder, as initialised from the seed."""
    torch.manual_seed(seed + 3)
    return nn.ModuleDict(
        {
            "text_encoder": configs.clip_text(vocabulary),
            "text_encoder_2": configs.t5(t5_vocabulary),
            "transformer": configs.flux(),
        }
    )
