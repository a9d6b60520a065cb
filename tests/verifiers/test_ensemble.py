"""Aggregators: ranks against scipy, z-scores against the closed form, constraints."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from verifiers import FunctionVerifier, MeanRank, MeanZ, Single, Verifier, as_aggregator
from verifiers.aggregators.ranks import ranks


def named(name: str, kind: str = "score") -> Verifier:
    return FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)), name, kind=kind)  # type: ignore[arg-type]


A, B, SAFE = named("a"), named("b"), named("safe", "constraint")
POOL = {A.key: np.array([3.0, 1.0, 2.0, 2.0]), B.key: np.array([10.0, 40.0, 20.0, 30.0])}


@given(st.lists(st.sampled_from([-3.5, 0.0, 1.0, 1.5, 1e30, -np.inf]), min_size=2, max_size=12))
def test_ranks_equal_scipy(values):
    expected = (rankdata(values, "average") - 1) / (len(values) - 1)
    np.testing.assert_array_equal(ranks(np.array(values)), expected)


def test_rank_of_one_and_of_nan():
    assert ranks(np.array([5.0])).tolist() == [0.0]
    assert ranks(np.array([2.0, np.nan, 1.0])).tolist() == [1.0, 0.0, 0.5]
    assert ranks(np.array([])).shape == (0,)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=10), st.randoms(use_true_random=False))
def test_mean_rank_keeps_permutations_and_increasing_maps(values, random):
    x = np.round(np.array(values), 3)
    order = np.array(random.sample(range(len(x)), len(x)))  # type: ignore[attr-defined]
    plain = MeanRank(A, B).combine({A.key: x, B.key: -x})
    np.testing.assert_array_equal(plain, np.full(len(x), 0.5))
    one = MeanRank(A).combine({A.key: x})
    np.testing.assert_array_equal(MeanRank(A).combine({A.key: x[order]}), one[order])
    np.testing.assert_array_equal(MeanRank(A).combine({A.key: np.exp(x)}), one)


def test_mean_rank_by_hand():
    np.testing.assert_allclose(
        MeanRank(A, B).combine(POOL), [(1 + 0) / 2, (0 + 1) / 2, (0.5 + 1 / 3) / 2, (0.5 + 2 / 3) / 2]
    )
    assert not MeanRank(A, B).absolute
    assert MeanRank(A, B).name == "mean-rank(a, b)"


@pytest.mark.parametrize("make", [MeanRank, MeanZ])
def test_invalid_rows_cannot_win_nor_change_the_order_of_others(make):
    plain = make(A, B).combine(POOL)
    more = {
        A.key: np.append(POOL[A.key], [99.0, np.nan, 99.0, np.inf]),
        B.key: np.append(POOL[B.key], [99.0, 99.0, 25.0, 25.0]),
        SAFE.key: np.array([0.0, 1.0, 5.0, 0.1, -0.1, 1.0, np.nan, 1.0]),
    }
    values = make(A, B, SAFE).combine(more)
    assert np.isnan(values[4:]).all()
    assert np.argsort(values[:4], kind="stable").tolist() == np.argsort(plain, kind="stable").tolist()


def test_single_is_the_score_under_constraints():
    single = Single(A, SAFE)
    assert single.absolute and single.name == "a"
    values = single.combine({**POOL, SAFE.key: np.array([-1.0, 0.0, 1.0, 1.0])})
    np.testing.assert_array_equal(values, [np.nan, 1.0, 2.0, 2.0])
    assert single.combine({A.key: np.array([]), SAFE.key: np.array([])}).shape == (0,)
    with pytest.raises(ValueError, match="use MeanRank"):
        Single(A, B)


def test_z_scores():
    constant = {A.key: POOL[A.key], B.key: np.full(4, 7.0)}
    mean, std = 2.0, np.sqrt(0.5)
    expected = (POOL[A.key] - mean) / std / 2  # a constant verifier contributes nothing
    np.testing.assert_allclose(MeanZ(A, B).combine(constant), expected, atol=1e-12)
    assert not MeanZ(A, B).absolute


def test_a_frozen_reference_makes_rounds_comparable():
    frozen = MeanZ(A, B).freeze({A.key: np.append(POOL[A.key], np.nan), B.key: np.append(POOL[B.key], 1e9)})
    assert frozen.absolute
    assert frozen.reference is not None and frozen.reference[B.key] == (25.0, np.sqrt(125.0))
    whole = frozen.combine(POOL)
    for i in range(4):
        alone = frozen.combine({key: value[i : i + 1] for key, value in POOL.items()})
        np.testing.assert_array_equal(alone, whole[i : i + 1])
    again = MeanZ(A, B, reference=frozen.describe()["reference"])
    np.testing.assert_array_equal(again.combine(POOL), whole)
    with pytest.raises(ValueError, match="reference lacks"):
        MeanZ(A, B, reference={A.key: (0.0, 1.0)})
    with pytest.raises(ValueError, match="std >= 0"):
        MeanZ(A, reference={A.key: (0.0, -1.0)})
    with pytest.raises(ValueError, match="no valid candidate"):
        MeanZ(A).freeze({A.key: np.array([np.nan])})


def test_missing_or_unequal_components_are_named():
    with pytest.raises(ValueError, match=r"components lacks .*b@"):
        MeanRank(A, B).combine({A.key: POOL[A.key]})
    with pytest.raises(ValueError, match=r"shapes .*\(4,\).*\(3,\)"):
        MeanRank(A, B).combine({A.key: POOL[A.key], B.key: np.zeros(3)})


def test_as_aggregator():
    assert isinstance(as_aggregator(A), Single)
    assert isinstance(as_aggregator([A]), Single)  # an ensemble of one is that one
    assert isinstance(as_aggregator([A, SAFE]), Single)
    assert isinstance(as_aggregator((A, B)), MeanRank)
    assert isinstance(as_aggregator(lambda images, prompts: [0.0]), Single)
    ensemble = MeanZ(A, B)
    assert as_aggregator(ensemble) is ensemble
    with pytest.raises(TypeError, match=r"'clip' is no verifier.*verifiers.load"):
        as_aggregator("clip")
    with pytest.raises(TypeError, match="make an instance"):
        as_aggregator(FunctionVerifier)
    with pytest.raises(ValueError, match="appear twice"):
        as_aggregator([A, named("a")])
    with pytest.raises(ValueError, match="no verifier was given"):
        as_aggregator([])
    with pytest.raises(ValueError, match=r"only excludes images, .*beside it: clip,safe"):
        as_aggregator([SAFE])
