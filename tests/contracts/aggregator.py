"""What every aggregator must do: inherit `AggregatorContract` and give it a `make` fixture."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from verifiers import Aggregator, FunctionVerifier


def named(name: str, kind: str = "score") -> FunctionVerifier:
    return FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)), name, kind=kind)


A, B, SAFE = named("a"), named("b"), named("safe", kind="constraint")
POOL = {A.key: np.array([0.1, 3.0, 2.0, -1.0]), B.key: np.array([5.0, 4.0, 9.0, 1.0]), SAFE.key: np.zeros(4)}


class AggregatorContract:
    """The fixture to give: `make`, which makes the aggregator of the verifiers that it is called with."""

    @pytest.fixture
    def make(self) -> Callable[..., Aggregator]:
        raise NotImplementedError("give the class under test, or a function of verifiers that makes one")

    def test_one_value_per_candidate_and_the_best_in_everything_is_best(self, make):
        values = make(A, B, SAFE).combine(POOL | {A.key: np.array([0.1, 3.0, 4.0, -1.0])})
        assert values.shape == (4,) and values.dtype == np.float64 and np.isfinite(values).all()
        assert values.argmax() == 2 and values.argmin() == 3

    def test_values_follow_the_order_of_candidates(self, make):
        order, one = [2, 0, 3, 1], make(A, B, SAFE)
        turned = {key: row[order] for key, row in POOL.items()}
        np.testing.assert_allclose(one.combine(turned), one.combine(POOL)[order], atol=1e-12)

    def test_a_value_does_not_fall_where_a_score_rises(self, make):
        one = make(A, B, SAFE)
        for key in (A.key, B.key):
            for row in range(4):
                more = POOL | {key: POOL[key] + 0.7 * np.eye(4)[row]}
                assert one.combine(more)[row] >= one.combine(POOL)[row] - 1e-12

    def test_what_is_excluded_is_nan_and_changes_nothing_for_the_rest(self, make):
        one = make(A, B, SAFE)
        more = {A.key: [np.nan, 7.0, 9.0], B.key: [1.0, np.inf, 9.0], SAFE.key: [0.0, 0.0, -0.1]}
        values = one.combine({key: np.concatenate([row, more[key]]) for key, row in POOL.items()})
        assert np.isnan(values[4:]).all() and np.isfinite(values[:4]).all()
        assert np.argsort(values[:4]).tolist() == np.argsort(one.combine(POOL)).tolist()

    def test_a_pool_that_grows_has_the_values_of_all_that_is_in_it(self, make):
        one, rng = make(A, B, SAFE), np.random.default_rng(0)
        columns = {A.key: rng.integers(0, 9, 150) / 2, B.key: rng.normal(size=150), SAFE.key: rng.normal(size=150) + 1}
        columns[B.key][rng.integers(0, 150, 9)] = np.nan
        pool = one.pool()
        for count in range(1, 151):
            values = pool.add({key: float(row[count - 1]) for key, row in columns.items()})
            if count % 7 == 1:
                assert np.array_equal(
                    values, one.combine({k: row[:count] for k, row in columns.items()}), equal_nan=True
                )

    def test_scores_are_left_unchanged(self, make):
        before = {key: row.copy() for key, row in POOL.items()}
        make(A, B, SAFE).combine(POOL)
        assert all(np.array_equal(POOL[key], row) for key, row in before.items())

    def test_it_is_described_in_json_and_refuses_a_pool_that_lacks_a_score(self, make):
        one = make(A, B, SAFE)
        assert json.loads(json.dumps(one.describe()))["name"] == one.name == f"{one.short_name}(a, b, safe)"
        with pytest.raises(ValueError, match="components lacks"):
            one.combine({A.key: POOL[A.key]})
