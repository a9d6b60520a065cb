"""Searches over tiny pipelines of several families, and over some that can't be driven in full.

Ledgers are exact, a winner is one that plain diffusers repeats; what is left works, and what isn't is refused with the
reason.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import diffusers
import numpy as np
import pytest
import torch

import noise_search
from noise_search.algorithms.base import Job
from tiny.pipelines import SD_BETAS, stock_images, tiny
from tiny.search import ParticleSearch, brightness, scores

SIZE = {"height": 16, "width": 16}
SIZES = {"candidates": 2, "steps": 3, "batch_size": 2, "progress": False, "judges": []}
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
    return (images[:, 0] - images[:, 1]).mean((1, 2))


def redness_and_prompt(images, prompts):
    return redness(images, prompts) + 0.001 * torch.tensor([len(p) for p in prompts])


@pytest.mark.parametrize("name", FAMILIES)
def test_two_prompts_in_lockstep(name):
    make, ours, plain, rows = FAMILIES[name]
    options = {"candidates": 3, "seed": 7, "steps": 2, "batch_size": 3, "progress": False}
    results = noise_search.search(PROMPTS, model=make(), verifier=redness_and_prompt, **options, **SIZE, **ours)
    ledgers = [result.ledger for result in results]
    assert sum(one.denoiser_rows for one in ledgers) == rows * sum(one.nfe for one in ledgers) == rows * 2 * 3 * 2
    assert sum(one.nfe_waste for one in ledgers) == 0
    for prompt, result in zip(PROMPTS, results, strict=True):
        assert [c.seed for c in result.candidates] == [7, 8, 9]
        seeds = [torch.Generator().manual_seed(seed) for seed in (7, 8, 9)]
        call = {"prompt": prompt, "num_inference_steps": 2, "output_type": "pt", **SIZE, **plain}
        images = [make()(generator=seed, **call)[0] for seed in seeds]
        expected = redness_and_prompt(torch.cat(images), [prompt] * 3)
        assert scores(result) == pytest.approx(expected.tolist(), abs=1e-5)
        best = images[result.best.seed - 7][0].movedim(0, -1).numpy()
        assert result.best.seed == 7 + int(expected.argmax())
        assert np.abs(np.asarray(result.image) / 255 - best).max() < 3e-3


@dataclass(frozen=True)
class TurnOnce:
    """A stub: one neighbour of the first noise."""

    name: ClassVar[str] = "stub-turn"
    whole_calls: ClassVar[bool] = True
    moves_noise: ClassVar[bool] = True

    def plan(self, problem):
        first = problem.fresh(1)
        yield Job(first, problem.space.end)
        yield Job(problem.space.neighbour(first, problem.seeds(1), 0.9), problem.space.end)


def search(model, prompt="a cat", **options):
    return noise_search.search(prompt, model=model, verifier=redness, **SIZES | options)


def lcm():
    return tiny("sd", diffusers.LCMScheduler(**SD_BETAS))


@pytest.mark.parametrize("algorithm", ["random", TurnOnce()])
def test_an_unknown_scheduler_runs_whole(algorithm):
    result = search(lcm(), algorithm=algorithm)
    assert result.settings["sampler"]["note"] == "LCMScheduler as it is, since every trajectory runs whole"
    ledger = result.ledger
    assert ledger.denoiser_rows == 2 * (ledger.nfe + ledger.nfe_waste) == 2 * 2 * 3
    first = result.candidates[0]
    expected = stock_images(lcm(), ["a cat"], [first.recipe.seed], num_inference_steps=3)
    assert first.score == pytest.approx(float(redness(expected, [])), abs=1e-5)


def test_noise_of_its_own_is_searched_by_seeds():
    pipe = tiny("by-itself")
    with pytest.warns(UserWarning, match="searching over seeds of whole calls"):
        result = search(pipe, seed=3)
    seed = result.recipe.seed
    expected = pipe(generator=torch.Generator().manual_seed(seed), num_inference_steps=3)[0]
    assert seed in (3, 4) and result.score == pytest.approx(float(redness(expected, [])), abs=1e-6)
    assert result.ledger.denoiser_rows == result.ledger.nfe + result.ledger.nfe_waste


def test_class_labels_are_prompts():
    result = search(tiny("dit"), "golden retriever")
    seed = torch.Generator().manual_seed(result.recipe.seed)
    expected = tiny("dit")([207], generator=seed, num_inference_steps=3, output_type="pt").images
    assert result.score == pytest.approx(float(redness(expected, [])), abs=1e-5)
    with pytest.raises(ValueError, match="'a dog' is no class of this pipeline"):
        search(tiny("dit"), "a dog")


def test_what_needs_more_than_there_is_names_the_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"only run them whole \(LCMScheduler has no first-order rule here\)"):
            search(lcm(), algorithm=ParticleSearch())
        with pytest.raises(ValueError, match=r"'stub-turn' moves noises.*\(DrawsByItself.* draws its noise by itself"):
            search(tiny("by-itself"), algorithm=TurnOnce())


def test_searches_by_name_nest_and_wait_for_each_other_in_threads():
    """A web demo searches in a thread for each visitor; a callback may search too."""

    def found(prompt, **options):
        result = noise_search.search(
            prompt, candidates=2, steps=2, batch_size=1, verifier=brightness, progress=False, **options
        )
        return result.score

    inner = []
    alone = {prompt: found(prompt) for prompt in ("a", "b")}
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(found, ("a", "b"))) == [alone["a"], alone["b"]]
    assert found("a", on_candidate=lambda candidate: inner.append(found("b"))) == alone["a"]
    assert inner == [alone["b"]] * 2
