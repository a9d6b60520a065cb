"""The driver on a closed-form model: budget, fairness, prompts in lockstep, limits and early ends."""

import json
import re
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import noise_search
from noise_search import (
    AllCandidatesFailed,
    Climb,
    Halving,
    RandomSearch,
    SearchOverPaths,
    prompt_sets,
    search,
)
from noise_search.algorithms.base import Job
from noise_search.engine.progress import _left
from tiny.search import CountingSampler, TreeSearch, brightness, contrast, exact_x0, raising, scores, toy_search
from verifiers import FunctionVerifier, MeanRank


def run(sampler=None, **options):
    return toy_search(sampler, **{"nfe": 80, **options})


def test_random_search_spends_whole_trajectories_and_draws_consecutive_seeds():
    result = run(nfe=85, seed=3)
    assert result.ledger.nfe == 80 and [c.seed for c in result.candidates] == list(range(3, 13))
    assert result.stop_reason == "budget spent"
    small = run(nfe=32, seed=3)
    assert scores(small) == pytest.approx(scores(result)[:4], abs=1e-6)
    assert result.score == max(scores(result))


def test_the_curve_only_rises_and_ends_at_the_spent_budget():
    result = run(nfe=200)
    nfe, values = zip(*result.curve(), strict=True)
    assert list(nfe) == sorted(nfe) and list(values) == sorted(values)
    assert nfe[-1] == result.ledger.nfe and values[-1] == result.score and values[0] == result.first_score


def test_ties_go_to_the_lowest_id():
    result = run(verifier=lambda images, prompts: torch.ones(len(images)))
    assert result.best.id == 0 and len(result.bests) == 1


def test_an_unfinished_row_that_looks_best_is_finished_from_the_reserve():
    class Early:
        name, whole_calls = "early", False

        def plan(self, problem):
            yield noise_search.Job(problem.fresh(1), problem.space.end)
            while True:
                yield noise_search.Job(problem.fresh(1), 3)

    calls = []

    def rising(images, prompts):
        calls.append(len(images))
        return torch.arange(len(images)).float() + len(calls)

    sampler = CountingSampler()
    result = run(sampler, algorithm=Early(), verifier=rising, nfe=30)
    assert [c.finished for c in result.candidates] == [True, *[False] * 5, True]
    assert result.best is result.candidates[-1]
    assert result.best.seed == result.candidates[-2].seed, "the last partial row was the best one"
    assert sampler.rows == result.ledger.nfe == 8 + 5 * 3 + 5


@pytest.mark.parametrize("jobs", [[], "job", [3]])
def test_a_plan_that_yields_no_jobs_is_named(jobs):
    class Wrong:
        name, whole_calls = "wrong", True

        def plan(self, problem):
            yield jobs

    with pytest.raises(TypeError, match="the algorithm yielded"):
        run(algorithm=Wrong())


def test_prompts_in_lockstep_equal_prompts_one_by_one():
    prompts = ["a", "a longer prompt", "b"]
    for prompt, result in zip(prompts, run(prompt=prompts, nfe=50, batch_size=5), strict=True):
        alone = run(prompt=prompt, nfe=50)
        assert result.prompt == prompt and result.ledger.nfe == alone.ledger.nfe
        assert result.best.id == alone.best.id and scores(result) == pytest.approx(scores(alone), abs=1e-5)


def test_lockstep_shares_batches_and_books_every_row_once():
    sampler = CountingSampler()
    results = run(sampler, prompt=["a", "b", "c"], nfe=27, batch_size=4)
    assert sampler.largest == 4
    assert sum(r.ledger.denoiser_rows for r in results) == sampler.rows == 3 * 24


def test_prompts_take_turns_so_that_an_early_end_leaves_each_something():
    results = run(prompt=["a", "b", "c"], time_limit=1e-9, nfe=64, batch_size=3)
    assert [len(r.candidates) for r in results] == [1, 1, 1]


def test_one_failing_prompt_does_not_stop_the_others_and_is_saved_as_its_record(tmp_path):
    def picky(images, prompts):
        means = images.mean((1, 2, 3)).tolist()
        return torch.tensor([float("nan") if p == "bad" else m for m, p in zip(means, prompts, strict=True)])

    good, bad = run(prompt=["good", "bad"], verifier=picky, nfe=24)
    assert not good.failed and good.image.size == (4, 4)
    assert bad.failed and "no winner" in repr(bad) and bad.to_json()["score"] is None
    with pytest.raises(AllCandidatesFailed, match="'bad'"):
        _ = bad.image
    assert list(bad.save(tmp_path)) == ["result"] and (tmp_path / "result.json").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("boom")], ids=["ctrl-c", "error"])
def test_what_was_found_survives_ctrl_c_and_errors(stop):
    def failing(candidate):
        if candidate.id == 5:
            raise stop

    result = run(on_candidate=failing, batch_size=2, on_interrupt="return")
    assert result.error is stop
    assert result.stop_reason == ("interrupted" if isinstance(stop, KeyboardInterrupt) else "RuntimeError: boom")
    assert len(result.candidates) == 6 and result.best.finished


def test_an_error_in_the_callback_loses_no_prompts_rows_and_marks_only_those_it_ended():
    both = run(prompt=["a", "b"], nfe=16, on_candidate=raising(RuntimeError("boom")), batch_size=4)
    assert [len(r.candidates) for r in both] == [2, 2]

    class Unequal:
        name, whole_calls = "unequal", True

        def plan(self, problem):
            yield noise_search.Job(problem.fresh(1), problem.space.end)
            problems.append(problem)
            if len(problems) == 2:
                yield noise_search.Job(problem.fresh(1), problem.space.end)

    problems, seen = [], []

    def later(candidate):
        seen.append(candidate)
        if len(seen) == 3:
            raise RuntimeError("boom")

    done, ended = run(prompt=["a", "b"], algorithm=Unequal(), on_candidate=later, batch_size=4)
    assert done.error is None and done.stop_reason == "the algorithm ended"
    assert isinstance(ended.error, RuntimeError) and ended.stop_reason == "RuntimeError: boom"


def test_limits_end_the_search_and_say_so():
    options = {"nfe": 800, "batch_size": 1}
    reached = max(scores(run(**options))[:20])
    target = run(target_score=reached, **options)
    assert target.score >= reached and len(target.candidates) <= 20
    assert target.stop_reason.startswith("target score")
    patient = run(patience=5, **options)
    assert patient.candidates[-1].id - patient.best.id == 5 and "5" in patient.stop_reason
    timed = run(time_limit=1e-9, **options)
    assert len(timed.candidates) == 1 and timed.stop_reason.startswith("time limit")


def test_verifiers_rank_by_mean_rank_where_asked_for_and_keep_raw_components():
    result = run(verifier=[brightness, contrast], ensemble="mean-rank", nfe=160)
    assert not result.absolute and len(result.best.scores) == 2
    table = np.array([list(c.scores.values()) for c in result.candidates])
    ranks = table.argsort(0).argsort(0).mean(1)
    assert ranks[result.best.id] == ranks.max()
    assert result.score == pytest.approx(ranks.max() / (len(table) - 1))
    with pytest.raises(ValueError, match="absolute"):
        result.curve()
    assert all(points[-1][0] == result.ledger.nfe for points in result.curves().values())


def test_a_winner_that_rises_from_behind_as_the_pool_grows_still_has_its_image():
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        noise = [lambda images, prompts, g=generator: torch.rand(len(images), generator=g) for _ in range(2)]
        verifiers = [FunctionVerifier(fn, name) for fn, name in zip(noise, "ab", strict=True)]
        result = run(CountingSampler(2), verifier=MeanRank(*verifiers), batch_size=40, top_k=1)
        assert result.best.pixels is not None
        for points in result.curves().values():
            assert [nfe for nfe, _ in points] == sorted(nfe for nfe, _ in points)


def test_every_candidate_is_announced_once_in_order():
    seen = []
    result = run(on_candidate=lambda c: seen.append(c.id), algorithm=TreeSearch())
    assert seen == [c.id for c in result.candidates]


def test_progress_goes_to_standard_error_and_moves_within_a_micro_batch(capsys):
    def slow(*given):
        time.sleep(0.11)  # longer than between two looks of the bar
        return exact_x0(*given)

    toy_search(CountingSampler(4, slow), candidates=4, batch_size=2, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for words in ("16 NFE, random: up to 4 candidates of 4 steps", "verifier brightness", "best 0."):
        assert shown.err.count(words) >= 1
    seen = [int(n) for n in re.findall(r"(\d+)/16 NFE", shown.err)]
    assert seen == sorted(seen) and {2, 4, 6, 8, 12} <= set(seen)
    assert "0 NFE, 00:00 gone, time left unknown" in shown.err.replace("/16", "") and "00:00 left" in shown.err


def test_what_is_left_is_told_by_the_mean_speed_and_never_in_centuries():
    assert _left(0, 100, 3.0) == "time left unknown"
    assert _left(25, 100, 30.0) == "01:30 left"
    assert _left(1, 10**9, 10.0) == "more than 30 days left"


def test_a_set_of_prompts_is_searched_like_a_list():
    results = run(prompt=prompt_sets.load([{"prompt": "a"}, {"prompt": "b\nc"}]), nfe=16)
    assert [one.prompt for one in results] == ["a", "b\nc"]


def test_a_long_seed_is_taken_with_what_torch_keeps_of_it(caplog):
    assert scores(run(seed=2**32 + 3)) == scores(run(seed=3))
    assert caplog.messages == [
        "seed=4294967299: torch's generator keeps its low 32 bits, and draws the noise of seed 3"
    ]


def test_behind_the_last_seed_of_torch_comes_its_first_one():
    result = run(seed=2**32 - 2, nfe=32)
    assert [one.seed for one in result.candidates] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert scores(result)[2:] == pytest.approx(scores(run(seed=0, nfe=16)), abs=1e-6)


class ListedJobs:
    name, whole_calls = "listed", True

    def plan(self, problem):
        return [Job(problem.fresh(1), problem.space.end)]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"prompt": b"a cat"}, TypeError, "prompt b'a cat' is a bytes"),
        ({"seed": 2**64}, ValueError, "must be a whole number"),
        ({"seed": -1}, ValueError, "must be a whole number"),
        ({"on_candidate": "print"}, TypeError, "on_candidate='print' is a str; expected a function"),
        ({"algorithm": ListedJobs()}, TypeError, "the plan of algorithm 'listed' is a list; expected a generator"),
        ({"progress": "no"}, TypeError, "progress='no' must be True or False"),
    ],
    ids=["bytes", "seed", "negative", "callback", "plan", "flag"],
)
def test_what_can_not_work_is_refused_before_anything_is_computed(options, error, words):
    sampler = CountingSampler()
    with pytest.raises(error, match=re.escape(words)):
        run(sampler, **options)
    assert sampler.rows == 0


def test_sizes_that_the_model_rounds_are_said_and_those_without_an_image_refused(caplog):
    small = {"candidates": 1, "steps": 2, "verifier": brightness, "progress": False}
    assert search("a", height=63, **small).image.size == (64, 56)
    assert "height=63: the model makes images of 64 x 56 (width x height)" in caplog.messages
    for size in ({"width": 1}, {"height": 1}):
        with pytest.raises(ValueError, match="hold no image: raise height and width"):
            search("a", **size, **small)


def test_one_of_a_kind_is_no_plural():
    result = run(nfe=8)
    assert "1 candidate, 8 NFE" in repr(result) and result.schedule == "up to 1 candidate of 8 steps"
    assert "1 decode, 1 verifier image, 0 judge images" in str(result.ledger)


def test_a_description_that_is_no_json_is_found_before_anything_is_computed():
    class Odd(CountingSampler):
        def describe(self):
            return {"odd": object()}

    sampler = Odd()
    with pytest.raises(TypeError, match="JSON"):
        run(sampler)
    assert sampler.rows == 0


def test_numpys_integers_are_settings_like_any_other(tmp_path):
    result = run(seed=np.int64(3), nfe=np.int64(16), batch_size=np.int32(2), top_k=np.int64(1))
    assert result.save(tmp_path)["result"].exists() and result.first.seed == 3


@pytest.mark.parametrize(
    "options",
    [
        {"algorithm": Climb(finish=np.int64(2), children=np.int64(3), rungs=(np.float32(0.3), np.float32(0.5)))},
        {"algorithm": Halving(finish=np.int64(2))},
        {"algorithm": SearchOverPaths(paths=np.int64(2))},
        {"algorithm": RandomSearch(), "draft_steps": np.int64(4), "draft_renders": np.int64(2)},
        {"algorithm": RandomSearch(), "verifier": "aesthetic", "target_score": np.float32(9)},
    ],
    ids=lambda options: repr(options["algorithm"]),
)
def test_options_and_targets_of_numpy_are_written(options, tmp_path):
    asked = {"verifier": brightness, "candidates": 10, "steps": 20, "progress": False}
    result = search("a red circle", **asked | options)
    schedule = json.loads(result.save(tmp_path)["result"].read_text())["algorithm"]["schedule"]
    assert schedule == result.settings["algorithm"]["schedule"]


def test_a_description_that_is_no_json_ends_before_anything_is_computed():
    @dataclass(frozen=True)
    class Told(RandomSearch):
        def describe(self, terms):
            return {"sampler": object()}

    sampler = CountingSampler()
    with pytest.raises(TypeError, match=r"describe\(\) of algorithm 'random' tells <object.* expected plain JSON"):
        run(sampler, algorithm=Told())
    assert sampler.rows == 0


def test_judges_see_the_first_the_top_and_every_best_and_never_steer():
    judged = run(nfe=160, judges=[contrast], top_k=2)
    alone = run(nfe=160, top_k=2)
    assert judged.best.id == alone.best.id
    expected = {judged.first.id, *(c.id for c in judged.bests), *(c.id for c in judged.top(2))}
    assert {c.id for c in judged.candidates if c.judges} == expected
    assert judged.ledger.judge_images == len(expected)
    assert {c.id for c in judged.candidates if c.pixels is not None} == expected
    key = next(iter(judged.judges))
    pixels = torch.from_numpy(judged.best.pixels).permute(2, 0, 1)[None].float() / 255
    assert judged.judges[key]["best"] == pytest.approx(float(contrast(pixels, [""])), abs=1e-6)


def test_a_judge_that_fails_or_is_interrupted_does_not_lose_the_result():
    failed = run(judges=[raising(RuntimeError("no judgement today"))])
    assert np.isnan(next(iter(failed.judges.values()))["best"])
    interrupted = run(judges=[raising(KeyboardInterrupt())])
    assert interrupted.best.finished and interrupted.judges == {}


def test_every_prompt_may_begin_with_a_seed_of_its_own():
    def seeds(found):
        return [[one.seed for one in result.candidates] for result in found]

    asked = {"nfe": 24, "verifier": brightness}
    both = toy_search(prompt=["a", "b"], seed=[7, np.int64(40)], **asked)
    assert seeds(both) == [[7, 8, 9], [40, 41, 42]] and [one.settings["seed"] for one in both] == [7, 40]
    assert scores(toy_search(prompt="b", seed=40, **asked)) == pytest.approx(scores(both[1]), abs=1e-6)
    assert seeds(toy_search(prompt=["a", "b"], seed=3, **asked)) == [[3, 4, 5]] * 2
    for wrong, told in (([1], "holds 1 for 2 prompts"), ([1, -1], "seed=-1"), (["1", 2], "seed='1'")):
        with pytest.raises(ValueError, match=told):
            toy_search(prompt=["a", "b"], seed=wrong, **asked)
