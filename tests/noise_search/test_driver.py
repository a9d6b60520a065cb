"""The driver on a closed-form model: budget, fairness, limits, failures."""

import warnings

import numpy as np
import pytest
import torch

import noise_search
from noise_search import AllCandidatesFailed, SearchOutOfMemory, search
from tiny.search import CountingSampler, ParticleSearch, TreeSearch, brightness, contrast, exact_x0
from verifiers import FunctionVerifier


def run(sampler=None, **options):
    settings = {"verifier": brightness, "nfe": 80, "progress": False, "model": sampler or CountingSampler()}
    return search("a prompt", **{**settings, **options})


def test_random_search_spends_whole_trajectories_and_draws_consecutive_seeds():
    result = run(nfe=85, seed=3)
    assert result.ledger.nfe == 80 and [c.seed for c in result.candidates] == list(range(3, 13))
    assert result.stop_reason == "budget spent"
    small = run(nfe=32, seed=3)
    assert [c.score for c in small.candidates] == pytest.approx([c.score for c in result.candidates[:4]], abs=1e-6)
    assert result.score == max(c.score for c in result.candidates)


def test_the_curve_only_rises_and_ends_at_the_spent_budget():
    result = run(nfe=200)
    nfe, scores = zip(*result.curve(), strict=True)
    assert list(nfe) == sorted(nfe) and list(scores) == sorted(scores)
    assert nfe[-1] == result.ledger.nfe and scores[-1] == result.score and scores[0] == result.first_score


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


def test_prompts_in_lockstep_equal_prompts_one_by_one():
    prompts = ["a", "a longer prompt", "b"]
    together = search(prompts, model=CountingSampler(), verifier=brightness, nfe=50, progress=False, batch_size=5)
    for prompt, result in zip(prompts, together, strict=True):
        alone = search(prompt, model=CountingSampler(), verifier=brightness, nfe=50, progress=False)
        assert result.prompt == prompt and result.ledger.nfe == alone.ledger.nfe
        assert result.best.id == alone.best.id
        assert [c.score for c in result.candidates] == pytest.approx([c.score for c in alone.candidates], abs=1e-5)


def test_lockstep_shares_batches_and_books_every_row_once():
    sampler = CountingSampler()
    results = search(["a", "b", "c"], model=sampler, verifier=brightness, nfe=27, progress=False, batch_size=4)
    assert sampler.largest == 4
    assert sum(r.ledger.denoiser_rows for r in results) == sampler.rows == 3 * 24


def test_nan_scores_never_win_and_are_reported():
    def sometimes(images, prompts):
        scores = images.mean((1, 2, 3))
        scores[scores > scores.median()] = float("nan")
        return scores

    result = run(verifier=sometimes, nfe=160, batch_size=8)
    assert np.isfinite(result.score)
    bad = [c for c in result.candidates if c.failure]
    assert bad and all("no finite score" in c.failure and np.isnan(c.score) for c in bad)


def test_nan_images_never_win_even_under_a_blind_verifier():
    def broken(x, alpha, sigma, prompts):
        x0 = exact_x0(x, alpha, sigma, prompts)
        x0[1::2] = float("nan")
        return x0

    result = run(CountingSampler(fn=broken), verifier=lambda images, prompts: torch.arange(len(images)), nfe=64)
    assert result.best.id % 2 == 0
    assert {c.failure for c in result.candidates if c.id % 2} == {"the image has non-finite pixels"}


def test_all_bad_is_an_error_that_says_why():
    with pytest.raises(AllCandidatesFailed, match="no finite score"):
        run(verifier=lambda images, prompts: torch.full((len(images),), float("nan")))
    never = FunctionVerifier(lambda images, prompts: -torch.ones(len(images)), "never", kind="constraint")
    with pytest.raises(AllCandidatesFailed, match="constraint"):
        run(verifier=[brightness, never])


def test_a_verifier_that_fails_on_one_image_loses_only_that_one():
    seen = []

    def picky(images, prompts):
        seen.append(len(images))
        if bool((images.mean((1, 2, 3)) > threshold).any()):
            raise RuntimeError("too bright for me")
        return images.mean((1, 2, 3))

    threshold = sorted(c.score for c in run(nfe=160).candidates)[-2]
    result = run(verifier=picky, nfe=160, batch_size=10)
    failed = [c for c in result.candidates if c.failure]
    assert len(failed) == 1 and "too bright" in failed[0].failure
    assert result.score == pytest.approx(threshold)


def test_ties_go_to_the_lowest_id():
    result = run(verifier=lambda images, prompts: torch.ones(len(images)))
    assert result.best.id == 0 and len(result.bests) == 1


@pytest.mark.parametrize("scale", [-1e30, 1e30, -1.0])
def test_scores_of_any_size_rank(scale):
    result = run(verifier=lambda images, prompts: scale * images.mean((1, 2, 3)))
    chosen = max(result.candidates, key=lambda c: c.score)
    assert result.best.id == chosen.id


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("boom")], ids=["ctrl-c", "error"])
def test_what_was_found_survives_ctrl_c_and_errors(stop):
    sampler = CountingSampler()

    def failing(candidate):
        if candidate.id == 5:
            raise stop

    result = run(sampler, on_candidate=failing, batch_size=2)
    assert result.error is stop
    assert result.stop_reason == ("interrupted" if isinstance(stop, KeyboardInterrupt) else "RuntimeError: boom")
    assert len(result.candidates) == 6 and result.best.finished


def test_an_error_in_the_model_refunds_the_batch_and_books_what_ran():
    def failing(x, alpha, sigma, prompts):
        if sampler.rows > 8 * 4 + 6:
            raise RuntimeError("model broke")
        return exact_x0(x, alpha, sigma, prompts)

    sampler = CountingSampler(fn=failing)
    result = run(sampler, batch_size=4)
    assert result.stop_reason == "RuntimeError: model broke"
    assert result.ledger.nfe == 32
    assert result.ledger.nfe + result.ledger.nfe_waste == sampler.rows


def test_an_error_before_anything_was_found_is_raised():
    def failing(x, alpha, sigma, prompts):
        raise RuntimeError("model broke")

    with pytest.raises(RuntimeError, match="model broke"):
        run(CountingSampler(fn=failing))


def test_out_of_memory_halves_the_batch_and_changes_nothing_else():
    def hungry(x, alpha, sigma, prompts):
        if len(x) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return exact_x0(x, alpha, sigma, prompts)

    sampler = CountingSampler(fn=hungry)
    result = run(sampler, batch_size=16, nfe=160)
    reference = run(batch_size=2, nfe=160)
    assert sampler.largest == 16 and result.ledger.nfe == 160
    assert result.ledger.nfe + result.ledger.nfe_waste == sampler.rows
    assert result.ledger.nfe_waste == 16 + 8 + 4, "one evaluation of each batch that did not fit"
    assert [c.score for c in result.candidates] == pytest.approx([c.score for c in reference.candidates], abs=1e-6)


def test_out_of_memory_with_one_candidate_says_what_to_do():
    def hungry(x, alpha, sigma, prompts):
        raise RuntimeError("CUDA error: out of memory")

    with pytest.raises(SearchOutOfMemory, match="smaller height"):
        run(CountingSampler(fn=hungry))

    class HungryDecoder(CountingSampler):
        def decode(self, states):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(SearchOutOfMemory, match="smaller height"):
        run(HungryDecoder())


def test_limits_end_the_search_and_say_so():
    full = run(nfe=800, batch_size=1)
    reached = sorted(c.score for c in full.candidates[:20])[-1]
    target = run(nfe=800, batch_size=1, target_score=reached)
    assert target.score >= reached and len(target.candidates) <= 20
    assert target.stop_reason.startswith("target score")
    patient = run(nfe=800, batch_size=1, patience=5)
    assert patient.candidates[-1].id - patient.best.id == 5 and "5" in patient.stop_reason
    timed = run(nfe=800, batch_size=1, time_limit=1e-9)
    assert len(timed.candidates) == 1 and timed.stop_reason.startswith("time limit")


def test_several_verifiers_rank_by_mean_rank_and_keep_raw_components():
    result = run(verifier=[brightness, contrast], nfe=160)
    assert not result.absolute and len(result.best.scores) == 2
    table = np.array([list(c.scores.values()) for c in result.candidates])
    ranks = table.argsort(0).argsort(0).mean(1)
    assert ranks[result.best.id] == ranks.max()
    assert result.score == pytest.approx(ranks.max() / (len(table) - 1))
    with pytest.raises(ValueError, match="absolute"):
        result.curve()
    assert all(points[-1][0] == result.ledger.nfe for points in result.curves().values())


def test_a_target_score_is_refused_for_ranks():
    with pytest.raises(ValueError, match="target_score"):
        run(verifier=[brightness, contrast], target_score=0.5)


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


def test_a_failing_judge_does_not_lose_the_result():
    def failing(images, prompts):
        raise RuntimeError("no judgement today")

    result = run(judges=[failing])
    assert np.isnan(next(iter(result.judges.values()))["best"])


def test_every_candidate_is_announced_once_in_order():
    seen = []
    result = run(on_candidate=lambda c: seen.append(c.id), algorithm=TreeSearch())
    assert seen == [c.id for c in result.candidates]


def test_stochastic_particles_are_reproducible():
    first, second = (run(algorithm=ParticleSearch(), nfe=120) for _ in range(2))
    assert [c.score for c in first.candidates] == [c.score for c in second.candidates]
    other = run(algorithm=ParticleSearch(), nfe=120, seed=1)
    assert [c.score for c in first.candidates] != [c.score for c in other.candidates]


def test_deterministic_runs_are_bit_equal_and_pay_for_padding():
    first, second = (run(deterministic=True, batch_size=6, nfe=64) for _ in range(2))
    assert [c.score for c in first.candidates] == [c.score for c in second.candidates]
    assert first.ledger.nfe_waste == 4 * 8


def test_progress_goes_to_standard_error_with_cost_and_projection(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert (
        "80 NFE: up to 10 candidates of 8 steps" in shown.err
        and "brightness@" in shown.err
        and "by the first batch" in shown.err
    )


def test_one_failing_prompt_does_not_stop_the_others():
    def picky(images, prompts):
        return torch.tensor(
            [float("nan") if p == "bad" else float(i.mean()) for i, p in zip(images, prompts, strict=True)]
        )

    good, bad = search(["good", "bad"], model=CountingSampler(), verifier=picky, nfe=24, progress=False)
    assert not good.failed and good.image.size == (4, 4)
    assert bad.failed and "no winner" in repr(bad) and bad.to_json()["score"] is None
    with pytest.raises(AllCandidatesFailed, match="'bad'"):
        _ = bad.image


def test_a_winner_that_rises_from_behind_as_the_pool_grows_still_has_its_image():
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        noise = [lambda images, prompts, g=generator: torch.rand(len(images), generator=g) for _ in range(2)]
        verifiers = [FunctionVerifier(fn, name) for fn, name in zip(noise, "ab", strict=True)]
        result = run(CountingSampler(2), verifier=verifiers, nfe=80, batch_size=40, top_k=1)
        assert result.best.pixels is not None
        for points in result.curves().values():
            assert [nfe for nfe, _ in points] == sorted(nfe for nfe, _ in points)


def test_prompts_take_turns_so_that_an_early_end_leaves_each_something():
    options = {"model": CountingSampler(), "verifier": brightness, "nfe": 64, "progress": False, "batch_size": 3}
    results = search(["a", "b", "c"], time_limit=1e-9, **options)
    assert [len(r.candidates) for r in results] == [1, 1, 1]


def test_an_error_in_the_callback_loses_no_prompts_rows_and_marks_only_those_it_ended():
    def failing(candidate):
        raise RuntimeError("boom")

    options = {"model": CountingSampler(), "verifier": brightness, "progress": False, "batch_size": 4}
    both = search(["a", "b"], nfe=16, on_candidate=failing, **options)
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

    done, ended = search(["a", "b"], nfe=80, algorithm=Unequal(), on_candidate=later, **options)
    assert done.error is None and done.stop_reason == "the algorithm ended"
    assert isinstance(ended.error, RuntimeError) and ended.stop_reason == "RuntimeError: boom"


def test_ctrl_c_while_judging_keeps_the_result():
    def interrupted(images, prompts):
        raise KeyboardInterrupt

    result = run(judges=[interrupted])
    assert result.best.finished and result.judges == {}


def test_a_description_that_is_no_json_is_found_before_anything_is_computed():
    class Odd(CountingSampler):
        def describe(self):
            return {"odd": object()}

    sampler = Odd()
    with pytest.raises(TypeError, match="JSON"):
        run(sampler)
    assert sampler.rows == 0


def test_a_verifier_out_of_memory_scores_smaller_batches():
    def hungry(images, prompts):
        if len(images) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return brightness(images, prompts)

    result, reference = run(verifier=hungry, batch_size=10), run(batch_size=10)
    assert [c.score for c in result.candidates] == [c.score for c in reference.candidates]
    assert result.ledger.nfe == 80 and result.ledger.nfe_waste == 0


def test_out_of_memory_halves_a_padded_batch_by_its_padded_size():
    def hungry(x, alpha, sigma, prompts):
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return exact_x0(x, alpha, sigma, prompts)

    sampler = CountingSampler(fn=hungry)
    result = run(sampler, nfe=8, batch_size=16, deterministic=True)
    assert result.settings["batch_size"] == 4
    assert result.ledger.nfe + result.ledger.nfe_waste == sampler.rows


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_failing_image_is_lost_alone_in_any_micro_batch(batch_size):
    bad = run(nfe=80).candidates[6].score

    def picky(images, prompts):
        scores = images.mean((1, 2, 3))
        if bool(((scores - bad).abs() < 1e-6).any()):
            raise RuntimeError("not this one")
        return scores

    result = run(verifier=picky, batch_size=batch_size)
    assert [c.id for c in result.candidates if c.failure] == [6] and result.stop_reason == "budget spent"


def test_a_verifier_that_stops_working_ends_the_search_with_what_there_is():
    calls = []

    def dying(images, prompts):
        calls.append(len(images))
        if len(calls) > 3:
            raise RuntimeError("gone")
        return images.mean((1, 2, 3))

    result = run(verifier=dying, batch_size=1, nfe=800)
    assert result.stop_reason == "RuntimeError: gone" and len(calls) == 3 + 16


def test_a_broken_first_image_is_not_judged():
    def broken(x, alpha, sigma, prompts):
        x0 = exact_x0(x, alpha, sigma, prompts)
        x0[0] = float("nan")
        return x0

    result = run(CountingSampler(fn=broken), judges=[contrast])
    assert result.first.failure and np.isnan(next(iter(result.judges.values()))["first"])


@pytest.mark.parametrize("jobs", [[], "job", [3]])
def test_a_plan_that_yields_no_jobs_is_named(jobs):
    class Wrong:
        name, whole_calls = "wrong", True

        def plan(self, problem):
            yield jobs

    with pytest.raises(TypeError, match="the algorithm yielded"):
        run(algorithm=Wrong())


def test_deterministic_bits_do_not_depend_on_the_neighbours():
    shapes = set()

    def watching(images, prompts):
        shapes.add(len(images))
        return images.mean((1, 2, 3))

    five, eight = (run(verifier=watching, deterministic=True, batch_size=4, nfe=8 * n) for n in (5, 8))
    assert shapes == {4}
    assert [c.score for c in five.candidates] == [c.score for c in eight.candidates[:5]]


def test_numpys_integers_are_settings_like_any_other(tmp_path):
    result = run(seed=np.int64(3), nfe=np.int64(16), batch_size=np.int32(2), top_k=np.int64(1))
    assert result.save(tmp_path)["result"].exists() and result.first.seed == 3


def test_a_prompt_without_a_winner_is_saved_as_its_record(tmp_path):
    def picky(images, prompts):
        return torch.tensor([float("nan") if p == "bad" else 1.0 for p in prompts])

    results = search(["good", "bad"], model=CountingSampler(), verifier=picky, nfe=16, progress=False)
    assert list(results[1].save(tmp_path)) == ["result"] and (tmp_path / "result.json").exists()
