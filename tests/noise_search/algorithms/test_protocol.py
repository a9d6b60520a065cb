"""What an algorithm may ask for and see, in whole searches on the closed-form model."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from noise_search import Job
from noise_search.algorithms.base import Terms
from noise_search.algorithms.knowledge import Calibration, SeedPrior
from samplers import Ancestral, Deterministic, Mix
from samplers.denoiser import DenoiserSampler
from samplers.state import State
from tiny.search import CountingSampler, brightness, contrast, exact_x0, space, toy_search
from verifiers import MeanRank, MeanZ

END = 8


@dataclass(frozen=True)
class Plan:
    """An algorithm of one function, which may keep what it sees."""

    made: object
    name: str = "made"
    whole_calls: bool = False
    grids: tuple[int, ...] = ()

    def plan(self, problem):
        yield from self.made(problem)


def run(made, sampler=None, grids=(), **options):
    return toy_search(sampler, algorithm=Plan(made, grids=grids), **{"nfe": 80, **options})


def test_looks_are_the_scores_of_jobs_that_stop_there_and_cost_a_decode_and_no_nfe():
    seen = {}

    def made(problem):
        (seen["through"],) = yield Job(problem.fresh(3), END, looks=(2, 5))

    def stopping(problem):
        (seen["early"],) = yield Job(problem.fresh(3), 2)

    run(stopping)
    sampler = CountingSampler()
    result = run(made, sampler, batch_size=2)
    look, key = seen["through"].looks[2], next(iter(seen["early"].components))
    assert look.components[key] == pytest.approx(seen["early"].components[key], abs=1e-6)
    assert look.ids == seen["through"].ids and look.states.step == 2 and len(look[[1]]) == 1
    assert look.states.recipes == seen["early"].states.recipes
    assert seen["through"][[2, 0]].looks[5].components[key][1] == seen["through"].looks[5].components[key][0]
    assert sampler.rows == result.ledger.nfe == 3 * END
    assert result.ledger.decodes == 3 * 3 == result.ledger.verifier_images
    told = json.loads(json.dumps(result.to_json()))["candidates"][0]["looks"]
    assert told["2"][key] == pytest.approx(float(look.components[key][0]))


def test_an_unscored_job_can_be_looked_at_on_the_way():
    def made(problem):
        (found,) = yield Job(problem.fresh(2), END - 1, score=False, looks=(3,))
        assert np.isfinite(next(iter(found.looks[3].components.values()))).all()
        yield Job(found.states, END)

    result = run(made)
    assert result.ledger.decodes == 4 and len(result.candidates) == 2


def test_transitions_of_each_step_are_one_job():
    def made(problem):
        once = (Mix(0.0), *[Deterministic()] * (END - 3))
        (start,) = yield Job(problem.fresh(1), 2, score=False)
        yield Job(problem.space.branch(start.states[[0, 0]], problem.seeds(2)), END, transition=once)
        yield Job(problem.fresh(1), END, transition=Ancestral(1.0))

    result = run(made)
    branched = [c.recipe.operations for c in result.candidates[:2]]
    assert [op["op"] for op in branched[0]] == ["fresh", "run", "branch", "run", "run"]
    assert [op["rho"] for op in branched[0] if op["op"] == "run"] == [1.0, 0.0, 1.0]
    assert result.candidates[0].score != result.candidates[1].score
    assert result.candidates[2].recipe.operations[-1]["eta"] == 1.0


@pytest.mark.parametrize(
    ("job", "told"),
    [
        ({"looks": (END,)}, "looks=.* must lie between 0 and 8"),
        ({"transition": (Mix(0.5),)}, "1 transitions for the 8 steps"),
        ({"reference": True, "score": False}, "reference=True takes the job's scores"),
    ],
)
def test_jobs_that_make_no_sense_are_refused(job, told):
    with pytest.raises(ValueError, match=told):
        Job(space().fresh([0]), END, **job)


def test_values_of_one_verifier_are_its_scores_and_nan_where_it_failed():
    def made(problem):
        (found,) = yield Job(problem.fresh(4), END)
        (scores,) = found.components.values()
        assert problem.values(found) == pytest.approx(scores, nan_ok=True) and np.isnan(scores[2])
        assert problem.rank(found)[-1] == 2

    def failing(images, prompts):
        scores = brightness(images, prompts)
        scores[2] = np.nan
        return scores

    run(made, verifier=failing, batch_size=4)


@pytest.mark.parametrize("ensemble", [MeanZ(brightness, contrast, freeze_after=8), MeanZ(brightness, contrast)])
def test_a_reference_job_fixes_what_z_scores_refer_to_once(ensemble):
    values = []

    def made(problem):
        (first,) = yield Job(problem.fresh(6), 4, reference=True)
        values.append(problem.values(first))
        frozen = ensemble.freeze(first.components)
        (done,) = yield Job(first.states[problem.rank(first)[:2]], END, reference=True)
        assert problem.values(done) == pytest.approx(frozen.combine(done.components))
        assert problem.values(first) == pytest.approx(values[0])

    result = run(made, verifier=ensemble)
    assert values[0].mean() == pytest.approx(0, abs=1e-9) and result.absolute
    assert result.settings["verifier"]["reference"] is not None


def test_what_only_ranks_takes_no_reference():
    def made(problem):
        (first,) = yield Job(problem.fresh(4), END, reference=True)
        assert sorted(problem.values(first)) == pytest.approx(
            sorted(MeanRank(brightness, contrast).combine(first.components))
        )

    assert not run(made, verifier=MeanRank(brightness, contrast)).absolute


def test_seeds_may_be_chosen():
    def made(problem):
        assert problem.fresh(seeds=[7, 3]).recipes == problem.space.fresh([7, 3]).recipes
        yield Job(problem.fresh(seeds=[7, 3]), END)
        yield Job(problem.fresh(2), END)

    assert [c.seed for c in run(made, seed=5).candidates] == [7, 3, 5, 6]


def test_count_and_seeds_together_are_refused():
    def made(problem):
        yield Job(problem.fresh(1, seeds=[3]), END)

    with pytest.raises(ValueError, match="a count or seeds, not both"):
        run(made)


def test_an_algorithm_may_have_several_grids():
    def made(problem):
        noises = problem.fresh(3)
        for steps in (4, 2):
            yield Job(problem.grid(steps).adopt(noises), steps)
        yield Job(noises, END)

    result = run(made, grids=(4, 2))
    assert [(c.draft, c.finished) for c in result.candidates] == [(True, False)] * 6 + [(False, True)] * 3
    assert sorted(grid["steps"] or END for grid in result.settings["grids"].values()) == [2, 4, END]


def test_a_grid_that_was_not_named_is_refused():
    def made(problem):
        yield Job(problem.grid(4).adopt(problem.fresh(1)), 4)

    with pytest.raises(ValueError, match="no grid of 4 steps: the algorithm's attribute grids names none"):
        run(made)


def racing(problem):
    """Four begin; the best by its prediction, which noise 0 is not, goes on."""
    (found,) = yield Job(problem.fresh(4), 3)
    best = next(row for row in problem.rank(found) if row)
    yield Job(found.states[[best]], END)


def test_noise_0_is_finished_from_where_it_was_left():
    sampler = CountingSampler()
    result = run(racing, sampler, seed=3)
    plain = toy_search(nfe=END, seed=3)
    assert result.first.seed == 3 and result.first_score == pytest.approx(plain.score, abs=1e-6)
    assert sampler.rows == result.ledger.nfe == 4 * 3 + 2 * (END - 3), "nothing is run twice"
    assert result.first.pixels is not None and result.settings["baseline"] is True


def test_without_a_baseline_noise_0_may_be_pruned():
    result = run(racing, seed=3, baseline=False)
    assert result.ledger.nfe == 4 * 3 + (END - 3)
    assert result.first_score is None and result.to_json()["first_score"] is None
    assert result.first.finished and result.first_name == "first candidate"


def test_what_noise_0_takes_is_kept_back():
    left = []

    def made(problem):
        yield Job(problem.fresh(2), 3)
        left.append(problem.nfe_left)
        while True:
            yield Job(problem.fresh(1), 2)

    result = run(made, nfe=30, seed=3)
    best, first = result.best, result.first
    # The best of the two and noise 0 are held, which may be one.
    assert left == [30 - 6 - (END - 3) * (1 if best.seed == 3 else 2)] or left[0] in (14, 19)
    assert first.finished and first.seed == 3 and result.ledger.nfe <= 30


@pytest.mark.parametrize("nfe", [END, END + 1, 2 * END])
def test_the_smallest_budgets_finish_noise_0_that_stopped_on_its_way(nfe):
    def made(problem):
        (found,) = yield Job(problem.fresh(1), 3)
        yield Job(found.states, 5)
        yield Job(problem.fresh(9), 2)

    result = run(made, nfe=nfe)
    assert result.first.seed == 0 and result.best.finished and result.ledger.nfe <= nfe


@dataclass(frozen=True)
class Particles:
    """Particles on ancestral steps, resampled by the softmax of their values; a branch gives each noise of its own."""

    name: str = "particles"
    whole_calls: bool = False

    def plan(self, problem):
        rows = problem.nfe_left // END - 1
        yield Job(problem.fresh(1), END)
        x = problem.fresh(rows)
        for stop in (2, 4, 6, END):
            (found,) = yield Job(x, stop, transition=Ancestral())
            if stop == END:
                return
            weight = np.exp(4 * (problem.values(found) - problem.values(found).max()))
            at = (problem.rng.random() + np.arange(rows)) / rows
            chosen = np.searchsorted(np.cumsum(weight / weight.sum()), at).clip(0, rows - 1)
            x = problem.space.branch(found.states[chosen.tolist()], problem.seeds(rows))


@pytest.mark.parametrize("seed", range(8))
def test_a_branch_of_an_unfinished_best_frees_what_was_held_for_it(seed):
    result = toy_search(algorithm=Particles(), nfe=8 * END, seed=seed)
    assert sum(c.finished for c in result.candidates) == 8
    assert result.ledger.nfe == 8 * END


def test_an_unscored_step_carries_the_best_on():
    def made(problem):
        (found,) = yield Job(problem.fresh(3), 3)
        best = problem.rank(found)[0]
        yield Job(found.states[[best]], 4, score=False)
        yield Job(problem.fresh(1), END)

    result = run(made, nfe=60, baseline=False, verifier=lambda images, prompts: brightness(images, prompts))
    held = next(c for c in result.candidates if c.step == 3 and c.score == max(c.score for c in result.candidates[:3]))
    assert held.seed in {c.seed for c in result.candidates if c.finished}
    assert result.ledger.nfe == 3 * 3 + 1 + END + (END - 4), "the best went on from where it was"


def test_what_is_known_reaches_the_algorithm_and_the_record():
    told = {}

    def made(problem):
        told["facts"] = problem.model, problem.verifier, problem.calibration, problem.prior, problem.baseline
        yield Job(problem.fresh(1), END)

    sampler = CountingSampler()
    key = run(made, sampler).settings["verifier"]["verifiers"][0]
    known = Calibration(told["facts"][0].identity, f"{key['name']}@{key['version']}", END, {2: 0.5, 4: 0.9})
    table = {"a": {1: 0.0, 2: 1.0, 3: 2.0}, "b": {1: 1.0, 2: 5.0, 3: 6.0}}
    prior = SeedPrior.learned(known.model, known.verifier, END, table)
    result = run(made, sampler, calibration=known, prior=prior)
    model, verifier, calibration, asked, baseline = told["facts"]
    assert model.can_stop and verifier.absolute and not verifier.pooled and baseline
    assert calibration == known and asked == prior and prior.best(2) == [3, 2]
    assert Calibration.from_json(json.loads(json.dumps(result.settings["calibration"]))) == known
    assert result.settings["prior"]["prompts"] == 2


def test_a_calibration_of_another_model_is_refused():
    other = Calibration("another", "brightness@1", END, {2: 0.5})
    with pytest.raises(ValueError, match="calibration is of model another, 8 steps, brightness@1, and this search"):
        toy_search(nfe=END, calibration=other)


def test_terms_have_what_a_problem_has():
    from noise_search.engine.prompt_search import ProblemView

    for name in ("space", "nfe_total", "baseline", "model", "verifier", "calibration", "prior"):
        assert hasattr(ProblemView, name) and name in Terms.__dataclass_fields__


def test_the_sampler_of_another_eta_makes_its_own_noise_0():
    sampler = DenoiserSampler(exact_x0, space(), eta=1.0)
    result = run(racing, sampler, seed=3)
    plain = toy_search(DenoiserSampler(exact_x0, space(), eta=1.0), nfe=END, seed=3)
    assert result.first_score == pytest.approx(plain.score, abs=1e-6)
    assert isinstance(State.cat([space().fresh([0])]), State)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), RuntimeError("boom")], ids=["ctrl-c", "error"])
def test_a_race_that_is_stopped_on_its_way_finishes_its_best(stop):
    def failing(candidate):
        if candidate.id == 4:
            raise stop

    result = toy_search(algorithm="halving", nfe=96, on_candidate=failing, batch_size=5, on_interrupt="return")
    assert result.error is stop and result.best.finished
    begun = [c for c in result.candidates if not c.finished]
    assert result.best.seed == max(begun, key=lambda c: c.score).seed


def test_noise_0_beyond_a_limit_gives_no_first_score():
    result = run(racing, seed=3, target_score=-9.0)
    assert result.stop_reason.startswith("target score") and result.first_score is not None
    late = toy_search(algorithm="halving", nfe=64, target_score=-9.0)
    assert late.first_score is None or np.isfinite(late.first_score)


@pytest.mark.parametrize("points", [3, (1.5,), "ab"])
def test_points_of_another_kind_are_refused(points):
    with pytest.raises(TypeError, match="must be grid points, such as"):
        Job(space().fresh([0]), END, looks=points)
