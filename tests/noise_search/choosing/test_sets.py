"""Sets that are good and different, against brute force and cases that can be told by hand."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noise_search.choosing.features import thumbnails
from noise_search.choosing.sets import cosine_distances, pick_beside, pick_set, shown_by, unexplained, worth


def instance(seed: int, rows: int = 20):
    """Qualities, and distances of features around a few centres, so that many rows are alike."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((5, 8))
    features = centres[rng.integers(0, 5, rows)] + 0.5 * rng.standard_normal((rows, 8))
    return rng.standard_normal(rows), cosine_distances(features)


@pytest.mark.parametrize("diversity", [0.5, 1.5, 5.0])
def test_greedy_insertion_and_swaps_find_the_best_set_of_40_small_pools(diversity):
    for seed in range(40):
        quality, distance = instance(seed)
        found = pick_set(quality, distance, 4, diversity)
        best = max(worth(rows, quality, distance, diversity) for rows in combinations(range(20), 4))
        assert worth(found, quality, distance, diversity) == pytest.approx(best, abs=1e-9), seed


def test_the_objective_by_hand():
    quality = np.array([2.0, 0.0, 1.0])
    distance = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    # z-scores of quality are (1, -1, 0) times sqrt(3/2), those of the distances 1, 3 and 2 too
    unit = np.sqrt(1.5)
    assert worth([0, 2], quality, distance, 1.5) == pytest.approx(unit * (0.5 + 1.5))
    assert worth([0, 1], quality, distance, 1.5) == pytest.approx(unit * (0.0 - 1.5))
    assert worth([0, 1, 2], quality, distance, 1.5) == pytest.approx(0.0)
    assert pick_set(quality, distance, 2, 1.5) == [0, 2]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 12), count=st.integers(1, 12), diversity=st.floats(0, 4))
def test_a_set_has_as_many_rows_best_first_and_no_swap_makes_it_better(seed, rows, count, diversity):
    quality, distance = instance(seed, rows)
    found = pick_set(quality, distance, count, diversity)
    assert len(found) == len(set(found)) == min(count, rows)
    assert list(quality[found]) == sorted(quality[found], reverse=True)
    value = worth(found, quality, distance, diversity)
    for out in found:
        for into in set(range(rows)) - set(found):
            swapped = [into if row == out else row for row in found]
            assert worth(swapped, quality, distance, diversity) <= value + 1e-7


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.1, 50), shift=st.floats(-10, 10))
def test_it_depends_on_no_unit_and_no_order(seed, scale, shift):
    quality, distance = instance(seed, 10)
    found = pick_set(quality, distance, 4, 1.5)
    assert pick_set(scale * quality + shift, distance / scale, 4, 1.5) == found
    order = np.random.default_rng(seed).permutation(10)
    moved = pick_set(quality[order], distance[np.ix_(order, order)], 4, 1.5)
    assert [order[row] for row in moved] == found


def test_without_diversity_it_takes_the_best_and_failed_rows_never():
    quality, distance = instance(0)
    quality[3] = np.nan
    best = [row for row in np.argsort(-quality) if row != 3]
    assert pick_set(quality, distance, 5, 0.0) == best[:5]
    assert 3 not in pick_set(quality, distance, 19, 9.0)
    assert pick_set(quality, distance, 30, 1.0) == best
    assert pick_set(np.full(3, np.nan), np.zeros((3, 3)), 2, 1.0) == []


def test_equal_images_and_equal_scores_are_no_trouble():
    assert pick_set(np.ones(5), np.zeros((5, 5)), 2, 1.5) == [0, 1]
    twins = np.repeat(np.eye(3), 2, axis=0)
    assert pick_set(np.ones(6), cosine_distances(twins), 3, 1.5) == [0, 2, 4]


@given(seed=st.integers(0, 99))
def test_distances_are_one_minus_the_cosine(seed):
    features = np.random.default_rng(seed).standard_normal((6, 5))
    found = cosine_distances(features)
    for i, j in combinations(range(6), 2):
        cosine = features[i] @ features[j] / np.linalg.norm(features[i]) / np.linalg.norm(features[j])
        assert found[i, j] == found[j, i] == pytest.approx(1 - cosine)
    assert not found.diagonal().any()


def test_blank_images_are_equal_to_each_other():
    found = cosine_distances(np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]]))
    assert found.tolist() == [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]]


def test_thumbnails_are_averages_of_cells_that_no_writing_changes():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    cells = images.reshape(2, 8, 2, 8, 3, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(2, 192)
    assert thumbnails(images).dtype == np.uint8
    np.testing.assert_array_equal(thumbnails(images), np.round(cells))
    lengths = np.linalg.norm(shown_by(thumbnails(images)), axis=1)
    np.testing.assert_allclose(lengths, 1)
    assert not shown_by(np.full((1, 192), 7, np.uint8)).any(), "a plain picture shows nothing"


@given(seed=st.integers(0, 99), rows=st.integers(2, 9))
def test_what_quality_explains_of_features_is_taken_away(seed, rows):
    random = np.random.default_rng(seed)
    quality, features = random.standard_normal(rows), random.standard_normal((rows, 4))
    left = unexplained(features, quality)
    fitted = np.linalg.lstsq(np.stack([np.ones(rows), quality], 1), features, rcond=None)[0]
    np.testing.assert_allclose(left, features - np.stack([np.ones(rows), quality], 1) @ fitted, atol=1e-9)
    np.testing.assert_allclose(unexplained(features, np.ones(rows)), features - features.mean(0), atol=1e-12)


def test_further_rows_are_each_what_brings_most_beside_the_given_ones():
    for seed in range(20):
        quality, distance = instance(seed)
        first, second = pick_beside([3, 7], quality, distance, 2, 1.5)
        others = [row for row in range(20) if row not in (3, 7)]
        # Sets of four weigh quality and differences as the picking does; what all of them share makes no difference.
        gains = [quality[row] / quality.std() / 4 + 1.5 * standard(distance)[row, [3, 7]].sum() / 6 for row in others]
        assert first == others[int(np.argmax(gains))] and second not in (3, 7, first), seed


def standard(distance):
    upper = distance[np.triu_indices(len(distance), 1)]
    return (distance - upper.mean()) / upper.std()


def test_further_rows_are_usable_ones_and_as_many_as_there_are():
    quality, distance = instance(0, 5)
    quality[[1, 2]] = np.nan
    assert sorted(pick_beside([1], quality, distance, 9, 1.5)) == [0, 3, 4]
    assert pick_beside([0, 3, 4], quality, distance, 2, 1.5) == []
