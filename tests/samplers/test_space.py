import math

import pytest
import scipy.fft
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


def canvas(height=6, width=5, channels=2):
    """A space with a canvas, its axes in another order than pipelines have them."""
    return NoiseSpace((height, channels, width), ("height", "channel", "width"), (0.0, 1.0), (1.0, 0.0))


def changed(found, first):
    """Where on the canvas a noise isn't the first, which must be the same in all channels."""
    apart = found != first
    assert torch.equal(apart.all(1), apart.any(1))
    return apart.all(1)


@given(st.lists(SEEDS, min_size=1, max_size=4, unique=True), st.integers(1, 10), st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_means_have_the_weighted_direction_and_the_weighted_mean_of_norms(seeds, one, other):
    space, weights = SPACES[0], [float(one), *[float(other)] * (len(seeds) - 1)]
    rows = [space.fresh([seed]) for seed in seeds]
    found = space.mean(rows, weights).x[0].double()
    shares = [weight / sum(weights) for weight in weights]
    norms = [float(row.x.double().norm()) for row in rows]
    assert float(found.norm()) == pytest.approx(sum(w * n for w, n in zip(shares, norms, strict=True)), rel=1e-6)
    direction = sum(w * row.x[0].double() for w, row in zip(shares, rows, strict=True))
    torch.testing.assert_close(found / found.norm(), direction / direction.norm(), atol=1e-6, rtol=0)


def test_means_are_made_row_by_row_and_a_single_row_goes_with_all():
    space = SPACES[0]
    ones, others = space.fresh([1, 2], condition=3), space.fresh([7, 8])
    both = space.mean([ones, others])
    assert both.conditions == (3, 3) and both.step == 0 and both.x0 is None
    for row in range(2):
        alone = space.mean([ones[row], others[row]])
        assert torch.equal(alone.x[0], both.x[row]) and alone.recipes[0] == both.recipes[row]
    spread = space.mean([ones, others[0]], [3.0, 1.0])
    assert torch.equal(spread.x[1], space.mean([ones[1], others[0]], [3.0, 1.0]).x[0])
    assert torch.equal(space.mean([ones, ones]).x, ones.x) and torch.equal(space.mean([ones]).x, ones.x)
    assert torch.equal(space.mean([ones, others], [0.0, 2.0]).x, others.x)
    assert len(space.mean([ones[[]], others[[]]])) == 0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_region_is_a_rectangle_of_its_share_from_the_second_parent(share):
    space = canvas(16, 12)
    first, second = space.fresh([1]), space.fresh([2])
    found = space.crossover(first, second, range(60), share=share).x
    tops, heights, areas = set(), set(), []
    for x in found:
        where = changed(x, first.x[0])
        assert torch.equal(torch.where(where[:, None], second.x[0], first.x[0]), x)
        rows, columns = where.any(1).nonzero().flatten(), where.any(0).nonzero().flatten()
        areas.append(int(where.sum()))
        if share:
            assert (
                areas[-1]
                == len(rows) * len(columns)
                == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            )
            tops.add(int(rows.min()))
            heights.add(len(rows))
    assert areas == pytest.approx([share * 16 * 12] * 60, abs=8)
    assert 0 < share < 1 or len(set(areas)) == 1
    assert not 0 < share < 1 or (len(tops) > 1 and len(heights) > 2), "place and aspect are drawn"


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 1.0])
def test_a_band_has_the_lowest_coefficients_of_the_second_parent_and_the_others_of_the_first(share):
    space = canvas(8, 6)
    first, second = space.fresh([1]), space.fresh([2])
    x = space.crossover(first, second, [0], by="band", share=share).x[0]
    ours, one, other = (scipy.fft.dctn(v.double().numpy(), axes=(0, 2), norm="ortho") for v in (x, *first.x, *second.x))
    low = abs(ours - other).max(1) < 1e-6
    assert (low | (abs(ours - one).max(1) < 1e-6)).all() and low.sum() == pytest.approx(share * 48, abs=2)
    reach = [(i / 8) ** 2 + (j / 6) ** 2 for i in range(8) for j in range(6)]
    order = [taken for _, taken in sorted(zip(reach, low.flatten(), strict=True), key=lambda pair: pair[0])]
    assert order == sorted(order, reverse=True), "the lowest and no others"
    assert not share or low[0, 0]


@pytest.mark.parametrize("by", ["region", "band"])
def test_crossing_a_noise_with_itself_gives_it_and_shares_of_0_and_1_the_parents(by):
    space = canvas()
    first, second = space.fresh([1, 2, 3]), space.fresh([4, 5, 6])
    assert torch.equal(space.crossover(first, first, [7, 8, 9], by=by).x, first.x)
    assert torch.equal(space.crossover(first, second, [7, 8, 9], by=by, share=0.0).x, first.x)
    torch.testing.assert_close(space.crossover(first, second, [7, 8, 9], by=by, share=1.0).x, second.x)
    both = space.crossover(first, second, [7, 8, 9], by=by)
    alone = space.crossover(first[1], second[1], [8], by=by)
    assert torch.equal(alone.x[0], both.x[1]) and alone.recipes[0] == both.recipes[1]
    many = space.crossover(first[0], second[0], [7, 8], by=by)
    assert len(many) == 2 and torch.equal(many.x[0], both.x[0])
    assert torch.equal(many.x[0], many.x[1]) == (by == "band"), "a region's place is drawn"


@pytest.mark.parametrize("by", ["region", "band"])
def test_crossovers_of_independent_noises_are_white(by):
    space, rows = canvas(4, 3), 500
    found = space.crossover(space.fresh(range(rows)), space.fresh(range(rows, 2 * rows)), range(rows), by=by)
    x = found.x.flatten(1).double()
    covariance = x.T @ x / rows
    assert float(x.mean(0).abs().max()) < 4.5 / math.sqrt(rows)
    assert float((covariance - torch.eye(len(covariance))).abs().max()) < 4.5 * math.sqrt(2 / rows)
    assert float((x**4).mean()) == pytest.approx(3, abs=5 * math.sqrt(96 / x.numel()))


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
    ran = State(
        rows.x, 2, None, tuple(r.then_run(0, 2, space.id, 1.0) for r in rows.recipes), rows.conditions, space.id
    )
    flat = flow_space(4, (9,))
    for wrong, message in [
        (lambda: space.neighbour(late, [1, 2], 0.9), "step 2"),
        (lambda: space.pcn(late, [1, 2], 0.9), "step 2"),
        (lambda: space.repair(late), "step 2"),
        (lambda: space.repair(SPACES[1].fresh([1])), "belongs to grid"),
        (lambda: space.neighbour(rows, [1, 2], 1.1), "cosine must be"),
        (lambda: space.pcn(rows, [1, 2], -0.1), "beta must be"),
        (lambda: space.neighbour(rows, [1, 2, 3], 0.9), "one seed per row"),
        (lambda: space.renoise(late, 3, [1, 2]), "goes back"),
        (lambda: space.renoise(late, 2, [1, 2, 3]), "one seed per row"),
        (lambda: space.renoise(late, 2, [1, -2]), "seeds must be"),
        (lambda: space.branch(SPACES[1].fresh([1]), [1]), "belongs to grid"),
        (lambda: space.mean([rows, late]), "mean combines step-0 noises, got a state at step 2"),
        (lambda: space.mean([]), "at least one parent"),
        (lambda: space.mean([rows, rows], [1.0]), "one for each parent"),
        (lambda: space.mean([rows, rows], [1.0, -1.0]), "numbers from 0"),
        (lambda: space.mean([rows, rows], [0.0, 0.0]), "weights must be"),
        (lambda: space.mean([rows, rows], [1.0, math.nan]), "weights must be"),
        (lambda: space.mean([rows, space.fresh([1, 2, 3])]), "as many rows each, or of one, got 2, 3"),
        (lambda: space.mean([rows, space.neighbour(rows, [1, 2], -1.0)]), "cancel each other"),
        (lambda: space.mean([rows, SPACES[1].fresh([1, 2])]), "belongs to grid"),
        (lambda: space.mean([rows, space.renoise(ran, 0, [1, 2])]), "no grid, got recipes with renoise, run"),
        (lambda: space.crossover(rows, space.renoise(ran, 0, [1, 2]), [1, 2]), "crossover takes noises that belong to"),
        (lambda: space.crossover(late, rows, [1, 2]), "step 2"),
        (lambda: space.crossover(rows, rows, [1, 2, 3]), "one seed per row"),
        (lambda: space.crossover(rows, rows, [1, 2], by="row"), "'region' or 'band', got 'row'"),
        (lambda: space.crossover(rows, rows, [1, 2], share=1.5), "share must be"),
        (
            lambda: flat.crossover(flat.fresh([1]), flat.fresh([2]), [3]),
            "named height and width, this space has channel",
        ),
        (lambda: space.fresh([-1]), "seeds must be"),
        (lambda: space.fresh([True]), "seeds must be"),
        (lambda: NoiseSpace((2,), ("a",), (1.0, 0.0), (0.0, 1.0)), "must not rise"),
        (lambda: NoiseSpace((2, 2), ("a",), (0.0, 1.0), (1.0, 0.0)), "axes"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
