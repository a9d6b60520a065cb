"""A recipe replayed alone gives the row that the search had in its batch."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from samplers import Ancestral, DenoiserSampler, Deterministic, Mix, Recipe, WholeCallSampler
from samplers.contents import describe, recorded, restored
from samplers.replay import keyed, replay
from tiny.pipelines import tiny
from tiny.samplers import flow_space, mixture_denoiser, vp_space

MEANS = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
SPACES = {"flow": flow_space, "vp": vp_space}
SEEDS = st.integers(0, 2**32 - 1)
MOVES = st.one_of(
    st.tuples(st.just("neighbour"), SEEDS, st.floats(-1, 1)), st.tuples(st.just("pcn"), SEEDS, st.floats(0, 1))
)
WAYS = [Mix(0.0), Mix(0.5), Ancestral(0.7), Deterministic()]
BACK = st.sampled_from([True, False, None])
TURNS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([None, *WAYS]), SEEDS, BACK), max_size=4)


def counting(make, steps=6, eta=0.0):
    """A sampler of several grids that counts rows where its denoiser is called."""
    denoise, seen = mixture_denoiser(MEANS, 0.4), []

    def counted(x, alpha, sigma, prompts):
        seen.append(len(x))
        return denoise(x, alpha, sigma, prompts)

    return DenoiserSampler(counted, lambda n, levels: make(n or steps), eta=eta), seen


def grown(sampler, seeds, moves, turns):
    """Rows of one batch: noises moved in turn, then runs with branches, re-noising or nothing between them."""
    space = sampler.space()
    states = space.fresh(seeds)
    for which, (op, seed, value) in enumerate(moves):
        argument = {"cosine": value} if op == "neighbour" else {"beta": value}
        states = getattr(space, op)(states, [seed + which + row for row in range(len(seeds))], **argument)
    noise = states
    for share, transition, seed, back in turns:
        stop = states.step + math.ceil(share * (space.end - states.step))
        states = sampler.run(states, stop, transition=transition).final
        own = [seed + row for row in range(len(seeds))]
        if back is not None:
            states = space.renoise(states, states.step // 2, own) if back else space.branch(states, own)
    return noise, sampler.run(states, space.end).final


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(SPACES)), st.lists(SEEDS, min_size=3, max_size=3), st.lists(MOVES, max_size=5), TURNS)
def test_any_chain_of_moves_and_runs_gives_the_row_that_a_batch_had(kind, seeds, moves, turns):
    sampler, _ = counting(SPACES[kind])
    noise, states = grown(sampler, seeds, moves, turns)
    for row, recipe in enumerate(states.recipes):
        again, seen = counting(SPACES[kind])
        read = Recipe.from_json(json.loads(json.dumps(json.loads(recipe.to_json()))))
        found = replay(again, read, [again.space()])
        assert torch.equal(found.noise.x[0], noise.x[row])
        torch.testing.assert_close(found.state.x[0], states.x[row], atol=1e-5, rtol=1e-5)
        assert found.state.recipes[0].key == recipe.key
        assert found.nfe == sum(seen) and set(seen) <= {1}


COMBINED = st.tuples(
    st.sampled_from(["mean", "region", "band", "repair"]),
    SEEDS,
    st.floats(0, 1),
    st.lists(st.integers(0, 99), min_size=2),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(SEEDS, min_size=2, max_size=3), st.lists(MOVES | COMBINED, min_size=1, max_size=8))
def test_any_graph_of_noises_gives_the_row_that_was_run(seeds, moves):
    sampler, _ = counting(vp_space)
    space = sampler.space()
    born = [space.fresh([seed]) for seed in seeds]
    for op, seed, value, *which in moves:
        parents = [born[at % len(born)] for at in which[0]] if which else [born[-1]]
        if op == "mean":
            born.append(space.mean(parents, [value + 0.5, *[1.0] * (len(parents) - 1)]))
        elif op == "repair":
            born.append(space.repair(parents[0]))
        elif which:
            born.append(space.crossover(*parents[:2], [seed], by=op, share=value))
        else:
            born.append(getattr(space, op)(parents[0], [seed], value))
    noise = born[-1]
    states = sampler.run(noise, space.end, transition=Mix(0.5)).final
    again, seen = counting(vp_space)
    read = Recipe.from_json(json.loads(states.recipes[0].to_json()))
    found = replay(again, read, [again.space()])
    assert torch.equal(found.noise.x, noise.x) and torch.equal(found.state.x, states.x)
    assert found.state.recipes[0].key == states.recipes[0].key and found.noise.recipes == noise.recipes
    assert found.nfe == len(seen) == space.end and keyed(read) == (len(noise.recipes[0]) > 1)
    assert torch.equal(space.noise(read.noise).x, noise.x)


def test_an_unfinished_row_comes_with_its_prediction():
    sampler, _ = counting(flow_space)
    states = sampler.run(sampler.space().fresh([3, 4]), 4).final
    found = replay(sampler, states.recipes[1], [sampler.space()]).state
    assert found.step == 4
    torch.testing.assert_close(found.x0[0], states.x0[1], atol=1e-6, rtol=0)


def test_a_noise_drawn_on_one_grid_runs_on_another():
    sampler, seen = counting(flow_space)
    draft, full = sampler.space(steps=3), sampler.space()
    noise = draft.neighbour(draft.fresh([1]), [2], cosine=0.9)
    for space in (draft, full):
        recipe = sampler.run(space.adopt(noise), space.end).final.recipes[0]
        seen.clear()
        found = replay(sampler, recipe, [full, draft])
        assert found.nfe == sum(seen) == space.end and torch.equal(found.noise.x, noise.x)


def test_a_row_keeps_its_grid():
    sampler, seen = counting(flow_space)
    full, draft = sampler.space(), sampler.space(steps=3)
    recipe = Recipe.start("fresh", seed=1).then_run(0, 3, full.id, 1.0)
    with pytest.raises(ValueError, match=f"goes on from grid {full.id} on grid {draft.id}"):
        replay(sampler, recipe.then("renoise", seed=1, to=0, grid=draft.id, **{"from": 3}), [full, draft])
    assert not seen


def test_steps_of_eta_are_replayed_whatever_the_samplers_own_eta_is():
    sampler, _ = counting(vp_space, eta=0.7)
    states = sampler.run(sampler.space().fresh([1, 2]), 6).final
    for eta in (0.7, 0.0, 1.0):
        again, _ = counting(vp_space, eta=eta)
        found = replay(again, states.recipes[1], [again.space()]).state
        torch.testing.assert_close(found.x[0], states.x[1])
        assert found.recipes == states.recipes[1:]
    assert keyed(states.recipes[0]) and not keyed(Recipe.start("fresh", seed=1))


@pytest.mark.parametrize(("rho", "how"), [({"rho": 0.5}, r"Mix\(rho=0\.5\)"), ({"rho": None, "eta": 0.7}, "Ancestral")])
def test_a_sampler_that_takes_no_transition_replays_its_own_steps_alone(rho, how):
    sampler = WholeCallSampler(tiny("sd"), steps=2, reason="it draws its noise by itself")
    space, condition = sampler.space(), sampler.condition("a cat")
    own = sampler.run(space.fresh([3], condition), 2).final
    assert torch.equal(replay(sampler, own.recipes[0], [space], condition).state.x, own.x)
    paid = sampler.denoiser_rows
    with pytest.raises(ValueError, match=rf"ran with {how}.* its own steps alone \(it draws its noise by itself\)"):
        replay(sampler, Recipe.start("fresh", seed=3).then_run(0, 2, space.id, **rho), [space], condition)
    assert sampler.denoiser_rows == paid


def test_points_asked_for_lie_on_the_way_of_the_runs_that_end_the_recipe():
    sampler, _ = counting(flow_space)
    space = sampler.space()
    back = space.renoise(sampler.run(space.fresh([3]), 4).final, 2, [1])
    whole = sampler.run(back, 6, transition=[Mix(0.5), *[Deterministic()] * 3], keep=[3, 5])
    found = replay(sampler, whole.final.recipes[0], [space], keep=[2, 3, 5, 6]).kept
    assert sorted(found) == [2, 3, 5, 6] and found[3].recipes == whole.kept[3].recipes
    for outside in (1, 7):
        with pytest.raises(ValueError, match=rf"keep must lie in \[., .\].*got \[{outside}\]"):
            replay(sampler, whole.final.recipes[0], [space], keep=[outside, 4])


FRESH = {"op": "fresh", "v": 1, "seed": 3}
GRID = flow_space(6).id


OTHER = {"op": "fresh", "v": 1, "seed": 4}
MEAN = {"op": "mean", "v": 1, "parents": [0, 1], "weights": [1.0, 1.0]}
CROSSED = {"op": "crossover", "v": 1, "parents": [0, 1], "seed": 1, "by": "band", "share": 0.5}


def run(**changes):
    return {"op": "run", "v": 1, "parent": 0, "from": 0, "to": 6, "grid": GRID, "rho": 1.0} | changes


RENOISED = {"op": "renoise", "v": 1, "from": 2, "to": 0, "seed": 1, "grid": GRID}


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ([FRESH, {"op": "blend", "v": 1, "parent": 0}], r"operation 1 of the recipe \(blend\) is unknown.*neighbour"),
        ([FRESH, run(v=2)], "'v' = 1"),
        ([FRESH, run(grid="abc")], rf"operation 1.*grid abc, and there is only {GRID} \(6 steps\)"),
        ([FRESH, run(to=7)], "from 0 to 7, the row is at 0 of 6"),
        ([FRESH, run(**{"from": 2})], "from 2 to 6, the row is at 0"),
        ([FRESH, run(to="6")], "to = '6'; expected a whole number"),
        ([FRESH, run(rho=None)], "has from, grid, rho, to; expected eta"),
        ([FRESH, run(rho="1")], "rho = '1'; expected a number"),
        ([FRESH, run(rho=1.5)], r"operation 1.*rho = 1\.5; expected a number in \[0, 1\]"),
        ([FRESH, run(rho=10**400)], r"rho = 1000.*; expected a number in \[0, 1\]"),
        ([FRESH, run(rho=None, eta=-0.1)], r"eta = -0\.1; expected a number in \[0, 1\]"),
        ([{"op": "fresh", "v": 1}], "has nothing; expected seed"),
        ([{**FRESH, "scale": 2}], "has scale, seed; expected seed"),
        ([{**FRESH, "seed": True}], "seed = True"),
        ([run(parent=None)], "starts from fresh noises"),
        ([FRESH, {**FRESH, "parent": 0}], "starts from fresh noises"),
        ([FRESH, run(to=2), run(parent=0)], r"operation 1 \(run\) is no ancestor of the last one, 2"),
        (
            [FRESH, run(to=2), {"op": "pcn", "v": 1, "parent": 1, "seed": 1, "beta": 0.1}],
            "pure noise, the row is at step 2",
        ),
        ([FRESH, {"op": "neighbour", "v": 1, "parent": 0, "seed": 1, "cosine": 2}], r"cosine must be in \[-1, 1\]"),
        ([FRESH, OTHER, run(parent=1)], r"operation 0 \(fresh\) is no ancestor of the last one, 2"),
        ([FRESH, OTHER, MEAN | {"parents": [0, 2]}], r"operation 2 \(mean\) has parent 2: not an earlier one"),
        ([FRESH, {"op": "mean", "v": 1, "parent": 0, "weights": [1.0]}], r"operation 1 .*\(mean\) has one parent"),
        ([FRESH, OTHER, run(parents=[0, 1]) | {"parent": 1}], "has parents .*expected a list of earlier ones"),
        ([FRESH, {"op": "branch", "v": 1, "parents": [0], "seed": 1}], r"\(branch\) has a list of parents"),
        ([FRESH, CROSSED | {"parents": [0]}], r"\(crossover\) has 1 parents; expected 2"),
        ([FRESH, OTHER, CROSSED | {"by": 3}], "by = 3; expected a text"),
        ([FRESH, OTHER, CROSSED | {"by": "row"}], "by must be 'region' or 'band', got 'row'"),
        ([FRESH, OTHER, MEAN | {"weights": 1.0}], "weights = 1.0; expected a list of numbers"),
        ([FRESH, OTHER, MEAN | {"weights": ["1", 1.0]}], "expected a list of numbers"),
        ([FRESH, OTHER, MEAN | {"weights": [1.0]}], "weights must be 2 numbers"),
        (
            [FRESH, run(to=2), OTHER, MEAN | {"parents": [1, 2]}],
            r"operation 2 .*\(fresh\) .*pure noise, the row is at step 2",
        ),
        ([FRESH, OTHER, run(to=2), MEAN | {"parents": [1, 2]}], r"operation 3 .*\(mean\) makes .*the row is at step 2"),
        (
            [FRESH, OTHER, run(to=2), {**RENOISED, "parent": 2}, MEAN | {"parents": [1, 3]}],
            r"operation 4 .*\(mean\) combines noises that belong to no grid",
        ),
    ],
)
def test_what_cannot_be_replayed_is_refused_before_anything_runs(operations, words):
    sampler, seen = counting(flow_space)
    with pytest.raises(ValueError, match=words):
        replay(sampler, Recipe.from_json(operations), [sampler.space()])
    assert not seen


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.5, "a", [1, [2]], (1, 2), {"a": (1.5, [None])}, {"type": "x"}, {1: 2}, {"a": {"type": ()}}],
)
def test_options_that_json_can_hold_come_back(value):
    again = restored(json.loads(json.dumps(recorded(value))))
    assert again == value and type(again) is type(value)


def test_numbers_of_numpy_are_numbers():
    assert recorded([np.int64(3), np.float32(0.5), np.bool_(True)]) == [3, 0.5, True]


@pytest.mark.parametrize("kind", ["tensor", "half", "array", "image"])
def test_other_options_are_recorded_by_their_content(kind):
    def made(value):
        array = np.full((4, 3, 3), value, np.uint8)
        if kind == "image":
            return Image.fromarray(array)
        if kind == "array":
            return array
        return torch.from_numpy(array).to(torch.bfloat16 if kind == "half" else torch.uint8)

    found = recorded({"image": made(1)})["image"]
    assert found == recorded(made(1)) != recorded(made(2)) and found["shape"] == [4, 3, 3]
    assert len(found["sha256"]) == 64 and "(4, 3, 3)" in describe(found)
    with pytest.raises(ValueError, match="JSON cannot hold"):
        restored(json.loads(json.dumps({"nested": [found]})))


def test_the_kind_of_an_object_is_recorded_without_its_address():
    assert recorded(object()) == {"type": "builtins.object"} and describe(recorded(object())) == "a builtins.object"
