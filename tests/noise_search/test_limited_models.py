"""Searches over pipelines that can't be driven in full: what is left works, what isn't is refused with the reason."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import diffusers
import pytest
import torch

import noise_search
from noise_search.algorithms.base import Job
from tiny.pipelines import SD_BETAS, stock_images, tiny
from tiny.search import ParticleSearch

SIZES = {"steps": 3, "batch_size": 2, "progress": False, "judges": []}


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


def redness(images, prompts):
    return (images[:, 0] - images[:, 1]).mean((1, 2))


def search(model, **options):
    return noise_search.search("a cat", model=model, verifier=redness, candidates=2, **SIZES | options)


def lcm():
    return tiny("sd", diffusers.LCMScheduler(**SD_BETAS))


@pytest.mark.parametrize("algorithm", ["random", TurnOnce()])
def test_an_unknown_scheduler_runs_whole(algorithm):
    with pytest.warns(UserWarning, match="LCMScheduler has no first-order rule here: running it whole"):
        result = search(lcm(), algorithm=algorithm)
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
    result = noise_search.search("golden retriever", model=tiny("dit"), verifier=redness, candidates=2, **SIZES)
    seed = torch.Generator().manual_seed(result.recipe.seed)
    expected = tiny("dit")([207], generator=seed, num_inference_steps=3, output_type="pt").images
    assert result.score == pytest.approx(float(redness(expected, [])), abs=1e-5)
    with pytest.raises(ValueError, match="'a dog' is no class of this pipeline"):
        noise_search.search("a dog", model=tiny("dit"), verifier=redness, candidates=2, **SIZES)


def test_what_needs_more_than_there_is_names_the_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"only run them whole \(LCMScheduler has no first-order rule here\)"):
            search(lcm(), algorithm=ParticleSearch())
        with pytest.raises(ValueError, match=r"'stub-turn' moves noises.*\(DrawsByItself.* draws its noise by itself"):
            search(tiny("by-itself"), algorithm=TurnOnce())
