"""Stages "vae" to "small": the two pipelines from a seed, and put together on disk in half precision.

The autoencoder comes first and is shared; the denoisers learn with their text encoders on its cached latents.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer, T5Tokenizer

from noise_search.shapes import DECLARED_VERIFIERS, SMALL, TINY, configs
from noise_search.shapes.captions import captions
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train.clip import tokenizer
from noise_search.shapes.train.loop import Loss, Plan, averaged, fit

STEPS = 20
GUIDANCE = {"shapes-ddim": 4.0, "shapes-flow": 2.5}
WHOLE_FROM = 0.85
"""Share of the steps after which whole canvases replace quarter crops: group norms see the statistics of use."""
BATCH = 64
SCENES = 80_000
PROMPT_DROPOUT = 0.1
"""Share of the rows that learn the empty prompt, for guidance (Ho and Salimans 2022, arXiv 2207.12598)."""


def _is_hidden_matrix(name: str, weight: Tensor) -> bool:
    inside = "transformer_blocks." in name or ".layers." in name or ".block." in name
    return weight.ndim == 2 and inside and "norm" not in name and "bias" not in name


VAE = Plan("vae", steps=6000, rate=2e-3)
DDIM = Plan("ddim", steps=7300, rate=7e-4, bfloat16=False, decay_from=0.7)
FLOW = Plan("flow", steps=7900, rate=1e-3, decay_from=0.7, muon=_is_hidden_matrix)
SMALL_FLOW = Plan("small", steps=4000, rate=1.2e-3, bfloat16=False, decay_from=0.6, muon=_is_hidden_matrix)
DDIM_LAYOUT_FROM, FLOW_LAYOUT_FROM, SMALL_LAYOUT_FROM = 2400, 2700, 1400
"""Steps after which training leans on high noise levels, where what and how many objects there are is decided; until
then the appearance of single objects is what there is to learn."""


def _pixels(step: int, seed: int, scenes: int) -> Tensor:
    return render(sample_scenes(scenes, seed=seed * 100_003 + step)) * 2 - 1


def quarters(images: Tensor, generator: torch.Generator) -> Tensor:
    """Four 32 x 32 crops of each 64 x 64 canvas, rolled by a random whole number of pixels."""
    down, right = (int(v) for v in torch.randint(0, 32, (2,), generator=generator))
    tiles = images.roll((down, right), (2, 3)).unfold(2, 32, 32).unfold(3, 32, 32)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Pixel and gradient error, object pixels weighted up: they cover a few per cent of a canvas."""
    background = wanted.flatten(2).median(2).values[:, :, None, None]
    objects = ((wanted - background).abs().amax(1, keepdim=True) > 0.2).float()
    weight = 1 + 12 * F.max_pool2d(objects, 3, 1, 1)
    error = made - wanted
    across = ((error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]).mean()
    down = ((error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]).mean()
    return (weight * (error.square() + 0.3 * error.abs())).mean() + 0.2 * (across + down)


def train_vae(directory: Path, seed: int, device: torch.device, plan: Plan = VAE) -> AutoencoderKL:
    """Train the autoencoder, set its scaling factor, and save it under `vae/`."""
    torch.manual_seed(seed)
    model = configs.vae().to(device)

    def loss(step: int, generator: torch.Generator) -> Tensor:
        images = _pixels(step, seed, 16)
        if step < WHOLE_FROM * plan.steps:
            images = quarters(images, generator)
        images = images.to(device)
        posterior = model.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        latents = posterior.mean + posterior.std * noise
        made = model.decode(latents).sample.float()
        divergence: Tensor = posterior.kl().mean() / latents[0].numel()
        return reconstruction_loss(made, images) + 2e-3 * divergence

    fit(plan, model, loss, directory / "checkpoints", seed)
    return _finish(model, directory)


@torch.no_grad()
def _finish(model: AutoencoderKL, directory: Path) -> AutoencoderKL:
    """Set the scaling factor so that latents have unit variance, and save the model."""
    images = render(sample_scenes(256, seed=7)).to(model.device) * 2 - 1
    latents = torch.cat([model.encode(part).latent_dist.mean for part in torch.split(images, 64)])
    model.register_to_config(scaling_factor=float(1 / latents.std()))
    model.save_pretrained(directory / "vae")
    return model.eval()


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
    directory: Path, encoders: nn.ModuleDict, seed: int, device: torch.device, plan: Plan = SMALL_FLOW
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


def _fill(modules: nn.ModuleDict, weights: dict[str, Tensor]) -> nn.ModuleDict:
    with torch.no_grad():
        for name, weight in modules.named_parameters():
            weight.copy_(weights[name])
    return modules.eval()


def ddim_pipeline(directory: Path, seed: int) -> StableDiffusionPipeline:
    """`shapes-ddim` from the checkpoint of the stage "ddim", in float32."""
    words = tokenizer(directory, seed)
    modules = _fill(ddim_modules(len(words), seed), averaged(directory / "checkpoints" / "ddim"))
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(directory / "vae"),
        text_encoder=modules["text_encoder"],
        tokenizer=words,
        unet=modules["unet"],
        scheduler=configs.ddim_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flow_pipeline(directory: Path, seed: int) -> FluxPipeline:
    """`shapes-flow` from the checkpoint of the stage "flow", in float32."""
    words, t5_words = tokenizer(directory, seed), configs.t5_tokenizer()
    modules = _fill(flow_modules(len(words), len(t5_words), seed), averaged(directory / "checkpoints" / "flow"))
    return FluxPipeline(
        scheduler=configs.flow_scheduler(),
        vae=AutoencoderKL.from_pretrained(directory / "vae"),
        text_encoder=modules["text_encoder"],
        tokenizer=words,
        text_encoder_2=modules["text_encoder_2"],
        tokenizer_2=t5_words,
        transformer=modules["transformer"],
    )


def call_arguments(name: str) -> dict[str, Any]:
    """The keyword arguments with which a plain call of the pipeline does what the card says."""
    card = card_of(name)
    return {
        "height": card["height"],
        "width": card["width"],
        "num_inference_steps": card["steps"],
        card["guidance_argument"]: card["guidance"],
        "negative_prompt": card["negative_prompt"],
        **card["options"],
    }


def card_of(name: str) -> dict[str, Any]:
    """The content of `noise_search.json` for an embedded model."""
    flow = name == "shapes-flow"
    return {
        "version": 1,
        "height": 64,
        "width": 64,
        "steps": STEPS,
        "guidance_argument": "true_cfg_scale" if flow else "guidance_scale",
        "guidance": GUIDANCE[name],
        "negative_prompt": "",
        "options": {"max_sequence_length": configs.LENGTH} if flow else {},
        "verifiers": dict(DECLARED_VERIFIERS),
        "preview": f"../{TINY}",
    }


def save(pipe: StableDiffusionPipeline | FluxPipeline, name: str, weights: Path) -> None:
    """Save a pipeline in half precision with its card."""
    folder = weights / name
    pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
    _clean(folder)
    (folder / "noise_search.json").write_text(json.dumps(card_of(name), indent=2) + "\n", encoding="utf-8")


def text_encoders(folder: Path) -> nn.ModuleDict:
    """The text encoders of a finished FLUX pipeline, in float32."""
    pipe = FluxPipeline.from_pretrained(folder, transformer=None, vae=None)
    return nn.ModuleDict({"text_encoder": pipe.text_encoder, "text_encoder_2": pipe.text_encoder_2})


def save_small(transformer: FluxTransformer2DModel, weights: Path) -> None:
    """Save the narrower denoiser in half precision; all else is `shapes-flow`'s."""
    transformer.to(torch.float16).save_pretrained(weights / SMALL / "transformer", safe_serialization=True)
    _clean(weights / SMALL)


def _clean(folder: Path) -> None:
    for file in folder.glob("*/config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # where the part lay during training
        if file.parent.name.startswith("text_encoder"):
            # transformers loads in the dtype that the configuration names, diffusers in float32: make them agree.
            config["dtype"] = "float32"
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
