"""Searches on drafts of fewer steps, whose best noises are rendered in full: everything charged, nothing confused."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search import RandomSearch, ZeroOrderSearch, search
from noise_search.shapes import EMBEDDED_MODELS
from tiny.command import PROMPT
from tiny.search import STUBS, CountingSampler, brightness, contrast, scores, space, toy_search
from verifiers.aggregators.ranks import MeanRank, ranks

STEPS, DRAFT = 8, 3
ALGORITHMS = [RandomSearch(), ZeroOrderSearch(), ZeroOrderSearch(chains=3, patience=1), ZeroOrderSearch(literal=True)]


def run(sampler=None, **options):
    asked = {"nfe": 120, "draft_steps": DRAFT, "algorithm": RandomSearch()}
    return toy_search(sampler or CountingSampler(STEPS), **{**asked, **options})


def drafts_of(result):
    return [c for c in result.candidates if c.draft]


@settings(max_examples=25, deadline=None)
@given(
    nfe=st.integers(2 * STEPS + 2 * DRAFT, 300),
    batch=st.integers(1, 9),
    which=st.integers(0, len(ALGORITHMS) - 1),
    renders=st.integers(1, 6),
)
def test_every_nfe_is_charged_and_no_draft_wins(nfe, batch, which, renders):
    sampler = CountingSampler(STEPS)
    result = run(sampler, nfe=nfe, batch_size=batch, algorithm=ALGORITHMS[which], draft_renders=renders)
    finished = [c for c in result.candidates if c.finished]
    assert sampler.rows == result.ledger.nfe == DRAFT * len(drafts_of(result)) + STEPS * len(finished) <= nfe
    assert nfe - result.ledger.nfe < STEPS + DRAFT or len(finished) == 1 + renders
    assert len(drafts_of(result)) + len(finished) == len(result.candidates)
    assert result.best.finished and not any(c.draft for c in (*result.bests, *result.top(9)))
    assert 2 <= len(finished) <= 1 + renders and result.first is result.candidates[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_the_best_drafts_are_rendered_in_full_from_their_own_noise(algorithm):
    result = run(algorithm=algorithm, nfe=200, draft_renders=3)
    order = sorted(drafts_of(result), key=lambda c: (-c.score, c.id))
    noises = [c.recipe.operations[:-1] for c in order]
    new = [noise for noise in noises if noise != result.first.recipe.operations[:-1]]
    rendered = [c for c in result.candidates if c.finished][1:]
    assert [c.recipe.operations[:-1] for c in rendered] == new[:3]
    assert {c.recipe.operations[-1]["grid"] for c in rendered} == {space(STEPS).id}
    assert {c.recipe.operations[-1]["grid"] for c in order} == {space(DRAFT).id}


def test_drafts_that_evaluate_some_steps_of_the_grid_are_charged_for_these():
    evaluated = (0, 2, 5)
    result = run(draft_steps=evaluated)
    drafts = drafts_of(result)
    assert result.ledger.nfe == 3 * len(drafts) + STEPS * (len(result.candidates) - len(drafts))
    [grid] = {c.recipe.operations[-1]["grid"] for c in drafts}
    assert result.settings["grids"][grid] == {"steps": None, "levels": [], "points": list(evaluated)}
    assert grid == CountingSampler(STEPS).space(points=evaluated).id
    assert result.best.finished and result.schedule == run(draft_steps=range(0, 6, 2)).schedule


def test_drafts_walk_random_searchs_stream_from_noise_0_and_score_as_plain_runs_of_so_many_steps():
    result = run(nfe=100)
    plain = run(CountingSampler(DRAFT), candidates=len(drafts_of(result)), nfe=None, draft_steps=None)
    assert [c.seed for c in drafts_of(result)] == [c.seed for c in plain.candidates]
    assert [c.score for c in drafts_of(result)] == pytest.approx(scores(plain), abs=1e-6)
    assert result.first.seed == 0 and result.first.step == STEPS


def test_at_most_half_of_what_noise_0_leaves_goes_to_renders():
    schedule = run(nfe=5 * STEPS, draft_renders=50).settings["algorithm"]["schedule"]
    assert schedule == {"steps": STEPS, "draft_steps": DRAFT, "drafts": (4 * STEPS - 2 * STEPS) // DRAFT, "renders": 2}


def test_a_time_limit_while_drafting_renders_the_best_draft():
    others = 0
    for seed in range(0, 40, 10):
        seen = []

        def slow(candidate, seen=seen):
            seen.append(candidate)
            time.sleep(0.6 if len(seen) == 4 else 0)

        result = run(nfe=400, batch_size=2, seed=seed, time_limit=0.6, on_candidate=slow)
        assert "budget" not in result.stop_reason
        best = max(drafts_of(result), key=lambda c: (c.score, -c.id))
        others += best.seed != seed
        rendered = [c.seed for c in result.candidates if c.finished]
        assert rendered == [seed, *([best.seed] if best.seed != seed else [])]
    assert others, "the plain sample was the best draft each time: take other seeds"


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_patience_while_drafting_renders_what_the_drafts_are_owed(batch_size):
    result = run(nfe=400, batch_size=batch_size, patience=3, draft_renders=3)
    drafts = [c for c in drafts_of(result) if c.failure is None]
    assert result.stop_reason == "no better candidate among 3" and drafts[-4].score == max(c.score for c in drafts)
    best = [c.seed for c in sorted(drafts, key=lambda c: -c.score) if c.seed != 0][:3]
    assert [c.seed for c in result.candidates if c.finished] == [0, *best]


def test_ctrl_c_while_drafting_returns_the_plain_sample():
    def stop(candidate):
        if candidate.draft:
            raise KeyboardInterrupt

    result = run(on_candidate=stop, on_interrupt="return")
    assert result.best is result.first and result.stop_reason == "interrupted"


def reddest(images, prompts):
    return images[:, 0].amax((1, 2))


@pytest.mark.parametrize("limit", [{}, {"patience": 8}], ids=["budget", "patience"])
def test_an_ensemble_ranks_all_drafts_as_one_pool_and_renders_the_best(limit):
    """A later draft can lift an earlier one above the best so far."""
    overtaken = 0
    for seed in range(0, 400, 20):
        result = run(
            verifier=MeanRank(brightness, contrast, reddest), draft_renders=1, seed=seed, batch_size=1, **limit
        )
        drafts = drafts_of(result)
        values = np.mean(
            [ranks(np.array(column)) for column in zip(*(c.scores.values() for c in drafts), strict=True)], 0
        )
        order = sorted(range(len(drafts)), key=lambda i: (-values[i], i))
        wanted = next(drafts[i] for i in order if drafts[i].seed != seed)
        overtaken += wanted is not drafts[-1]
        rendered = [c.seed for c in result.candidates if c.finished]
        assert rendered == [seed, wanted.seed]
    assert overtaken


def test_failed_drafts_are_not_rendered():
    def picky(images, prompts):
        values = images.mean((1, 2, 3))
        values[values > values.median()] = float("nan")
        return values

    result = run(verifier=picky, batch_size=8)
    failed = {c.recipe.operations[:-1] for c in drafts_of(result) if c.failure}
    rendered = {c.recipe.operations[:-1] for c in result.candidates[1:] if c.finished}
    assert failed and rendered and not failed & rendered


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"algorithm": "paths"}, "algorithm 'paths' stops at grid points inside trajectories"),
        ({"algorithm": STUBS[0]}, "draft_steps=3 works with searches over step-0 noises"),
        ({"draft_steps": STEPS}, "draft_steps=8 must be below the 8 steps"),
        ({"nfe": 21}, "too small for drafts of 3 steps; the least that works is nfe=22"),
        ({"draft_steps": 0}, "draft_steps=0 must be at least 1"),
        ({"draft_renders": 0}, "draft_renders=0"),
        ({"draft_steps": None, "draft_renders": 2}, "give draft_steps with it"),
    ],
)
def test_drafts_that_cannot_work_are_refused_before_anything_is_computed(options, match):
    sampler = CountingSampler(STEPS)
    with pytest.raises(ValueError, match=match):
        run(sampler, **options)
    assert sampler.rows == 0


def test_a_draft_that_likes_the_plain_sample_best_does_not_render_it_twice():
    def first_noise_wins(images, prompts):
        likes.append(images[0].mean().item())
        return -(images.mean((1, 2, 3)) - likes[0]).abs()

    likes: list[float] = []
    result = run(verifier=first_noise_wins, nfe=80, draft_renders=2)
    seeds = [c.seed for c in result.candidates if c.finished]
    assert seeds.count(0) == 1 and len(seeds) == 3 and torch.isfinite(torch.tensor(result.score))


@pytest.mark.parametrize("model", sorted(EMBEDDED_MODELS))
def test_drafts_of_both_pipelines_are_plain_runs_of_fewer_steps(model):
    options = {"model": model, "candidates": 6, "progress": False}
    drafted = search(PROMPT, steps=6, draft_steps=3, draft_renders=1, **options)
    drafts = [c for c in drafted.candidates if c.draft]
    plain = search(PROMPT, steps=3, **(options | {"candidates": len(drafts)}))
    assert [c.score for c in drafts] == pytest.approx(scores(plain), abs=1e-4)
    full = search(PROMPT, steps=6, **(options | {"candidates": 1}), seed=drafted.candidates[-1].seed)
    assert drafted.candidates[-1].score == pytest.approx(full.score, abs=1e-4)
