"""Compiled denoisers: the same pictures, a graph for each shape and block, and what can't be compiled runs as it is.

The backend is dynamo's "eager", which traces graphs as any other and needs no C++ compiler.
"""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from noise_search import search
from noise_search.settings import ModelSettings
from samplers.pipelines import compiling, denoisers
from samplers.pipelines.compiling import compile_denoisers
from samplers.pipelines.sampler import PipelineSampler
from tiny.pipelines import FLUX, tiny


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiling, "BACKEND", "eager")


def graphs():
    return counters["stats"]["unique_graphs"]


def final(pipe, rows, steps=3, **options):
    sampler = PipelineSampler(pipe, steps=steps, **options)
    noise = sampler.space().fresh(list(range(rows)), condition=sampler.condition("a cat"))
    with sampler:
        return sampler.run(noise, sampler.space().end).final.x, sampler


def test_blocks_are_compiled_once_for_all_steps_batches_and_blocks_that_are_alike():
    plain = tiny("flux")
    pipe = copy.copy(plain)
    pipe.transformer = copy.deepcopy(plain.transformer)
    compiled = compile_denoisers(denoisers.find(pipe).values(), "regional")
    expected, before = final(plain, 2, **FLUX)
    found, sampler = final(pipe, 2, **FLUX)
    assert (found - expected).abs().max() < 1e-5
    once = graphs()
    assert once >= 2 and compiled.seconds > 0 and not compiled.failed, "both kinds of its blocks"
    seconds = sampler.compile_seconds
    assert seconds == compiled.seconds and before.compile_seconds == 0
    final(pipe, 2, steps=5, **FLUX)
    assert graphs() == once and sampler.compile_seconds == seconds
    assert sampler.describe() == before.describe(), "it is the same model, whatever makes it faster"
    final(pipe, 3, **FLUX)
    assert graphs() > once, "another shape is another graph: so batches are padded to one"


def test_a_class_that_names_no_blocks_is_compiled_whole_which_is_said(caplog):
    plain = tiny("sd3")
    expected, _ = final(plain, 1, height=16, width=16)
    compile_denoisers(denoisers.find(plain).values(), "regional")
    assert "SD3Transformer2DModel names no repeated blocks: it is compiled whole" in caplog.text
    found, _ = final(plain, 1, height=16, width=16)
    assert (found - expected).abs().max() < 1e-5 and graphs() >= 1


def test_what_can_not_be_compiled_runs_as_it_is_which_is_said_once(monkeypatch, caplog):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    pipe = tiny("flux")
    expected, _ = final(pipe, 1, **FLUX)
    compiled = compile_denoisers(denoisers.find(pipe).values(), "regional")
    found, _ = final(pipe, 1, **FLUX)
    assert compiled.failed and torch.equal(found, expected)
    assert caplog.text.count("can't be compiled") == 1 and "no compiler here" in caplog.text


def test_an_error_of_the_model_is_its_own():
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x @ torch.ones(3, 5)

    module = Broken()
    compile_denoisers([module], "whole")
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        module(torch.ones(2, 2))


def test_a_search_pads_to_one_shape_and_says_what_compiling_took(tmp_path, capsys):
    tiny("flux").save_pretrained(tmp_path)
    asked = {
        "steps": 2,
        "height": 16,
        "width": 16,
        "model_options": {"max_sequence_length": FLUX["max_sequence_length"]},
    }
    asked |= {"model": str(tmp_path), "algorithm": "random", "verifier": lambda images, prompts: images.mean((1, 2, 3))}
    found = search("a cat", candidates=5, batch_size=2, compile="regional", **asked)
    assert found.ledger.nfe_waste == 2, "of the last micro-batch, which is padded"
    assert found.ledger.seconds["compile"] > 0 and found.ledger.seconds["denoise"] >= 0
    said = capsys.readouterr().err
    assert "will be compiled in the first micro-batch" in said and "compiling took" in said
    assert found.settings["model"]["loading"] == {"compile": "regional"} and "compile" in str(found.ledger)
    once = graphs()
    search("a cat", candidates=3, seed=7, batch_size=2, compile="regional", progress=False, **asked)
    assert graphs() == once, "nothing is compiled again"
    plain = search("a cat", candidates=5, batch_size=2, progress=False, **asked)
    assert [c.score for c in plain.candidates] == pytest.approx([c.score for c in found.candidates], abs=1e-4)
    assert plain.settings["model"]["fingerprint"] == found.settings["model"]["fingerprint"]
    assert "compile" not in plain.ledger.seconds


@pytest.mark.parametrize(
    ("given", "means", "loading"),
    [(None, None, ()), (False, None, ()), (True, "whole", ("compile",)), ("regional", "regional", ("compile",))],
)
def test_what_may_be_asked_for(given, means, loading):
    settings = ModelSettings(compile=given)
    assert settings.compiled == means and settings.loading == loading


def test_what_may_not():
    with pytest.raises(ValueError, match="compile='blocks' must be True, 'whole' or 'regional'"):
        ModelSettings(compile="blocks")
    with pytest.raises(ValueError, match="compile: only for models that are loaded by name"):
        search("a cat", model=tiny("flux"), compile=True)
