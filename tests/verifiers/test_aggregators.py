"""Ranks, z-scores and weighted sums: against scipy, in closed form, and what holds for every aggregator."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, zscore

from contracts.aggregator import AggregatorContract
from verifiers import FunctionVerifier, MeanRank, MeanZ, MinZ, Single, Verifier, WeightedSum, as_aggregator
from verifiers.aggregators.base import Aggregator
from verifiers.aggregators.ranks import ranks


def named(name: str, kind: str = "score") -> Verifier:
    return FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)), name, kind=kind)


A, B, SAFE = named("a"), named("b"), named("safe", "constraint")
WEIGHTS = {"a": 2.0, "b": 0.5}
MAKERS: dict[str, Callable[..., Aggregator]] = {
    "mean-rank": MeanRank,
    "mean-z": MeanZ,
    "min-z": MinZ,
    "weighted-sum": lambda *members: WeightedSum(*members, weights=WEIGHTS),
    "weighted-sum-of-z": lambda *members: WeightedSum(*members, weights=WEIGHTS, of="z"),
    "mean-z half frozen": lambda *members: MeanZ(*members, reference=half_frozen(members)),
    "min-z half frozen": lambda *members: MinZ(*members, reference=half_frozen(members)),
}


def half_frozen(members):
    """The first score has a spread, the others were constant."""
    keys = [one.key for one in members if one.kind == "score"]
    return {key: (0.5, 0.0 if at else 2.0) for at, key in enumerate(keys)}


every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
Z = [MAKERS[name] for name in ("mean-z", "min-z", "weighted-sum-of-z")]

# Coarse values make ties, and differences that float64 keeps.
few = settings(max_examples=40, deadline=None)
score = st.integers(-20, 20).map(lambda n: n / 4)
pools = st.lists(st.tuples(score, score), min_size=1, max_size=9).map(np.array)


def pool(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {A.key: rows[:, 0], B.key: rows[:, 1]}


@given(st.lists(st.sampled_from([-3.5, 0.0, 1.0, 1.5, 1e30, -np.inf]), min_size=2, max_size=12))
def test_ranks_equal_scipy(values):
    expected = (rankdata(values, "average") - 1) / (len(values) - 1)
    np.testing.assert_array_equal(ranks(np.array(values)), expected)


def test_rank_of_one_and_of_nan():
    assert ranks(np.array([5.0])).tolist() == [0.0]
    assert ranks(np.array([2.0, np.nan, 1.0])).tolist() == [1.0, 0.0, 0.5]
    assert ranks(np.array([])).shape == (0,)


@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=2, max_size=10).map(np.array))
def test_mean_rank_knows_only_the_order(x):
    np.testing.assert_array_equal(MeanRank(A, B).combine({A.key: x, B.key: -x}), np.full(len(x), 0.5))
    np.testing.assert_array_equal(MeanRank(A).combine({A.key: np.exp(x)}), MeanRank(A).combine({A.key: x}))


def test_single_is_the_score_under_constraints():
    single = Single(A, SAFE)
    assert single.absolute and single.name == "a"
    values = single.combine({A.key: np.array([3.0, 1.0, 2.0, 2.0]), SAFE.key: np.array([-1.0, 0.0, 1.0, 1.0])})
    np.testing.assert_array_equal(values, [np.nan, 1.0, 2.0, 2.0])
    assert single.combine({A.key: np.array([]), SAFE.key: np.array([])}).shape == (0,)


@few
@given(pools.filter(lambda rows: (rows.std(0) > 0).all()))
def test_values_equal_scipys(rows):
    z = zscore(rows, axis=0)
    np.testing.assert_allclose(MeanZ(A, B).combine(pool(rows)), z.mean(1), atol=1e-12)
    np.testing.assert_allclose(MinZ(A, B).combine(pool(rows)), z.min(1), atol=1e-12)
    of_z = WeightedSum(A, B, weights=WEIGHTS, of="z").combine(pool(rows))
    np.testing.assert_allclose(of_z, z @ [2.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(WeightedSum(A, B, weights=WEIGHTS).combine(pool(rows)), rows @ [2.0, 0.5], atol=1e-12)
    ranked = (rankdata(rows, "average", axis=0) - 1) / (len(rows) - 1)
    np.testing.assert_array_equal(MeanRank(A, B).combine(pool(rows)), ranked.mean(1))


@every
@few
@given(rows=pools, data=st.data())
def test_permuted_rows_permute_values(make, rows, data):
    order = data.draw(st.permutations(range(len(rows))))
    plain = make(A, B).combine(pool(rows))
    np.testing.assert_allclose(make(A, B).combine(pool(rows[order])), plain[order], atol=1e-9)


@every
@few
@given(rows=pools)
def test_what_is_no_worse_in_everything_is_valued_no_less(make, rows):
    values = make(A, B).combine(pool(rows))
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if (one >= other).all():
                assert values[i] >= values[j] - 1e-9


@every
@few
@given(rows=pools, how=st.sampled_from(["nan", "inf", "unsafe"]), at=st.integers(0, 8))
def test_what_failed_never_wins_nor_changes_another(make, rows, how, at):
    at = at % (len(rows) + 1)
    safe = np.ones(len(rows) + 1)
    more = np.insert(rows, at, [99.0, 99.0], axis=0)
    safe[at] = -0.01 if how == "unsafe" else 1.0
    more[at, 1] = {"nan": np.nan, "inf": np.inf, "unsafe": 99.0}[how]
    values = make(A, B, SAFE).combine({**pool(more), SAFE.key: safe})
    assert np.isnan(values[at])
    others = np.delete(values, at)
    plain = make(A, B).combine(pool(rows))
    if make is MeanRank:  # ranks are counted among all, so there only the order stays
        np.testing.assert_array_equal(rankdata(others.round(9)), rankdata(plain.round(9)))
    else:
        np.testing.assert_allclose(others, plain, atol=1e-9)


@pytest.mark.parametrize("make", Z, ids=["mean", "min", "weighted"])
@few
@given(rows=pools, scale=st.sampled_from([1e-3, 0.5, 7.0]), offset=st.sampled_from([-100.0, 0.0, 3.0]))
def test_units_of_a_verifier_do_not_matter_to_z_scores(make, rows, scale, offset):
    moved = rows * [scale, 1] + [offset, 0]
    np.testing.assert_allclose(make(A, B).combine(pool(moved)), make(A, B).combine(pool(rows)), atol=1e-7)


def test_a_verifier_that_tells_nothing_apart_has_no_part():
    rows = np.array([[1.0, 0.1], [2.0, 0.1], [6.0, 0.1]])  # 0.1 three times has a std of 1.4e-17 by rounding
    z = (rows[:, 0] - 3) / np.sqrt(14 / 3)
    np.testing.assert_allclose(MinZ(A, B).combine(pool(rows)), z, atol=1e-12)
    np.testing.assert_allclose(MeanZ(A, B).combine(pool(rows)), z / 2, atol=1e-12)
    np.testing.assert_array_equal(MinZ(A, B).combine(pool(rows[:1])), [0.0])
    assert MinZ(A, B).combine(pool(rows[:0])).shape == (0,)


@pytest.mark.parametrize("make", Z, ids=["mean", "min", "weighted"])
@few
@given(rows=pools.filter(lambda rows: (rows.std(0) > 0).all()), later=pools)
def test_a_frozen_reference_values_a_candidate_alone_as_in_any_pool(make, rows, later):
    frozen = make(A, B).freeze(pool(rows))
    assert frozen.absolute and not make(A, B).absolute
    np.testing.assert_allclose(frozen.combine(pool(rows)), make(A, B).combine(pool(rows)), atol=1e-9)
    both = frozen.combine(pool(np.concatenate([rows, later])))[len(rows) :]
    np.testing.assert_array_equal(both, frozen.combine(pool(later)))
    np.testing.assert_array_equal(both[-1:], frozen.combine(pool(later[-1:])))


@pytest.mark.parametrize("make", Z, ids=["mean", "min", "weighted"])
def test_a_verifier_that_was_constant_counts_once_it_tells_candidates_apart(make):
    first = pool(np.stack([np.linspace(0, 1, 8), np.zeros(8)], axis=1))
    later = pool(np.array([[0.9, 0.0], [0.89, 1.0]]))  # the first true one, and nearly as good by the other verifier
    frozen = make(A, B).freeze(first)
    assert frozen.unfrozen == (B.key,) and frozen.combine(later).argmax() == 1
    mean, std = frozen.reference[A.key]
    a, b = (later[A.key] - mean) / std, np.array([-1.0, 1.0])  # b by the pool's own mean and std, 1/2 both
    expected = {"mean-z": (a + b) / 2, "min-z": np.minimum(a, b), "weighted-sum": 2 * a + b / 2}[frozen.short_name]
    np.testing.assert_allclose(frozen.combine(later), expected, atol=1e-12)
    again = frozen.freeze({key: np.append(row, later[key]) for key, row in first.items()})
    assert again.unfrozen == () and again.reference[A.key] == (mean, std)
    assert again.reference[B.key] == pytest.approx((0.1, 0.3)) and again.freeze(later) is again
    assert frozen.freeze(first) is frozen


def test_a_reference_is_of_valid_candidates():
    rows = np.array([[3.0, 10.0], [1.0, 40.0], [2.0, 20.0], [2.0, 30.0], [np.nan, 1e9]])
    assert MeanZ(A, B).freeze(pool(rows)).reference == {A.key: (2.0, np.sqrt(0.5)), B.key: (25.0, np.sqrt(125.0))}


def test_a_described_reference_makes_the_aggregator_again():
    rows = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 3.5]])
    frozen = MinZ(A, B, freeze_after=3).freeze(pool(rows))
    described = json.loads(json.dumps(frozen.describe()))
    assert described["name"] == "min-z(a, b)" and described["freeze_after"] == 3
    again = MinZ(A, B, reference=described["reference"])
    np.testing.assert_array_equal(again.combine(pool(rows)), frozen.combine(pool(rows)))
    assert WeightedSum(A, B, weights=WEIGHTS).describe()["weights"] == WEIGHTS


def test_names_wait_for_what_a_model_declares():
    open_ = MeanZ("a", B, SAFE, reference={A.key: (0.0, 1.0), B.key: (0.0, 2.0)})
    assert open_.name == "mean-z(a, b, safe)"
    with pytest.raises(ValueError, match=r"holds 'a' by name.*verifiers\.load\('a'\)"):
        open_.combine(pool(np.zeros((2, 2))))
    found = open_.resolved({"a": A}.__getitem__)
    assert found.verifiers == (A, B, SAFE)
    np.testing.assert_array_equal(
        found.combine({**pool(np.array([[1.0, 2.0]])), SAFE.key: np.ones(1)}),
        [1.0],
    )
    with pytest.raises(ValueError, match="reference lacks"):
        MeanZ("a", reference={B.key: (0.0, 1.0)}).resolved({"a": A}.__getitem__)
    with pytest.raises(ValueError, match="appear twice"):
        MeanRank("a", A).resolved({"a": A}.__getitem__)
    assert Single("a").name == "a" and Single("a").resolved({"a": A}.__getitem__).verifiers == (A,)


def test_names_and_functions_as_members():
    assert not MeanRank(A, B).absolute and not MeanZ(A, B).absolute
    assert MeanRank(A, B).name == "mean-rank(a, b)"
    assert MeanRank(lambda images, prompts: images.mean((1, 2, 3)), A).name == "mean-rank(function, a)"
    with pytest.raises(TypeError, match="make an instance"):
        MeanRank(FunctionVerifier)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: WeightedSum(A, B, weights={"a": 1.0}), r"lacks \['b'\]"),
        (lambda: WeightedSum(A, B, weights={"a": 1.0, "b": 1.0, "c": 1.0}), r"has \['c'\], which is no score"),
        (lambda: WeightedSum(A, SAFE, weights={"a": 1.0, "safe": 1.0}), r"has \['safe'\]"),
        (lambda: WeightedSum(A, weights={"a": -1.0}), r"weights\['a'\] is -1.0.*negative score"),
        (lambda: WeightedSum(A, weights={"a": np.nan}), "greater than 0"),
        (lambda: WeightedSum(A, weights={"a": 1.0}, freeze_after=4), "raw scores need no reference"),
        (lambda: MeanZ(A, reference={A.key: (0.0, 1.0)}, freeze_after=4), "freeze_after=4 takes a reference"),
        (lambda: MinZ(A, freeze_after=1), "at least 2"),
        (lambda: MinZ(A, reference={A.key: (0.0, np.inf)}), "std >= 0"),
        (lambda: MeanRank(A, B).freeze({}), "nothing to freeze; use MeanZ"),
        (lambda: MeanRank(SAFE), "only excludes images"),
        (lambda: Single(A, B), "use MeanZ"),
        (lambda: MeanZ(A, B, reference={A.key: (0.0, 1.0)}), "reference lacks"),
        (lambda: MeanZ(A, reference={A.key: (0.0, -1.0)}), "std >= 0"),
        (lambda: MeanZ(A).freeze({A.key: np.array([np.nan])}), "no valid candidate"),
        (lambda: MeanRank(A, B).combine({A.key: np.ones(4)}), r"components lacks .*b@"),
        (lambda: MeanRank(A, B).combine({A.key: np.ones(4), B.key: np.zeros(3)}), r"shapes .*\(4,\).*\(3,\)"),
        (lambda: as_aggregator([A, named("a")]), "appear twice"),
        (lambda: as_aggregator([]), "no verifier was given"),
        (lambda: as_aggregator([SAFE]), r"only excludes images, .*beside it: clip,safe"),
    ],
)
def test_what_cannot_be_combined_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_sum_of_raw_scores_has_nothing_to_freeze():
    plain = WeightedSum(A, B, weights=WEIGHTS)
    assert plain.absolute and plain.freeze({}) is plain


def test_as_aggregator():
    for one in (A, [A], [A, SAFE], lambda images, prompts: [0.0]):  # an ensemble of one is that one
        assert isinstance(as_aggregator(one), Single)
    assert isinstance(as_aggregator((A, B)), MeanZ) and as_aggregator((A, B)).freeze_after == 8
    assert isinstance(as_aggregator((A, B), "mean-rank"), MeanRank)
    ensemble = MeanZ(A, B)
    assert as_aggregator(ensemble) is ensemble
    with pytest.raises(TypeError, match=r"'clip' is no verifier.*verifiers.load"):
        as_aggregator("clip")
    with pytest.raises(TypeError, match="make an instance"):
        as_aggregator(FunctionVerifier)


@pytest.mark.parametrize("name", MAKERS)
class TestBuiltIn(AggregatorContract):
    @pytest.fixture
    def make(self, name):
        return MAKERS[name]
