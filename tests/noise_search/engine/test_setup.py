"""What bad input gets: one line that names the value, what is allowed, and the nearest match."""

import re
import shutil

import pytest
import torch

from noise_search import RandomSearch
from noise_search.shapes import EMBEDDED_MODELS, EMBEDDED_VERIFIERS, embedded_verifier
from tiny.search import CountingSampler, ParticleSearch, brightness, contrast, toy_search
from verifiers import FunctionVerifier, MeanRank


def refused(match, kind=ValueError, **options):
    sampler = options.setdefault("model", CountingSampler())
    with pytest.raises(kind, match=match) as caught:
        toy_search(**options)
    assert "\n" not in str(caught.value) and getattr(sampler, "rows", 0) == 0, "something was computed before"


def named(value):
    """Words of a case: an object's own words would hold its address."""
    return re.sub(r"\W+", "-", value if isinstance(value, str) else " ".join(value))[:40]


def without_stops():
    sampler = CountingSampler()
    sampler.can_stop = False
    return sampler


EMBEDDED = {"model": "shapes-flow", "verifier": "clip"}
VALUES = [
    ({"prompt": "  "}, "empty"),
    ({"prompt": ["a", ""]}, "empty"),
    ({"prompt": []}, "no prompt"),
    ({"nfe": 7}, r"nfe=7 is below one trajectory of 8 steps; the least budget that works is nfe=8"),
    ({"nfe": 0}, "nfe=0"),
    ({"candidates": 0}, "candidates=0.*candidates=1"),
    ({"nfe": 8, "candidates": 1}, "two budgets"),
    ({"patience": 0}, "patience=0"),
    ({"batch_size": -1}, "batch_size=-1"),
    ({"time_limit": 0}, "time_limit=0"),
    ({"seed": -1}, "seed=-1"),
    ({"target_score": float("nan")}, "target_score=nan"),
    ({"target_score": 0.5, "verifier": [brightness, contrast], "ensemble": "mean-rank"}, "only ranks a pool"),
    ({"height": 0, **EMBEDDED}, "height=0"),
    ({"steps": 0, **EMBEDDED}, "steps=0"),
    ({"eta": 2.0, **EMBEDDED}, "eta=2.0 must be from 0"),
    ({"device": "gpu", **EMBEDDED}, "device 'gpu' can't be used here"),
    ({"device": "cpu"}, "device: only for models that are loaded by name"),
    ({"steps": 4}, "own settings"),
    ({"algorithm": "randon"}, "unknown algorithm 'randon'; did you mean 'random'"),
    ({"verifier": "clipp"}, "unknown verifier 'clipp'; did you mean 'clip'"),
    ({"judges": ["shapes-oracel"]}, "unknown judge 'shapes-oracel'; did you mean 'shapes-oracle'"),
    ({"judges": ["nobody"]}, "unknown judge"),
    ({"judges": ["oracle"]}, "oracle"),
    ({"judges": [contrast, brightness]}, "judge 'brightness' is a verifier of the search, too .*held out"),
    ({"verifier": [contrast, FunctionVerifier(brightness, "mine")], "judges": [brightness]}, "judge 'brightness' is a"),
    ({"verifier": MeanRank("clip", "aesthetic"), "judges": ["shapes-clip"], **EMBEDDED}, "judge 'clip' is a verifier"),
    (
        {"verifier": embedded_verifier(EMBEDDED_VERIFIERS["shapes-clip"]), "judges": ["clip"], **EMBEDDED},
        "judge 'clip'",
    ),
    ({"model": "shapes-flw"}, "unknown model 'shapes-flw'; did you mean 'shapes-flow'"),
    ({"model": ""}, "unknown model ''"),
    ({"verifier": []}, "no verifier"),
    (
        {"model": without_stops(), "algorithm": ParticleSearch()},
        "algorithm 'stub-particles' stops inside trajectories",
    ),
]
KINDS = [
    ({"prompt": [3]}, "int"),
    ({"prompt": None}, "prompt None is a NoneType"),
    ({"nfe": 8.5}, "whole number"),
    ({"candidates": True}, "candidates=True must be a whole number"),
    ({"batch_size": 2.5}, "batch_size=2.5 must be a whole number"),
    ({"top_k": 2.5}, "top_k=2.5 must be a whole number"),
    ({"patience": 2.5}, "patience=2.5 must be a whole number"),
    ({"target_score": "0.5"}, "target_score='0.5' is a str"),
    ({"time_limit": "5"}, "time_limit='5' is a str"),
    ({"width": 64.5, **EMBEDDED}, "width=64.5"),
    ({"guidance": "7", **EMBEDDED}, "guidance='7' is a str"),
    ({"dtype": "float16", **EMBEDDED}, "dtype 'float16' is a str"),
    ({"algorithm": RandomSearch}, "RandomSearch"),
    ({"algorithm": object()}, "plan"),
    ({"verifier": 3}, "can't score"),
    ({"model": torch.nn.Linear(2, 2)}, "DiffusionPipeline"),
]


@pytest.mark.parametrize(("options", "match"), VALUES, ids=named)
def test_values_that_make_no_sense_are_refused(options, match):
    refused(match, **options)


@pytest.mark.parametrize(("options", "match"), KINDS, ids=named)
def test_values_of_the_wrong_kind_are_refused(options, match):
    refused(match, TypeError, **options)


def test_directories_that_hold_no_pipeline_are_refused(tmp_path):
    refused("model_index.json", model=str(tmp_path))
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "noise_search.json").write_text("{nonsense")
    refused("could not be loaded|JSON", model=str(tmp_path))
    (tmp_path / "model_index.json").write_text('{"_class_name": "NoPipeline", "_diffusers_version": "0.40"}')
    refused("could not be loaded.*NoPipeline", model=str(tmp_path))


def test_a_card_that_names_a_missing_file_says_which(tmp_path):
    copy = shutil.copytree(EMBEDDED_MODELS["shapes-ddim"], tmp_path / "alone")
    refused(r"noise_search.json names '../clip', and there is no", model=str(copy), verifier="clip")
