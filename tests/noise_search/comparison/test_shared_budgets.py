"""Comparisons whose prompts share a budget: whole cells, measured against random search with budgets of their own."""

import pytest

from noise_search import Comparison, compare
from tiny.search import CountingSampler, brightness, contrast

PROMPTS = ["a", "a cat", "a cat that sleeps"]
STEPS, TARGET = 4, 0.6


def compared(out=None, **options):
    asked = {"prompts": PROMPTS, "model": CountingSampler(STEPS), "verifier": brightness, "candidates": (4, 8)}
    asked |= {"algorithms": ["random", "auto"], "share": "difficulty", "seeds": 2, "diagnosed": 0, "progress": False}
    return compare(out=out, **asked | options)


def shared_of(found):
    return [one for one in found.records if one.algorithm != "random"]


def test_cells_share_their_pool_and_random_search_doesn_t():
    found = compared()
    for budget in (16, 32):
        for seed in found.seeds:
            some = [one for one in shared_of(found) if (one.budget, one.seed) == (budget, seed)]
            assert sum(one.nfe for one in some) == 3 * budget and len(some) == 3
    assert any(one.nfe != one.budget for one in shared_of(found))
    assert all(one.nfe == one.budget for one in found.records if one.algorithm == "random")
    assert all(len(one) == 8 for one in found.pools)


def test_a_target_ends_prompts_and_is_told():
    found = compared(share="threshold", target_score=TARGET)
    reached = [one.scores["brightness"] >= TARGET for one in shared_of(found) if one.budget == 32]
    assert 0 < sum(reached) < len(reached)
    assert found.passes()["auto", 32] == sum(reached) / len(reached)
    assert "reached 0.6" in found.table() and "share their budgets by threshold until each reaches 0.6" in found.table()
    for one in shared_of(found):
        if one.scores["brightness"] < TARGET:
            assert one.nfe >= one.budget
    assert found.passes()["auto", 32] >= found.passes()["random", 32]


def test_no_worth_in_random_candidates_is_told():
    found = compared()
    with pytest.raises(ValueError, match="prompts shared their budgets"):
        found.multipliers()
    assert "worth" not in found.table() and found.passes() == {}
    assert len(found.differences()) == 2


def test_it_is_written_read_and_goes_on(tmp_path):
    whole = compared(tmp_path / "out")
    assert Comparison.read(tmp_path / "out").table() == whole.table()
    paths = whole.save()
    assert "share their budgets by difficulty" in paths["report"].read_text(encoding="utf-8")
    again = CountingSampler(STEPS)
    assert compared(tmp_path / "out", model=again).records == whole.records and again.rows == 0
    lines = (tmp_path / "out" / "records.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"auto"' not in line or '"a cat"' not in line]  # killed while it wrote
    (tmp_path / "out" / "records.jsonl").write_text("".join(kept), encoding="utf-8")
    mended = compared(tmp_path / "out")
    assert {(one.cell, one.nfe, one.recipe) for one in mended.records} == {
        (one.cell, one.nfe, one.recipe) for one in whole.records
    }


@pytest.mark.parametrize("other", [{"prompts": [*PROMPTS, "more"]}, {"share": "equal"}, {"target_score": 0.5}])
def test_it_goes_on_only_with_the_same_prompts_and_way_to_share(tmp_path, other):
    compared(tmp_path / "out", candidates=4, seeds=1)
    with pytest.raises(ValueError, match="was made with another share"):
        compared(tmp_path / "out", candidates=4, seeds=1, **other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithms": ["halving"]}, "algorithm 'halving' is planned"),
        ({"share": "threshold"}, "give target_score"),
        ({"share": "equal", "target_score": 1.0}, "goes with|stops prompts that share"),
        ({"draft_steps": 2}, "drafts are planned"),
        ({"share": "unfair"}, "unknown share"),
        ({"verifier": [brightness, contrast]}, "own candidates"),
    ],
)
def test_what_can_t_be_shared_is_refused(options, message):
    model = CountingSampler(STEPS)
    with pytest.raises(ValueError, match=message):
        compared(model=model, **options)
    assert model.rows == 0
