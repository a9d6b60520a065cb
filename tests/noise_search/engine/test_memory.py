"""Memory grows by the images that are kept and about 1 kB a candidate, whatever the algorithm."""

import gc
import json
import pickle
import weakref

import numpy as np
import pytest

from noise_search import ZeroOrderSearch, replay
from noise_search.replays.reading import read
from samplers import Recipe
from samplers.state import State
from tiny.search import CountingSampler, brightness, contrast, toy_search
from verifiers import MeanRank


@pytest.mark.parametrize("verifier", [brightness, MeanRank(brightness, contrast)], ids=["one", "mean-rank"])
def test_drafts_keep_no_noises(verifier):
    rows = []

    def count(candidate):
        if candidate.id % 128 == 0:
            gc.collect()
            rows.append(sum(o.x.shape[0] for o in gc.get_objects() if isinstance(o, State) and o.x.numel()))

    result = toy_search(candidates=200, draft_steps=2, verifier=verifier, batch_size=64, on_candidate=count)
    assert len([c for c in result.candidates if c.draft]) > 700
    assert max(rows[len(rows) // 2 :]) <= max(rows[: len(rows) // 2]), "noises of earlier rounds are alive"


def test_decoded_images_of_earlier_batches_are_gone():
    alive, most = weakref.WeakSet(), []

    def watching(images, prompts):
        gc.collect()
        most.append(sum(len(one) for one in alive))
        alive.add(images)
        return images.mean((1, 2, 3))

    toy_search(prompt=["a", "b", "c"], candidates=8, verifier=watching, batch_size=4)
    assert len(most) == 6 and max(most) <= 4


def test_what_long_recipes_take_does_not_grow_with_their_length(tmp_path):
    def searched(candidates):
        return toy_search(CountingSampler(2), algorithm=ZeroOrderSearch(2, literal=True), candidates=candidates)

    few, many = searched(80), searched(320)
    sizes = [len(json.dumps(result.to_json()["candidates"])) / len(result.candidates) for result in (few, many)]
    assert sizes[1] < 1.3 * sizes[0] and sizes[1] < 1024
    late = many.candidates[-1]
    assert len(late.recipe) > 150 and "recipe_begins" in many.to_json()["candidates"][-1]
    many.save(tmp_path)
    assert read(tmp_path, late.id).recipe == late.recipe
    again = replay(tmp_path, candidate=late.id, model=CountingSampler(2), verifier=brightness, progress=False)
    assert again.scores == pytest.approx(late.scores)


@pytest.mark.parametrize(
    "begins", [{"candidate": 5, "operations": 3}, {"candidate": 4, "operations": 2}, {}, 7, {"candidate": 0}]
)
def test_a_recipe_begins_like_an_earlier_one_or_is_refused(tmp_path, begins):
    result = toy_search(candidates=6)
    content = json.loads(result.save(tmp_path)["result"].read_text())
    content["candidates"][4]["recipe_begins"] = begins
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="expected an earlier candidate"):
        read(tmp_path, 4)


def test_recipes_share_what_they_begin_with_and_keep_their_keys():
    recipe = Recipe.start("fresh", seed=0)
    for seed in range(2000):  # deeper than Python recurses
        recipe = recipe.then("neighbour", seed=seed, cosine=0.5)
    one, other = recipe.then_run(0, 4, "g", 1.0), recipe.then_run(0, 2, "g", 1.0).then_run(2, 4, "g", 1.0)
    assert one == other and one.before is recipe and one.stream == recipe.key
    again = Recipe.from_json(one.to_json())
    assert again == pickle.loads(pickle.dumps(one)) == one and again.operations == one.operations
    del recipe, one, other, again


def test_the_error_of_a_result_keeps_nothing_else_alive():
    sampler, calls = CountingSampler(), []

    def failing(candidate):
        calls.append(candidate)
        if len(calls) == 5:
            raise OSError("disk full") from ValueError("because")

    result = toy_search(sampler, candidates=16, batch_size=2, on_candidate=failing)
    assert isinstance(result.error, OSError) and np.isfinite(result.score)
    gone = weakref.ref(sampler)
    del sampler, failing
    gc.collect()
    assert gone() is None, "the error's frames hold the search"
