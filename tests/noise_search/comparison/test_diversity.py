"""How different winners are across seeds: closed forms of pairwise distance and Vendi score."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats
from scipy.spatial.distance import pdist

from noise_search.comparison.statistics.diversity import diversities, pairwise_distance, vendi_score
from tiny.made_up import record

few = settings(max_examples=30, deadline=None)


def embedded(prompt, seed, vector, **more):
    return replace(record(prompt, seed=seed, **more), embedding=tuple(float(x) for x in vector))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_orthogonal_images_count_each_and_equal_ones_once(count):
    assert vendi_score(np.eye(6)[:count]) == pytest.approx(count)
    assert vendi_score(np.tile([0.3, -1.0, 2.0], (count, 1))) == pytest.approx(1)


def test_copies_in_equal_numbers_add_nothing():
    assert vendi_score(np.repeat(np.eye(4)[:3], 5, axis=0)) == pytest.approx(3)
    # Two of one and one of another: the entropy of (2/3, 1/3).
    assert vendi_score(np.eye(3)[[0, 0, 1]]) == pytest.approx(np.exp(stats.entropy([2 / 3, 1 / 3])))


@few
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_against_scipy(seed, count):
    images = np.random.default_rng(seed).normal(size=(count, 5))
    assert pairwise_distance(images) == pytest.approx(pdist(images, "cosine").mean())
    units = images / linalg.norm(images, axis=1, keepdims=True)
    spectrum = linalg.svdvals(units) ** 2 / count
    assert vendi_score(images) == pytest.approx(np.exp(stats.entropy(spectrum)))
    assert 1 - 1e-9 <= vendi_score(images) <= count + 1e-9


@few
@given(st.randoms(use_true_random=False), st.floats(0.01, 100))
def test_order_and_length_of_embeddings_are_of_no_account(random, factor):
    images = np.random.default_rng(0).normal(size=(6, 4))
    records = [embedded(f"p{i % 2}", i, row) for i, row in enumerate(images)]
    (found,) = diversities(records)
    assert diversities(random.sample(records, 6)) == (found,)
    (longer,) = diversities([embedded(f"p{i % 2}", i, factor * row) for i, row in enumerate(images)])
    assert longer.vendi.value == pytest.approx(found.vendi.value)
    assert longer.distance.low == pytest.approx(found.distance.low)


def test_means_are_over_prompts_of_each_algorithm_and_budget():
    same, different = [[1, 0], [1, 0]], [[1, 0], [0, 1]]
    records = [embedded("a", s, v) for s, v in enumerate(same)] + [embedded("b", s, v) for s, v in enumerate(different)]
    records += [embedded("a", s, v, algorithm="paths", budget=20) for s, v in enumerate(different)]
    paths, random = diversities(records)
    assert (paths.algorithm, paths.budget, paths.seeds) == ("paths", 20, 2)
    assert (paths.vendi.value, paths.distance.value) == pytest.approx((2, 1))
    assert np.isnan(paths.vendi.low)
    assert (random.vendi.value, random.distance.value) == pytest.approx((1.5, 0.5))
    theirs = stats.ttest_1samp([1, 2], 0).confidence_interval(0.95)
    assert (random.vendi.low, random.vendi.high) == pytest.approx((theirs.low, theirs.high))
    assert str(random).startswith("random at 10 NFE: 2 seeds give 1.5 (95 % -4.85 to 7.85) different images")


def test_all_prompts_are_looked_at_with_as_many_winners_as_the_fewest():
    records = [embedded("a", seed, np.eye(4)[seed]) for seed in range(4)]
    records += [embedded(prompt, seed, np.eye(4)[seed]) for prompt in "bc" for seed in range(2)]
    records += [embedded("a", seed, np.eye(4)[seed], algorithm="paths") for seed in range(4)]
    records += [embedded("d", 0, [1, 0, 0, 0])]
    paths, random = diversities(records)
    assert paths.seeds == random.seeds == 2
    assert random.vendi.value == random.vendi.low == paths.vendi.value == pytest.approx(2)
    assert random.vendi.missing == 1


@few
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_more_seeds_of_some_prompts_change_nothing(seed, more):
    rng = np.random.default_rng(seed)
    records = [embedded(p, s, rng.normal(size=4)) for p in "abc" for s in range(2)]
    others = [embedded("b", 2 + s, rng.normal(size=4)) for s in range(more)]
    assert diversities(records + others) == diversities(records)


def test_prompts_with_fewer_than_two_embedded_winners_are_missing():
    records = [embedded("a", 0, [1, 0]), embedded("a", 1, [0, 1])]
    records += [embedded("b", 0, [1, 0]), record("b", seed=1), embedded("c", 0, [np.nan, 1]), embedded("d", 0, [0, 0])]
    (found,) = diversities(records)
    assert (found.vendi.value, found.vendi.prompts, found.vendi.missing) == (pytest.approx(2), 1, 3)
    (none,) = diversities([record()])
    assert np.isnan(none.distance.value) and "without two seeds" in str(none)
    assert np.isnan(vendi_score(np.empty((0, 0))))
