"""EvoSearch: its price, its parents and its moves against the paper's rules."""

import pytest

from contracts.algorithm import run
from noise_search import EvoSearch
from noise_search.algorithms.base import Terms
from noise_search.algorithms.knowledge import ModelFacts
from tiny.search import CountingSampler, scores, space

END = 8


def price(shape, end):
    return shape.fresh * end + sum(n * (end - e) for e, n in zip(shape.starts, shape.children, strict=True))


def test_the_published_schedule_takes_what_the_paper_says():
    asked = EvoSearch(literal=True)
    shape = asked.shape(Terms(space(50), 5000))
    assert (shape.starts, shape.fresh, shape.children, shape.elites) == ((0, 20, 30, 40), 42, (26, 26, 26, 30), 5)
    assert price(shape, 50) == 2100 + 1300 + 780 + 520 + 300 == 5000
    small = asked.shape(Terms(space(50), 999))
    assert (small.fresh, small.children, small.elites) == (8, (5, 5, 5, 6), 1)


@pytest.mark.parametrize("nfe", [8, 20, 33, 64, 100, 160, 401])
@pytest.mark.parametrize(
    "asked", [EvoSearch(), EvoSearch(starts=(0.25, 0.5), first=0.6)], ids=["default", "two starts"]
)
def test_populations_fit_the_budget_and_the_price_is_exact(asked, nfe):
    shape = asked.shape(Terms(space(END), nfe))
    assert nfe - END < price(shape, END) <= nfe
    found = run(asked, nfe=nfe)
    assert found.ledger.nfe == price(shape, END) and found.ledger.nfe_waste == 0
    finished = found.settings["algorithm"]["schedule"]["finished"]
    assert finished == [shape.fresh, *shape.children]
    assert found.schedule.startswith(f"{shape.fresh} noise") and found.schedule.endswith(f"of {END} steps")
    assert sum(finished) == len(found.candidates) and all(c.finished for c in found.candidates)


def test_a_model_that_can_not_branch_has_generations_of_pure_noise():
    terms = Terms(space(END), 200, model=ModelFacts(can_mix=False))
    shape = EvoSearch().shape(terms)
    assert shape.starts == (0,) and price(shape, END) > 200 - END


def test_generations_of_pure_noise_need_whole_runs_alone():
    class Whole(CountingSampler):
        can_mix = can_stop = False

    found = run(EvoSearch(starts=[0, 0]), Whole(), nfe=200)
    assert any("pcn" in one.recipe.to_json() for one in found.candidates)
    with pytest.raises(ValueError, match="evo-search"):
        run(EvoSearch(), Whole(), nfe=200)


def test_children_leave_trajectories_of_the_elites_and_the_last_generation():
    """The rule once more, told by recipes: where each child began, and whose states it began from."""
    asked = EvoSearch(starts=(0, 0.4, 0.6), elites=2)
    found = run(asked, nfe=600)
    shape, told = asked.shape(Terms(space(END), 600)), scores(found)
    assert shape.starts == (0, 3, 5)
    rows = list(found.candidates)
    population, at = list(range(shape.fresh)), shape.fresh
    for start, count in zip(shape.starts, shape.children, strict=True):
        children = list(range(at, at + count))
        at += count
        best = sorted(population, key=lambda i: (-told[i], i))
        wins = []
        for child in (rows[i].recipe for i in children):
            moved, ran = child.before_runs, child.last
            assert (ran["from"], ran["to"]) == ((0, END) if start == 0 else (start + 1, END))
            if start == 0:
                assert moved.last["op"] == "pcn" and moved.last["beta"] == 0.2
                (parent,) = [i for i in best if rows[i].recipe.noise == moved.before]
            else:
                first = next(one for one in child.beginnings() if one.last["op"] == "branch")
                able = [i for i in best if _passed(rows[i].recipe, first.before)]
                assert able, "a state that no member of the population passed"
                parent = able[0]
            wins.append(best.index(parent))
        assert wins.count(0) > len(wins) / 2 and max(wins) < 4, "tournaments of 90 % are nearly greedy"
        population = [*best[:2], *children]


def _passed(recipe, earlier):
    """Whether a trajectory came through a state: its recipe holds that one's operations, a run perhaps going on."""
    *before, last = earlier.operations
    own = recipe.operations
    if list(own[: len(before)]) != before or len(own) <= len(before):
        return False
    here = own[len(before)]
    return all(here[key] == last[key] for key in ("op", "from", "grid", "rho")) and here["to"] >= last["to"]


def test_parents_are_crossed_and_repaired_where_that_is_asked_for():
    asked = EvoSearch(starts=(0,), crossing="mean", repair=True)
    found = run(asked, nfe=160)
    made = [[op["op"] for op in c.recipe.noise.operations] for c in found.candidates]
    fresh = asked.shape(Terms(space(END), 160)).fresh
    assert {*map(len, made[:fresh])} == {1} and {tuple(ops[-3:]) for ops in made[fresh:]} == {("mean", "pcn", "repair")}
    region = run(EvoSearch(starts=(0,), crossing="region"), nfe=160)
    assert region.candidates[-1].recipe.noise.operations[-2]["by"] == "region"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": (0.6, 0.4)}, "must not fall"),
        ({"starts": (1.0,)}, "starts=1.0"),
        ({"first": 1.0}, "first=1.0"),
        ({"beta": 0.0}, "beta=0.0"),
        ({"eta": 2}, "eta=2"),
        ({"elites": 0}, "elites=0"),
        ({"crossing": "union"}, "crossing='union'"),
        ({"literal": True, "beta": 0.3}, "literal=True"),
        ({"literal": True, "starts": (0.0,)}, "literal=True"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EvoSearch(**options)
