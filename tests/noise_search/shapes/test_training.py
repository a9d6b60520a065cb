"""Training: resumable, keyed by the step, and in the pipelines' own conventions."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import nn

from noise_search.shapes import EMBEDDED_MODELS, SMALL, configs
from noise_search.shapes.captions import captions
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train import clip, pipelines
from noise_search.shapes.train.loop import Plan, averaged, checkpoint_step, fit


def regress(directory, steps, total=40):
    """Fit a matrix to a fixed target, stopping after `steps` of `total`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))

    def loss(step, generator):
        if step >= steps:
            raise KeyboardInterrupt
        x = torch.randn(16, 6, generator=generator)
        return (model(x) - x[:, :4]).square().mean()

    plan = Plan("toy", total, rate=1e-2, bfloat16=False, decay_from=0.5, muon=lambda n, p: n == "0.weight")
    fit(plan, model, loss, directory, seed=3)
    return model


def test_an_interrupted_training_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = regress(tmp_path / "whole", 40)
    monkeypatch.setattr("noise_search.shapes.train.loop.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        regress(tmp_path / "cut", 17)
    assert checkpoint_step(tmp_path / "cut" / "toy") == 17
    resumed = regress(tmp_path / "cut", 40)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    final = averaged(tmp_path / "cut" / "toy")
    assert all(torch.equal(final[name], p) for name, p in resumed.named_parameters())


def test_a_loss_that_is_no_number_ends_training(tmp_path):
    model = nn.Linear(2, 2)
    plan = Plan("toy", 3, rate=1e-2, bfloat16=False)
    with pytest.raises(FloatingPointError, match="stage toy: the loss of step 1 is nan"):
        fit(plan, model, lambda step, generator: model.weight.sum() * (torch.nan if step else 1.0), tmp_path, seed=0)


def test_the_small_denoiser_is_trained_on_text_encoders_that_stay(tmp_path):
    shutil.copytree(EMBEDDED_MODELS["shapes-flow"] / "vae", tmp_path / "vae")
    configs.write_clip_tokenizer(captions(sample_scenes(3000, 0), 0), tmp_path / "tokenizer")
    pipelines.encode(tmp_path, 0, torch.device("cpu"), scenes=80)
    encoders = pipelines.text_encoders(EMBEDDED_MODELS["shapes-flow"])
    before = {name: weight.clone() for name, weight in encoders.state_dict().items()}
    torch.manual_seed(4)
    untrained = configs.flux(configs.SMALL_WIDTH)
    plan = Plan("small", 2, rate=1e-3, bfloat16=False)
    small = pipelines.train_small(tmp_path, encoders, 0, torch.device("cpu"), plan)
    assert all(torch.equal(before[name], weight) for name, weight in encoders.state_dict().items())
    moved = [not torch.equal(a, b) for a, b in zip(untrained.parameters(), small.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    pipelines.save_small(small, tmp_path)
    read = FluxTransformer2DModel.from_pretrained(tmp_path / SMALL / "transformer")
    assert read.config.num_attention_heads == small.config.num_attention_heads == 2
    assert torch.allclose(read.proj_out.weight.float(), small.proj_out.weight.float(), atol=1e-3)


def test_tokens_are_packed_as_the_flux_pipeline_packs_them():
    latents = torch.randn(2, 4, 16, 16)
    assert torch.equal(pipelines.pack(latents), FluxPipeline._pack_latents(latents, 2, 4, 16, 16))


def test_velocity_weights_turn_the_epsilon_error_into_the_velocity_error():
    alphas = configs.ddim_scheduler().alphas_cumprod[:400]
    signal, noise = alphas.sqrt(), (1 - alphas).sqrt()
    x0_error = torch.rand(400)
    as_velocity, as_epsilon = (x0_error * (signal + noise) / noise) ** 2, (x0_error * signal / noise) ** 2
    ratio = as_velocity / (as_epsilon * pipelines.velocity_weights(alphas))
    inside = (1 + noise / signal).square() < 20
    assert ratio[inside].std() < 1e-4 * ratio[inside].mean() and inside.sum() > 100


def test_quarter_crops_tile_the_rolled_canvas():
    images = render(sample_scenes(3, 0))
    tiles = pipelines.quarters(images, torch.Generator().manual_seed(0))
    assert tiles.shape == (12, 3, 32, 32)
    assert tiles.sum() == pytest.approx(float(images.sum()), rel=1e-5)


def test_the_rule_of_composition_prefers_balance_and_contrast():
    scenes = sample_scenes(4000, 5, families=("single",))
    score = clip.composition(scenes)
    middle = (abs(scenes.x[:, 0] - 32) + abs(scenes.y[:, 0] - 32)) <= 8
    assert 0 < score.min() and score.max() < 11
    assert score[middle].mean() > score[~middle].mean() + 1
    assert score[scenes.large[:, 0]].mean() > score[~scenes.large[:, 0]].mean()


def test_the_command_trains_a_stage(tmp_path):
    command = [sys.executable, "-m", "noise_search.shapes.train", "vae", "--out", str(tmp_path), "--steps", "2"]
    done = subprocess.run([*command, "--device", "cpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").exists()
    refused = subprocess.run([*command[:4], "unett"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "unknown stages ['unett']" in refused.stderr


def test_the_models_cards_are_those_that_training_writes():
    for name, folder in EMBEDDED_MODELS.items():
        assert json.loads((folder / "noise_search.json").read_text(encoding="utf-8")) == pipelines.card_of(name)
