"""Searches over tiny pipelines of several families: exact ledgers, and a winner that plain diffusers repeats."""

from functools import partial

import numpy as np
import pytest
import torch

import noise_search
from tiny.pipelines import tiny

SIZE = {"height": 16, "width": 16}
PROMPTS = ["a cat", "two dogs on a red sofa"]
FAMILIES = {  # how to call search(), and the plain pipeline, and denoiser rows per NFE
    "sd3": (
        partial(tiny, "sd3"),
        {"guidance": 5.0, "model_options": {"max_sequence_length": 12}},
        {"guidance_scale": 5.0, "max_sequence_length": 12},
        2,
    ),
    "qwen-image": (
        partial(tiny, "qwen-image"),
        {"negative_prompt": " ", "model_options": {"true_cfg_scale": 4.0}},
        {"negative_prompt": " ", "true_cfg_scale": 4.0},
        2,
    ),
    "z-image": (
        partial(tiny, "z-image"),
        {"guidance": 0.5, "model_options": {"max_sequence_length": 64}},
        {"guidance_scale": 0.5, "max_sequence_length": 64},
        2,
    ),
    "flux2": (
        partial(tiny, "flux2"),
        {"model_options": {"max_sequence_length": 32, "text_encoder_out_layers": (0, 1, 2)}},
        {"max_sequence_length": 32, "text_encoder_out_layers": (0, 1, 2)},
        1,
    ),
}


def redness(images, prompts):
    return (images[:, 0] - images[:, 1]).mean((1, 2)) + 0.001 * torch.tensor([len(p) for p in prompts])


@pytest.mark.parametrize("name", FAMILIES)
def test_two_prompts_in_lockstep(name):
    make, ours, plain, rows = FAMILIES[name]
    results = noise_search.search(
        PROMPTS,
        model=make(),
        verifier=redness,
        candidates=3,
        seed=7,
        steps=2,
        batch_size=3,
        progress=False,
        **SIZE,
        **ours,
    )
    ledgers = [result.ledger for result in results]
    assert sum(one.denoiser_rows for one in ledgers) == rows * sum(one.nfe for one in ledgers) == rows * 2 * 3 * 2
    assert sum(one.nfe_waste for one in ledgers) == 0
    for prompt, result in zip(PROMPTS, results, strict=True):
        assert [c.seed for c in result.candidates] == [7, 8, 9]
        images = [
            make()(
                prompt=prompt,
                generator=torch.Generator().manual_seed(seed),
                num_inference_steps=2,
                output_type="pt",
                **SIZE,
                **plain,
            )[0]
            for seed in (7, 8, 9)
        ]
        scores = redness(torch.cat(images), [prompt] * 3)
        assert [c.score for c in result.candidates] == pytest.approx(scores.tolist(), abs=1e-5)
        best = images[result.best.seed - 7][0].movedim(0, -1).numpy()
        assert result.best.seed == 7 + int(scores.argmax())
        assert np.abs(np.asarray(result.image) / 255 - best).max() < 3e-3
