"""What every search algorithm must do: inherit `AlgorithmContract` and give it an `algorithm` fixture."""

import contextlib
import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noise_search import SearchAlgorithm, SearchResult, load
from noise_search.disk.run import RunFiles
from tiny.search import CountingSampler, Killed, Mortal, brightness, contrast, scores, told, toy_search

BUDGET = 120


def run(algorithm: SearchAlgorithm, sampler: CountingSampler | None = None, **options) -> SearchResult:
    """A search on the closed-form model."""
    return toy_search(sampler, algorithm=algorithm, **{"nfe": BUDGET, **options})


def proposals(algorithm: SearchAlgorithm, seed: int = 5) -> str:
    """A hash of every recipe that a search proposes, in order."""
    keys = [candidate.recipe.key for candidate in run(algorithm, seed=seed).candidates]
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def scored_by(values: list[float]):
    """A verifier that gives each image one of the values, by what it shows: the same in any batch."""

    def score(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return torch.tensor([values[int(1e5 * float(image.mean())) % len(values)] for image in images])

    return score


def in_another_process(*algorithms: SearchAlgorithm) -> tuple[int, list[str]]:
    """`hash("x")` and the `proposals` of algorithms, of classes that it can import, in a process of another salt."""
    code = (
        "import json, pickle, sys; from contracts.algorithm import proposals; "
        "print(json.dumps([hash('x'), [proposals(one) for one in pickle.load(sys.stdin.buffer)]]))"
    )
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(algorithms),
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "random"},
    )
    return json.loads(done.stdout)


class AlgorithmContract:
    """The fixture to give: `algorithm`, of a class that another process can import."""

    published: bool = False
    """Whether this is a published variant, which finishes no plain sample for its own sake."""

    @pytest.fixture
    def elsewhere(self, algorithm: SearchAlgorithm) -> str:
        """Its `proposals` computed by another process, which takes seconds: give it where there are many algorithms."""
        return in_another_process(algorithm)[1][0]

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(nfe=st.integers(8, 200), batch=st.integers(1, 9), padded=st.booleans())
    def test_every_budget_gives_a_finished_image_and_is_never_exceeded(self, algorithm, nfe, batch, padded):
        sampler = CountingSampler()
        if nfe < sampler.space(levels=getattr(algorithm, "levels", ())).end:
            return
        result = run(algorithm, sampler, nfe=nfe, batch_size=batch, deterministic=padded)
        assert result.best.finished and np.isfinite(result.score) and result.image.size == (4, 4)
        assert result.ledger.nfe <= nfe
        assert result.ledger.nfe + result.ledger.nfe_waste == pytest.approx(sampler.rows)
        assert result.ledger.denoiser_rows == sampler.rows
        assert (result.ledger.nfe_waste > 0) <= padded
        assert max(c.nfe for c in result.candidates) <= result.ledger.nfe
        assert len({c.recipe.key for c in result.candidates}) == len(result.candidates), "something was run twice"

    def test_random_searchs_noise_0_is_finished(self, algorithm):
        result = run(algorithm, seed=11)
        if self.published:
            return
        plain = run(algorithm, candidates=1, seed=11, nfe=None)
        assert result.first.seed == 11 and result.first.finished
        assert result.first_score == pytest.approx(plain.score, abs=1e-6)

    def test_results_do_not_depend_on_the_micro_batch(self, algorithm):
        one, many = (run(algorithm, batch_size=size) for size in (1, 7))
        assert [c.recipe.key for c in one.candidates] == [c.recipe.key for c in many.candidates]
        assert scores(one) == pytest.approx(scores(many), abs=1e-5)

    def test_global_random_state_is_left_alone(self, algorithm):
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        run(algorithm)
        assert torch.equal(torch_state, torch.get_rng_state())
        assert np.array_equal(numpy_state, np.random.get_state()[1])

    def test_the_same_seed_proposes_the_same_in_another_process(self, algorithm, elsewhere):
        assert elsewhere == proposals(algorithm) != proposals(algorithm, seed=6)

    @pytest.mark.parametrize(
        "values",
        [
            [1.0],
            [-3e30, -1e30, -2e30],
            [1e30, 2e30],
            [0.0, 0.0, 1.0],
            [math.nan, 1.0, 2.0],
            [math.inf, 1.0, 2.0, -math.inf, 3.0, 1.5, 0.0],
        ],
        ids=["ties", "negative", "huge", "coarse", "nan", "inf"],
    )
    def test_scores_of_any_kind_are_survived_and_the_best_finite_one_wins(self, algorithm, values):
        # Twice the budget: of an algorithm that finishes few, all may fall on a score that isn't finite.
        result = run(algorithm, verifier=scored_by(values), nfe=2 * BUDGET)
        good = [c for c in result.candidates if c.finished and np.isfinite(c.score)]
        assert result.best.id == min(good, key=lambda c: (-c.score, c.id)).id
        assert all(math.isnan(c.score) == bool(c.failure) for c in result.candidates)

    def test_a_failing_first_image_does_not_end_the_search(self, algorithm):
        first = []

        def score(images, prompts):
            scores = images.mean((1, 2, 3))
            first.append(scores[0].clone())
            scores[(scores - first[0]).abs() < 1e-7] = math.nan
            return scores

        result = run(algorithm, verifier=score, batch_size=4)
        assert np.isfinite(result.score) and result.candidates[0].failure and result.best.id != 0

    @pytest.mark.slow
    @settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(lives=st.lists(st.integers(0, 40), max_size=3), batch=st.integers(1, 7), several=st.booleans())
    def test_killed_anywhere_it_goes_on_and_finds_what_it_would_have_found(
        self, algorithm, tmp_path_factory, lives, batch, several
    ):
        run_in = tmp_path_factory.mktemp("runs") / "run"
        asked = {"batch_size": batch, "verifier": [brightness, contrast] if several else brightness, "top_k": 3}
        whole = run(algorithm, **asked)
        for evaluations in lives:
            with contextlib.suppress(Killed):
                run(algorithm, CountingSampler(fn=Mortal(evaluations)), run=run_in, **asked)
        sampler = CountingSampler()
        found = run(algorithm, sampler, run=run_in, **asked)
        assert told(found) == told(whole)
        journalled = [line["key"] for line in RunFiles(run_in).lines() if "key" in line]
        assert len(journalled) == len({*journalled}), "something was evaluated twice"
        assert told(load(run_in)) == told(found)
        assert load(run_in).image.tobytes() == whole.image.tobytes()
        nobody = CountingSampler(fn=Mortal(0))
        assert told(run(algorithm, nobody, run=run_in, **asked)) == told(whole)

    def test_a_larger_budget_computes_only_what_it_proposes_anew(self, algorithm, tmp_path):
        rows = 0
        for nfe in (BUDGET // 3, BUDGET // 2, BUDGET):
            sampler = CountingSampler()
            found = run(algorithm, sampler, nfe=nfe, run=tmp_path / "run", batch_size=4)
            rows += sampler.rows
            assert found.ledger.denoiser_rows == rows == found.ledger.nfe + found.ledger.nfe_waste
        at_once = run(algorithm, batch_size=4)
        first, second = told(found), told(at_once)
        if getattr(algorithm, "anytime", False):
            assert found.ledger.nfe_waste <= 2 * 8, "an anytime algorithm asks again for all that it had"
        for one in (first, second):
            one["ledger"] = {name: one["ledger"][name] for name in ("nfe", "nfe_budget")}
        assert first == second
