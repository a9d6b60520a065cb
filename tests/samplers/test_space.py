import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samplers import NoiseSpace, State
from tiny.samplers import flow_space, vp_space

SPACES = [flow_space(6), vp_space(6)]
SEEDS = st.integers(0, 2**40)


@pytest.mark.parametrize("shape", [(4, 5, 5), (3,), (2, 3, 8, 8)])
def test_fresh_is_what_diffusers_draws_for_one_image(shape):
    space = NoiseSpace(shape, tuple("abcd"[: len(shape)]), (0.0, 1.0), (1.0, 0.0))
    rows = space.fresh([3, 2**40, 5])
    for row, seed in zip(rows.x, (3, 2**40, 5), strict=True):
        assert torch.equal(row, torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))[0])
    assert rows.recipes[0].seed == 3 and rows.step == 0 and rows.x0 is None


@given(seed=SEEDS, move=SEEDS, cosine=st.floats(-1, 1))
@settings(max_examples=60, deadline=None)
def test_neighbours_keep_norm_and_cosine(seed, move, cosine):
    space = SPACES[0]
    pivot = space.fresh([seed])
    row, other = pivot.x[0].double().flatten(), space.neighbour(pivot, [move], cosine).x[0].double().flatten()
    assert float(other.norm()) == pytest.approx(float(row.norm()), rel=1e-6)
    assert float(torch.dot(row, other) / (row.norm() * other.norm())) == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("move", ["neighbour", "pcn", "renoise"])
def test_moves_do_not_depend_on_batch_or_order(move):
    space = SPACES[0]
    states, seeds = space.fresh([1, 2, 3]), [7, 8, 9]
    if move == "renoise":
        states = State(states.x, 4, None, states.recipes, states.conditions, space.id)

    def moved(states: State, seeds: list[int]) -> State:
        third = {"neighbour": 0.9, "pcn": 0.3}.get(move)
        return space.renoise(states, 1, seeds) if third is None else getattr(space, move)(states, seeds, third)

    together, turned = moved(states, seeds), moved(states[[2, 0, 1]], [9, 7, 8])
    assert torch.equal(together[[2, 0, 1]].x, turned.x) and together[[2, 0, 1]].recipes == turned.recipes
    assert all(torch.equal(moved(states[i], [seeds[i]]).x[0], together.x[i]) for i in range(3))
    assert not torch.equal(together.x, moved(states, [0, 8, 9]).x)


def test_identity_moves_return_the_row():
    space, rows = SPACES[0], SPACES[0].fresh([1, 2])
    assert torch.equal(space.neighbour(rows, [3, 4], 1.0).x, rows.x)
    assert torch.equal(space.pcn(rows, [3, 4], 0.0).x, rows.x)
    again = space.renoise(rows, 0, [3, 4])
    assert torch.equal(again.x, rows.x) and again.recipes == space.branch(rows, [3, 4]).recipes
    assert len(space.renoise(rows[0], 0, [3, 4, 5])) == 3


def test_a_direction_is_never_the_fresh_noise_of_the_same_seed():
    space = SPACES[0]
    fresh, redrawn = space.fresh([4]), space.pcn(space.fresh([1]), [4], 1.0)
    assert abs(torch.corrcoef(torch.stack([fresh.x.flatten(), redrawn.x.flatten()]))[0, 1]) < 0.9
    assert not torch.equal(fresh.x, redrawn.x)


def test_one_pivot_gives_many_neighbours():
    space = SPACES[0]
    three = space.neighbour(space.fresh([1], condition=2), [5, 6, 7], 0.9)
    assert len(three) == 3 and three.conditions == (2, 2, 2) and three.recipes[2].operations[-1]["seed"] == 7


@pytest.mark.parametrize("space", [flow_space(5, (20000,)), vp_space(5, (20000,))], ids=["flow", "vp"])
def test_renoising_keeps_mean_and_variance_between_any_two_points(space):
    data = 2.0 + 0.5 * space.fresh([0]).x
    for start in range(1, space.end + 1):
        noise = space.fresh([start]).x
        x = space.alphas[start] * data + space.sigmas[start] * noise
        state = State(x, start, data, space.fresh([0]).recipes, (0,), space.id)
        for to in range(start):
            moved = space.renoise(state, to, [100 * start + to])
            std = math.sqrt((0.5 * space.alphas[to]) ** 2 + space.sigmas[to] ** 2)
            assert moved.step == to and moved.x0 is None
            assert float(moved.x.mean()) == pytest.approx(2.0 * space.alphas[to], abs=0.03)
            assert float(moved.x.std()) == pytest.approx(std, rel=0.03)


def test_state_rows():
    space = SPACES[0]
    rows = space.fresh([1, 2, 3], condition=1)
    assert len(rows) == 3 and len(rows[0]) == 1 and rows[-1].recipes[0].seed == 3
    assert [r.seed for r in rows[1:].recipes] == [2, 3] and [r.seed for r in rows[[2, 2]].recipes] == [3, 3]
    assert State.cat([rows[0], rows[[2]]]).recipes == rows[[0, 2]].recipes
    with pytest.raises(IndexError):
        rows[3]
    with pytest.raises(ValueError, match="one step of one grid"):
        State.cat([rows, SPACES[1].fresh([1])])
    with pytest.raises(ValueError, match="one recipe"):
        State(rows.x, 0, None, rows.recipes[:2], rows.conditions, space.id)


def test_grid_id_names_shape_and_grid():
    assert flow_space(6).id == flow_space(6).id
    assert len({flow_space(6).id, flow_space(7).id, vp_space(6).id, flow_space(6, (3, 2, 3)).id}) == 4


def test_misuse_is_refused():
    space, rows = SPACES[0], SPACES[0].fresh([1, 2])
    late = State(rows.x, 2, None, rows.recipes, rows.conditions, space.id)
    for wrong, message in [
        (lambda: space.neighbour(late, [1, 2], 0.9), "step 2"),
        (lambda: space.pcn(late, [1, 2], 0.9), "step 2"),
        (lambda: space.neighbour(rows, [1, 2], 1.1), "cosine must be"),
        (lambda: space.pcn(rows, [1, 2], -0.1), "beta must be"),
        (lambda: space.neighbour(rows, [1, 2, 3], 0.9), "one seed per row"),
        (lambda: space.renoise(late, 3, [1, 2]), "goes back"),
        (lambda: space.renoise(late, 2, [1, 2, 3]), "one seed per row"),
        (lambda: space.renoise(late, 2, [1, -2]), "seeds must be"),
        (lambda: space.branch(SPACES[1].fresh([1]), [1]), "belongs to grid"),
        (lambda: space.fresh([-1]), "seeds must be"),
        (lambda: space.fresh([True]), "seeds must be"),
        (lambda: NoiseSpace((2,), ("a",), (1.0, 0.0), (0.0, 1.0)), "must not rise"),
        (lambda: NoiseSpace((2, 2), ("a",), (0.0, 1.0), (1.0, 0.0)), "axes"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
