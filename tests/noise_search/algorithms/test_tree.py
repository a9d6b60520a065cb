"""Tree search: its backups, its growth and its price against their definitions, and what Boltzmann descents draw."""

import math
from itertools import pairwise

import numpy as np
import pytest

from contracts.algorithm import run
from noise_search import MonteCarloTreeSearch, RandomSearch, TreeSearch
from noise_search.algorithms import tree as room
from noise_search.algorithms.tree import Tree, soft_mean
from samplers import Ancestral, DenoiserSampler
from samplers.rule import Point
from tiny.search import CountingSampler, space

END = 8


@pytest.fixture
def grown(monkeypatch):
    """The trees of searches."""
    found = []

    class Kept(Tree):
        def __init__(self, *given):
            super().__init__(*given)
            found.append(self)

    monkeypatch.setattr(room, "Tree", Kept)
    return found


def left_at(candidate):
    """The grid point where a candidate's trajectory left an earlier one; 0 of a fresh noise."""
    pairs = pairwise(candidate.recipe.beginnings())
    return next((later.last["from"] for later, before in pairs if before.last["op"] == "branch"), 0)


def test_the_soft_mean_lies_between_mean_and_largest():
    assert soft_mean([0.0, math.log(3) / 2], 2.0) == pytest.approx(math.log(2) / 2)
    assert soft_mean([1.0, 2.0, 6.0], 1e-6) == pytest.approx(3, abs=1e-4)
    assert soft_mean([1.0, 2.0, 6.0], 1e6) == pytest.approx(6, abs=1e-4)
    assert soft_mean([1e300, 1e300], 3.0) == 1e300 and math.isnan(soft_mean([], 1.0))


@pytest.mark.parametrize(
    "algorithm",
    [TreeSearch(parallel=1), TreeSearch(select="boltzmann", width=2.0, growth=0.5, sharpness=1.0)],
    ids=repr,
)
def test_a_tree_backs_up_scores_widens_and_pays_the_steps_that_are_left(grown, algorithm):
    found = run(algorithm, nfe=400)
    (tree,) = grown
    assert found.ledger.nfe == sum(END - left_at(one) for one in found.candidates)
    assert {left_at(one) for one in found.candidates} >= {0, 1, 2} and all(one.finished for one in found.candidates)
    root, *others = tree.nodes
    leaves = [node for node in others if node.step == END]
    scores = [found.candidates[node.score].score for node in leaves]
    assert len(leaves) == len(found.candidates) and [node.score for node in leaves] == list(range(len(leaves)))

    def backed_up(node):
        """The equation once more, in raw scores."""
        if not node.children:
            return scores[node.score]
        lam = algorithm.sharpness / np.std(scores)
        return math.log(np.mean([math.exp(lam * backed_up(child)) for child in node.children])) / lam

    for node in (root, *root.children, leaves[0]):
        assert node.value * np.std(scores) == pytest.approx(backed_up(node), rel=1e-6)
    for node in tree.nodes:
        assert sum(child.visits for child in node.children) <= node.visits
        assert len(node.children) <= max(1, math.ceil(algorithm.width * node.visits**algorithm.growth))
        steps = [child.step for child in node.children]
        assert len({*steps}) <= 1 and all(step > node.step for step in steps), "a state is followed by the next point's"
    assert len(root.children) == sum(one.seed is not None for one in found.candidates) > 3
    assert max(len(node.children) for node in others) > 1
    assert sum(node.waiting for node in tree.nodes) <= 4, "all came back but what couldn't be paid"


def test_descents_go_where_values_are_high(grown):
    best, explored = (run(TreeSearch(explore=explore, growth=0.5), nfe=400) for explore in (0.0, 100.0))
    shares = []
    for tree in grown:
        children = sorted(tree.nodes[0].children, key=lambda node: node.value)
        shares.append(children[-1].visits / tree.nodes[0].visits)
        assert len(children) > 3
    assert shares[0] > 0.4 > 0.25 > shares[1], "without a bonus the best noise has most, with a large one all are equal"
    assert best.score >= best.first_score and explored.score >= explored.first_score


def test_boltzmann_descents_draw_from_the_tilted_distribution(grown):
    """A Gaussian under a linear reward: exp(lam r) moves its mean by lam times its variance, and nothing else."""
    grid, spread, sharpness = space(4, shape=(3, 1, 1)), 0.2, 0.7

    def gaussian(x, alpha, sigma, prompts):
        return alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * x

    def reward(images, prompts):
        return images.mean((1, 2, 3))

    variance = 1.0
    points = [Point(a, s) for a, s in zip(grid.alphas, grid.sigmas, strict=True)]
    for here, there in pairwise(points):
        gain = float(gaussian(1.0, *here, []))
        rho = Ancestral(1.0).rho_at(here, there)
        factor = there.alpha * gain + there.sigma * rho * (1 - here.alpha * gain) / here.sigma
        variance = factor**2 * variance + there.sigma**2 * (1 - rho**2)
    deviation = math.sqrt(variance / 3) / 2  # of the mean of three independent channels, each shown as x / 2 + 1 / 2
    asked = TreeSearch(select="boltzmann", sharpness=sharpness, literal=True)
    found = run(asked, DenoiserSampler(gaussian, grid), nfe=900, verifier=reward)
    (tree,) = grown
    scores = [one.score for one in found.candidates]

    def drawn(node):
        """The mean score of the images that descents from a node end at."""
        if not node.children:
            return scores[node.score]
        weights = np.exp(sharpness * np.array([child.value for child in node.children]))
        return float(np.average([drawn(child) for child in node.children], weights=weights))

    tilt = sharpness / np.std(scores) * deviation**2
    assert drawn(tree.nodes[0]) - 0.5 == pytest.approx(tilt, abs=0.25 * deviation) and tilt > 0.5 * deviation
    roots = [np.mean([scores[i] for i in _images(node)]) for node in tree.nodes[0].children]
    assert abs(np.mean(roots) - 0.5) < 0.25 * deviation, "the noises themselves aren't tilted"


def _images(node):
    return [node.score] if not node.children else [i for child in node.children for i in _images(child)]


def test_the_published_tree_has_a_node_at_every_grid_point_and_only_ancestral_steps(grown):
    found = run(TreeSearch(literal=True, growth=0.5), nfe=400)
    (tree,) = grown
    assert {node.step for node in tree.nodes} == {-1, *range(END + 1)}
    runs = [op for one in found.candidates for op in one.recipe.operations if op["op"] == "run"]
    assert {(op["rho"], op["eta"]) for op in runs} == {(None, 1.0)}
    assert {left_at(one) for one in found.candidates} > {0, 1, 2}


def test_parallel_descents_count_for_each_other(grown):
    found = run(TreeSearch(parallel=4, growth=0.5), nfe=400)
    (tree,) = grown
    assert len(tree.nodes[0].children) > 4 and found.ledger.nfe <= 400
    assert len({one.recipe.key for one in found.candidates}) == len(found.candidates)


def test_a_model_that_can_not_branch_is_searched_at_random():
    class Plain(CountingSampler):
        can_mix = False

    for algorithm in (TreeSearch(), MonteCarloTreeSearch()):
        found, random = (run(one, Plain(), nfe=100) for one in (algorithm, RandomSearch()))
        assert [one.recipe for one in found.candidates] == [one.recipe for one in random.candidates]


def test_process_rewards_begin_more_than_they_finish_and_finish_the_best(grown):
    found = run(MonteCarloTreeSearch(), nfe=400)
    (tree,) = grown
    finished = [one for one in found.candidates if one.finished]
    begun = [one for one in found.candidates if one.step == 2]
    assert len(begun) > len(finished) > 4, "fresh noises are judged at the first point"
    assert found.ledger.nfe <= 400 < found.ledger.nfe + END
    values, levels = tree._values(), sorted({node.step for node in tree.nodes if node.score is not None})
    assert levels == [2, 4, END], "two steps apart, or a prediction can't tell a branch from what it left"
    for at, later in pairwise(levels):
        followed = [node for node in tree.nodes if node.own and node.step == later and node.parent.step == at]
        lacking = [values[later][node.score] - values[at][node.parent.score] for node in followed]
        assert followed and np.mean(lacking) == pytest.approx(0, abs=1e-9), "predictions lack nothing on average"
    children = sorted(tree.nodes[0].children, key=lambda node: node.value)
    quarter = len(children) // 4
    visits = [sum(node.visits for node in some) for some in (children[:quarter], children[-quarter:])]
    assert visits[0] < visits[1]


@pytest.mark.parametrize("algorithm", [TreeSearch(growth=0.1), TreeSearch(width=0.01, growth=0.5)], ids=repr)
def test_descents_that_only_count_come_to_an_end(algorithm):
    assert run(algorithm, nfe=100).ledger.nfe > 100 - END


@pytest.mark.parametrize("algorithm", [TreeSearch(eta=0.5), MonteCarloTreeSearch(eta=0.5)], ids=repr)
def test_a_branch_takes_its_eta_to_the_end_and_fresh_noises_the_ode(algorithm):
    finished = [one for one in run(algorithm, nfe=400).candidates if one.finished]
    assert {bool(left_at(one)) for one in finished} == {True, False}
    for recipe in (one.recipe for one in finished):
        branched = False
        for op in recipe.operations:
            branched = branched or op["op"] == "branch"
            if op["op"] == "run":
                assert (op.get("rho"), op.get("eta")) == ((None, 0.5) if branched else (1, None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": "best"}, "select='best' must be one of uct, boltzmann"),
        ({"growth": 1.5}, "growth=1.5"),
        ({"width": 0}, "width=0"),
        ({"sharpness": -1}, "sharpness=-1"),
        ({"explore": -1.0}, "explore=-1.0"),
        ({"eta": 0.0}, "eta=0.0"),
        ({"points": (0.0, 0.5)}, "points=0.0"),
        ({"parallel": 0}, "parallel=0"),
        ({"literal": True, "points": (0.5,)}, "literal=True"),
        ({"literal": True, "process": True}, "literal=True"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TreeSearch(**options)
