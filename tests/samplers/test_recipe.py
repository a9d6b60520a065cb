import json
import subprocess
import sys

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
FIELDS = st.sampled_from(["op", "v", "parent", "seed", "grid", "rho", "from", "to"])
OPERATIONS = st.dictionaries(FIELDS, st.sampled_from(["fresh", "run", 0, 1]) | VALUES, max_size=8)


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
