"""Variations of picked candidates: near what they are of, replayed by their recipes, and gone on with."""

import pytest
import torch

from noise_search import Variations, load
from samplers.recipe import Recipe
from samplers.replay import replay
from tiny.search import CountingSampler, Mortal, space, toy_search

WHOLE = Recipe.start("fresh", seed=7).then_run(0, 8, space().id, 1.0)


def picked(count=2, **more):
    return [one.recipe for one in toy_search(candidates=6, **more).top(count)]


def moves(candidate):
    return [op["op"] for op in candidate.recipe.operations if op["op"] != "run"]


def test_neighbours_of_each_are_made_in_turn():
    given = picked(3)
    result = toy_search(algorithm=Variations(given, cosine=0.7), candidates=8)
    assert [one.recipe.operations[0] for one in result.candidates] == [given[i % 3].operations[0] for i in range(8)]
    noises = [space().noise(one.recipe.noise).x.flatten() for one in result.candidates]
    origins = [space().noise(given[i % 3].noise).x.flatten() for i in range(8)]
    cosines = torch.cosine_similarity(torch.stack(noises), torch.stack(origins))
    assert torch.allclose(cosines, torch.tensor(0.7), atol=1e-5)
    assert result.ledger.nfe == 64 and "8 variations of 3 pictures by neighbour" in result.schedule


def test_branches_share_what_was_before_them_and_are_replayed():
    sampler, given = CountingSampler(), picked(2)
    result = toy_search(sampler, algorithm=Variations(given, move="branch", leave=0.75), nfe=20)
    assert result.ledger.nfe == 20 == sampler.rows and len(result.candidates) == 4, "2 x 6 steps, then 2 for each"
    for i, one in enumerate(result.candidates):
        assert moves(one) == ["fresh", "branch"] and one.seed is None and one.finished
        before = one.recipe.before_runs.before
        assert before.operations[0] == given[i % 2].operations[0] and before.last["to"] == 6
        made = replay(sampler, one.recipe, [sampler.space()], 0)
        assert torch.allclose(
            sampler.decode(made.state)[0].mean().double(), torch.tensor(one.score).double(), atol=1e-5
        )


@pytest.mark.parametrize("leave", [0.5, 0.75])
def test_a_branch_of_any_recipe_goes_the_way_that_it_went(leave):
    """Of branches, of neighbours, and of rows that were noised again, as paths are."""
    sampler = CountingSampler()
    grid = sampler.space()
    first = toy_search(sampler, algorithm=Variations(picked(1), move="branch", leave=0.5), nfe=8).best.recipe
    noised = WHOLE.before.then_run(0, 6, grid.id, 1.0).then("renoise", seed=3, **{"from": 6, "to": 3, "grid": grid.id})
    for recipe in (first, noised.then_run(3, 8, grid.id, 1.0), WHOLE.before.then("neighbour", seed=5, cosine=0.5)):
        one = toy_search(sampler, algorithm=Variations([recipe], move="branch", leave=leave), nfe=40).candidates[0]
        before, stop = one.recipe.before_runs.before, round(leave * 8)
        known = replay(sampler, recipe if recipe.grid_bound else recipe.then_run(0, 8, grid.id, 1.0), [grid], 0, [stop])
        assert torch.allclose(replay(sampler, before, [grid], 0).state.x, known.kept[stop].x, atol=1e-6)


def test_a_branch_leaves_where_no_transition_is_cut():
    """GLASS passes over grid points, where its row has no state of its own."""
    sampler = CountingSampler(steps=20)
    best = toy_search(sampler, algorithm="bfs", candidates=12).best.recipe
    passed = [op for op in best.operations if "inner" in op]
    assert passed[0]["from"] < 8 < passed[0]["to"]
    one = toy_search(sampler, algorithm=Variations([best], move="branch", leave=0.4), nfe=40).candidates[0]
    before = one.recipe.before_runs.before
    assert before.last["to"] == passed[0]["from"] and before.to_json() in [b.to_json() for b in best.beginnings()]


def test_a_branch_that_leaves_before_an_earlier_one_is_of_the_way_before_it():
    first = toy_search(algorithm=Variations([WHOLE], move="branch", leave=0.5), nfe=8).best.recipe
    one = toy_search(algorithm=Variations([first], move="branch", leave=0.25), nfe=8).candidates[0]
    assert one.recipe.before_runs.before == WHOLE.before.then_run(0, 2, space().id, 1.0)


def test_again_runs_each_noise_once_at_other_steps():
    result = toy_search(algorithm=Variations(picked(3), move="again"), candidates=9, model=CountingSampler(20))
    assert len(result.candidates) == 3 and result.ledger.nfe == 60 and result.stop_reason == "the algorithm ended"
    assert {one.seed for one in result.candidates} == {one.seed for one in picked(3)}


def test_equal_ones_are_one():
    assert len(Variations([WHOLE, WHOLE]).of) == 1
    assert Variations([[dict(op) for op in WHOLE.operations]]) == Variations((WHOLE,))


def test_a_run_is_read_back_and_gone_on_with(tmp_path):
    asked = {"algorithm": Variations(picked(2), move="branch"), "nfe": 24}
    toy_search(run=tmp_path / "run", **asked)
    toy = load(tmp_path / "run")
    assert toy.settings["algorithm"]["name"] == "variations"
    more = toy_search(run=tmp_path / "run", **{**asked, "nfe": 32})
    assert more.ledger.denoiser_rows == 32 and len(more.candidates) == len(toy.candidates) + 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"of": []}, "of="),
        ({"of": WHOLE}, "of="),
        ({"of": "run"}, "of="),
        ({"of": [WHOLE], "move": "sideways"}, "neighbour, branch, again"),
        ({"of": [WHOLE], "cosine": 1}, "below 1"),
        ({"of": [WHOLE], "leave": 0}, "between 0 and 1"),
    ],
)
def test_what_makes_no_variation_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Variations(**given)


def test_what_a_search_cannot_make_is_refused_before_it_starts():
    nobody = CountingSampler(fn=Mortal(0))
    with pytest.raises(ValueError, match="20 or more"):
        toy_search(nobody, algorithm=Variations([*picked(2), WHOLE], move="branch", leave=0.75), nfe=16)
    with pytest.raises(ValueError, match="this search has grid"):
        toy_search(CountingSampler(20, Mortal(0)), algorithm=Variations([WHOLE], move="branch"), nfe=40)
