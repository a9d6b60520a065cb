"""What an algorithm may know of model and verifier, as it is found on them."""

from dataclasses import replace

import diffusers
import numpy as np
import pytest

from noise_search.models import LoadedModel, ModelCard, load_model
from noise_search.resolve import resolve_aggregator, resolve_calibration, verifier_facts
from noise_search.settings import ModelSettings
from samplers import DenoiserSampler, NoiseSpace, PipelineSampler, flow_matching
from tiny.pipelines import tiny
from verifiers import Brightness, FunctionVerifier, MeanRank, MeanZ, Saturation
from verifiers.aggregators.ranks import as_aggregator

SIZE = {"height": 16, "width": 16}
SPACE = NoiseSpace((3, 8, 8), ("channel", "height", "width"), *flow_matching.grid([1.0, 0.5]))


class Placed(DenoiserSampler):
    """Says where and how it runs, as samplers over pipelines do."""

    where = "cpu"

    def describe(self):
        return super().describe() | {"device": self.where, "dtype": "float32", "versions": {"torch": "2"}}


def loaded(sampler) -> LoadedModel:
    return LoadedModel("mine", sampler, ModelCard())


def placed(where: str = "cpu", **options) -> LoadedModel:
    sampler = Placed(lambda x, alpha, sigma, prompts: 0 * x, SPACE, **options)
    sampler.where = where
    return loaded(sampler)


def test_identity_is_that_of_the_model_wherever_it_runs():
    here, there = placed(), placed("cuda:0")
    assert here.fingerprint != there.fingerprint and here.facts == there.facts
    assert placed(eta=0.5).facts.identity != here.facts.identity
    assert len(here.facts.identity) == 8


def test_a_price_is_told_only_where_it_is_asked_for():
    model = placed(look_price=0.25)
    assert model.facts.look_price is None
    assert model.priced == replace(model.facts, look_price=0.25)


@pytest.mark.parametrize(
    ("name", "options", "can_stop", "own_steps"),
    [("sd", {}, True, True), ("sdxl", {"scheduler": "keep"}, False, True)],
)
def test_a_pipeline_whose_steps_are_its_own(name, options, can_stop, own_steps):
    facts = loaded(PipelineSampler(tiny(name), steps=2, **SIZE, **options)).facts
    assert (facts.can_stop, facts.own_steps) == (can_stop, own_steps)


def test_steps_in_place_of_a_pipelines_own_are_told():
    pipe = tiny("sd", diffusers.DPMSolverMultistepScheduler(num_train_timesteps=100))
    facts = loaded(PipelineSampler(pipe, steps=3, **SIZE)).facts
    assert facts.can_stop and not facts.own_steps


def test_values_are_absolute_or_pooled_or_wait_for_a_reference():
    pair = Brightness(), Saturation()
    pool = {one.key: np.array([0.1, 0.5, 0.9]) for one in pair}
    told = [as_aggregator(pair[0]), MeanRank(*pair), MeanZ(*pair), MeanZ(*pair).freeze(pool)]
    found = [(facts.absolute, facts.pooled) for facts in map(verifier_facts, told)]
    assert found == [(True, False), (False, True), (False, False), (True, False)]
    assert verifier_facts(told[1]).keys == ("brightness@1", "saturation@1")


def test_an_ensemble_reads_the_prompt_or_costs_money_where_one_of_it_does():
    def rented(images, prompts):
        return images.mean((1, 2, 3))

    rented.paid = True
    free, mixed = MeanRank(Brightness(), Saturation()), MeanRank(Brightness(), FunctionVerifier(rented))
    told = [(facts.prompt_agnostic, facts.paid) for facts in map(verifier_facts, (free, mixed))]
    assert told == [(True, False), (False, True)]


@pytest.mark.parametrize("model", ["shapes-flow", "shapes-ddim"])
def test_the_embedded_models_bring_calibrations_that_fit_them(model):
    loaded = load_model(model, ModelSettings())
    for names in ("clip", "aesthetic", "vlm", ["clip", "aesthetic"]):
        found = resolve_calibration(None, loaded.facts, 20, resolve_aggregator(names, loaded))
        assert found is not None and found.first_above(0.5) < found.first_above(0.88)
    assert resolve_calibration(None, loaded.facts, 10, resolve_aggregator("clip", loaded)) is None
