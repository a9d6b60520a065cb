import hashlib
import json
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import Recipe


def finished(*stops: int, rho: float | None = 1.0) -> Recipe:
    """fresh(3), run to each stop in turn."""
    recipe, at = Recipe.start("fresh", seed=3), 0
    for stop in stops:
        recipe, at = recipe.then_run(at, stop, "abc", rho), stop
    return recipe


def test_json_round_trip_keeps_equality_key_and_hash():
    recipe = finished(4).then("renoise", seed=9, to=2, grid="abc").then_run(2, 8, "abc", 0.5)
    for again in (Recipe.from_json(recipe.to_json()), Recipe.from_json(json.loads(recipe.to_json()))):
        assert again == recipe and hash(again) == hash(recipe) and again.key == recipe.key
    assert [op["op"] for op in recipe.operations] == ["fresh", "run", "renoise", "run"]
    assert [op.get("parent") for op in recipe.operations] == [None, 0, 1, 2]


@pytest.mark.parametrize("rho", [1.0, 0.5])
def test_consecutive_runs_merge(rho):
    assert finished(2, 5, 8, rho=rho) == finished(8, rho=rho)
    assert dict(finished(2, 8).operations[1])["from"] == 0


def test_runs_of_another_rho_grid_or_place_do_not_merge():
    half = finished(4)
    assert len(half.then_run(4, 8, "abc", 0.5).operations) == 3
    assert len(half.then_run(4, 8, "other", 1.0).operations) == 3
    assert len(half.then("branch", seed=1).then_run(4, 8, "abc", 1.0).operations) == 4
    eta = finished(4, rho=None).then_run(4, 8, "abc", None, eta=0.5)
    assert len(eta.operations) == 3, "another eta is another run"


def test_stream_ignores_runs_and_nothing_else():
    assert finished(2, 8).stream == finished(3).stream == finished().stream
    assert finished(2).then("branch", seed=0).stream not in (
        finished(2).stream,
        finished(2).then("branch", seed=1).stream,
    )


def test_seed_is_that_of_a_plain_fresh_noise():
    assert finished().seed == finished(8).seed == 3
    assert finished().then("neighbour", seed=1, cosine=0.9).seed is None


def crossed(*parents: Recipe, seed: int = 0) -> Recipe:
    return Recipe.join(parents, "crossover", seed=seed, by="region", share=0.5)


def test_what_parents_have_in_common_is_listed_once():
    root, other = Recipe.start("fresh", seed=0), Recipe.start("fresh", seed=1)
    left, right = (root.then("neighbour", seed=seed, cosine=0.9) for seed in (5, 6))
    child = crossed(left, crossed(other, right, seed=1), seed=2)
    assert [(op["seed"], op.parents) for op in child.operations] == [
        (0, ()), (5, (0,)), (1, ()), (6, (0,)), (1, (2, 3)), (2, (1, 4)),
    ]  # fmt: skip
    assert [op.parents for op in crossed(root, root).operations] == [(), (0, 0)]
    twice = crossed(left, Recipe.from_json(left.to_json()), right)
    assert [op.parents for op in twice.operations] == [(), (0,), (0,), (1, 1, 2)]
    same_seed = crossed(left, other.then("neighbour", seed=5, cosine=0.9))
    assert len(same_seed) == 5, "the same move of another noise is another operation"


def test_recipes_of_several_parents_are_recipes_like_others():
    parents = [Recipe.start("fresh", seed=seed) for seed in (3, 4)]
    noise = Recipe.join(parents, "mean", weights=[1.0, 2.0])
    run = noise.then_run(0, 2, "abc", 0.5).then_run(2, 8, "abc", 0.5)
    assert run == noise.then_run(0, 8, "abc", 0.5) and run.stream == noise.key and run.seed is None
    assert (
        run.noise == noise and run.then("renoise", seed=1, to=2, grid="abc").then_run(2, 8, "abc", 0.5).noise == noise
    )
    for again in (Recipe.from_json(json.loads(run.to_json())), pickle.loads(pickle.dumps(run))):
        assert again == run and again.key == run.key and again.operations == run.operations
    assert Recipe.join([Recipe.from_json(p.to_json()) for p in parents], "mean", weights=(1.0, 2.0)).key == noise.key
    assert noise != Recipe.join(parents[::-1], "mean", weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="mean needs at least one parent"):
        Recipe.join([], "mean", weights=[])


def test_recipes_of_a_population_grow_by_its_members_and_not_by_the_paths_between_them():
    rng, before = np.random.default_rng(0), time.process_time()
    population, born, newest = [Recipe.start("fresh", seed=seed) for seed in range(4)], 4, []
    for _ in range(30):
        pairs = [rng.choice(4, 2, replace=False) for _ in range(4)]
        children = [crossed(*(population[i] for i in pair), seed=born + at) for at, pair in enumerate(pairs)]
        newest += [len(child) - len(population[pair[0]]) for child, pair in zip(children, pairs, strict=True)]
        population, born = children, born + 4
        assert all(len(one) <= born and len(set(one.operations)) == len(one) for one in population)
    assert min(map(len, population)) > 100, "nearly all that lived are ancestors"
    assert np.mean(newest) < 8, "what a child doesn't share with its first parent"
    assert len({one.key for one in population}) == 4 and time.process_time() - before < 2


def test_keys_are_of_the_canonical_json():
    one = finished(8).then("renoise", seed=9, to=2, grid="abc", **{"from": 8})
    chain = (
        '[{"op":"fresh","seed":3,"v":1},{"from":0,"grid":"abc","op":"run","parent":0,"rho":1.0,"to":8,"v":1},'
        '{"from":8,"grid":"abc","op":"renoise","parent":1,"seed":9,"to":2,"v":1}]'
    )
    both = '[{"op":"fresh","seed":3,"v":1},{"op":"fresh","seed":4,"v":1},{"op":"mean","parents":[0,1],"v":1}]'
    mean = Recipe.join([Recipe.start("fresh", seed=seed) for seed in (3, 4)], "mean")
    for recipe, text in ((one, chain), (mean, both)):
        assert recipe.key == hashlib.sha256(text.encode()).hexdigest()


def test_key_is_the_same_in_another_process():
    code = "from samplers import Recipe; print(Recipe.start('fresh', seed=3).key, hash('x'))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split()[0] == Recipe.start("fresh", seed=3).key


@pytest.mark.parametrize(
    "text",
    [
        '[{"op": "fresh", "v": 2, "seed": 1}]',
        '[{"v": 1}]',
        "[]",
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parent": 1}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parent": false}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1}, {"op": "c", "v": 1, "parent": 1}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parents": []}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parents": 0}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parents": [0, 1]}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parents": [0, true]}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parents": [0], "parent": 0}]',
        '[{"op": "a", "v": 1}, {"op": "b", "v": 1, "parents": "0"}]',
        "[1]",
        "1",
        "{}",
        '"fresh"',
        "[" * 100_000,
        "[{]",
        f'[{{"op": "fresh", "v": 1, "seed": {"[" * 600 + "]" * 600}}}]',
        '[{"op": "fresh", "v": 1, "seed": {"a": 1}}]',
        '[{"op": "fresh", "v": 1, "seed": NaN}]',
        '[{"op": "fresh", "v": 1, "seed": 1e999}]',
    ],
    ids=lambda text: text[:60],
)
def test_malformed_recipes_are_refused(text):
    with pytest.raises(ValueError) as caught:
        Recipe.from_json(text)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["op", "v", "parent", "parents", "seed", "grid", "rho", "from", "to"])
OPERATIONS = st.dictionaries(FIELDS, st.sampled_from(["fresh", "run", 0, 1, [0, 0]]) | VALUES, max_size=8)


@settings(max_examples=300, deadline=None)
@given(VALUES | st.lists(OPERATIONS | VALUES, max_size=3))
def test_any_json_is_a_recipe_that_stays_itself_or_refused(content):
    try:
        recipe = Recipe.from_json(json.dumps(content))
    except ValueError as refusal:
        assert "\n" not in str(refusal)
        return
    assert Recipe.from_json(recipe.to_json()) == recipe and hash(recipe) is not None
    assert (recipe.key, recipe.stream, recipe.seed, recipe.grid_bound) is not None
