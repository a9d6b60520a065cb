"""What bad input gets: one line that names the value, what is allowed, and the nearest match."""

import shutil

import pytest
import torch

from noise_search import RandomSearch, search
from noise_search.shapes import EMBEDDED_MODELS
from tiny.search import CountingSampler, ParticleSearch, brightness


def refused(match, error=ValueError, **options):
    settings = {
        "prompt": "a red circle",
        "model": CountingSampler(),
        "verifier": brightness,
        "progress": False,
    }
    settings |= options
    with pytest.raises(error, match=match) as caught:
        search(settings.pop("prompt"), **settings)
    assert "\n" not in str(caught.value)


def test_prompts():
    refused("empty", prompt="  ")
    refused("empty", prompt=["a", ""])
    refused("no prompt", prompt=[])
    refused("int", TypeError, prompt=[3])
    refused("prompt None is a NoneType", TypeError, prompt=None)


def test_budgets():
    refused(r"nfe=7 is below one trajectory of 8 steps; the least budget that works is nfe=8", nfe=7)
    refused("nfe=0", nfe=0)
    refused("candidates=0.*candidates=1", candidates=0)
    refused("two budgets", nfe=8, candidates=1)
    refused("whole number", TypeError, nfe=8.5)
    refused("patience=0", patience=0)
    refused("batch_size=-1", batch_size=-1)
    refused("time_limit=0", time_limit=0)
    refused("seed=-1", seed=-1)
    refused("candidates=True must be a whole number", TypeError, candidates=True)


def test_settings_of_the_wrong_kind_are_refused_before_anything_is_computed():
    for name in ("batch_size", "top_k", "patience"):
        refused(f"{name}=2.5 must be a whole number", TypeError, **{name: 2.5})
    refused("target_score='0.5' is a str", TypeError, target_score="0.5")
    refused("target_score=nan", target_score=float("nan"))
    refused("time_limit='5' is a str", TypeError, time_limit="5")
    embedded = {"model": "shapes-flow", "verifier": "clip"}
    refused("height=0", height=0, **embedded)
    refused("width=64.5", TypeError, width=64.5, **embedded)
    refused("steps=0", steps=0, **embedded)
    refused("guidance='7' is a str", TypeError, guidance="7", **embedded)
    refused("eta=2.0 must be from 0", eta=2.0, **embedded)
    refused("dtype 'float16' is a str", TypeError, dtype="float16", **embedded)
    refused("device 'gpu' can't be used here", device="gpu", **embedded)
    refused("device and dtype", device="cpu")


def test_names():
    refused("unknown algorithm 'randon'; did you mean 'random'", algorithm="randon")
    refused("unknown verifier 'clipp'; did you mean 'clip'", verifier="clipp")
    refused("unknown judge 'shapes-oracel'; did you mean 'shapes-oracle'", judges=["shapes-oracel"])
    refused("unknown model 'shapes-flw'; did you mean 'shapes-flow'", model="shapes-flw")
    refused("oracle", judges=["oracle"])


def test_objects():
    refused("RandomSearch", TypeError, algorithm=RandomSearch)
    refused("plan", TypeError, algorithm=object())
    refused("can't score", TypeError, verifier=3)
    refused("no verifier", verifier=[])
    refused("DiffusionPipeline", TypeError, model=torch.nn.Linear(2, 2))
    refused("own settings", steps=4)


def test_directories(tmp_path):
    refused("model_index.json", model=str(tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "noise_search.json").write_text("{nonsense")
    refused("could not be loaded|JSON", model=str(tmp_path))
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoPipeline", "_diffusers_version": "0.40"}')
    refused("could not be loaded.*NoPipeline", model=str(tmp_path))
    refused("unknown model ''", model="")


def test_a_card_that_names_a_missing_file_says_which(tmp_path):
    copy = shutil.copytree(EMBEDDED_MODELS["shapes-ddim"], tmp_path / "alone")
    refused(r"noise_search.json names '../clip', and there is no", model=str(copy), verifier="clip")


def test_an_algorithm_that_stops_needs_a_sampler_that_can():
    sampler = CountingSampler()
    sampler.can_stop = False
    refused("algorithm 'stub-particles' stops inside trajectories", model=sampler, algorithm=ParticleSearch())


def test_nothing_is_computed_before_a_refusal():
    sampler = CountingSampler()
    with pytest.raises(ValueError, match="unknown judge"):
        search("a", model=sampler, verifier=brightness, judges=["nobody"], progress=False)
    assert sampler.rows == 0
