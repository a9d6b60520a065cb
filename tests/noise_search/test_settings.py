"""Keywords: each stands in one typed list, and a misspelt one is answered by the nearest."""

import inspect

import pytest

import noise_search
from noise_search.engine.driver import search
from noise_search.engine.setup import SearchOptions
from noise_search.settings import LOADING, ModelOptions, ModelSettings


def test_the_typed_keywords_are_those_of_the_functions():
    keywords = [name for name in inspect.signature(search).parameters if name != "prompt"]
    assert sorted(keywords) == sorted(SearchOptions.__annotations__)
    assert ModelOptions.__annotations__.keys() == {*ModelSettings.names(), *LOADING, "check"}


@pytest.mark.parametrize(
    ("function", "given", "words"),
    [
        (noise_search.search, "nef", "search() takes no 'nef': did you mean 'nfe'?"),
        (noise_search.search, "verifer", "did you mean 'verifier'?"),
        (noise_search.search, "guidance_scale", "did you mean 'guidance'?"),
        (noise_search.search, "num_inference_steps", "did you mean 'steps'?"),
        (noise_search.search, "num_images", "did you mean 'candidates'?"),
        (noise_search.search, "num_images_per_prompt", "did you mean 'candidates'?"),
        (noise_search.search, "generator", "did you mean 'seed'?"),
        (noise_search.search, "xxxxxxxx", "it takes prompt, model, algorithm"),
        (noise_search.compare, "guidence", "compare() takes no 'guidence': did you mean 'guidance'?"),
        (noise_search.compare, "buget", "did you mean 'budgets'?"),
        (noise_search.replay, "candidat", "replay() takes no 'candidat': did you mean 'candidate'?"),
        (noise_search.replay, "guidance_scale", "did you mean 'guidance'?"),
    ],
)
def test_a_misspelt_keyword_is_answered_by_the_nearest(function, given, words):
    with pytest.raises(TypeError) as error:
        function("two yellow stars", **{given: 3})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"steps": 0}, ValueError, "steps=0"),
        ({"height": 1.5}, TypeError, "height=1.5"),
        ({"guidance": "high"}, TypeError, "guidance='high'"),
        ({"eta": 2}, ValueError, "eta=2 must be from 0"),
        ({"eta": float("nan")}, ValueError, "eta=nan"),
        ({"negative_prompt": 3}, TypeError, "negative_prompt=3 is a int"),
        ({"offload": "modle"}, ValueError, "unknown offload 'modle'; did you mean 'model'"),
        ({"variant": ""}, TypeError, "variant='' must be a name, such as 'fp16'"),
        ({"revision": 3}, TypeError, "revision=3 must be a name, such as 'main'"),
        ({"lora": 3}, TypeError, "lora=3 is a int; expected a path or hub id, or several"),
        ({"lora": ["a/b", 3]}, TypeError, "lora=3 is a int; expected a path or hub id, with :SCALE or not"),
    ],
)
def test_settings_that_no_model_can_take_are_refused(settings, kind, words):
    with pytest.raises(kind, match=words):
        ModelSettings(**settings)


def test_what_is_given_is_what_is_not_left_to_the_model():
    asked = ModelSettings(steps=4, eta=0.0, device="cpu", options={"strength": 0.5})
    assert asked.given == {"steps": 4, "eta": 0.0}
