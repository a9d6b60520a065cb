"""Strengths of Bradley and Terry against closed forms and a general optimiser, and who meets whom."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from noise_search.choosing.ranking import all_pairs, bradley_terry, knockout


@settings(deadline=None)
@given(won=st.floats(0.1, 20), lost=st.floats(0.1, 20))
def test_two_players_without_a_prior_win_as_they_won(won, lost):
    one, other = bradley_terry(np.array([[0.0, won], [lost, 0.0]]), prior=0)
    assert one / (one + other) == pytest.approx(won / (won + lost))


@settings(deadline=None)
@given(share=st.floats(0, 1), prior=st.floats(0.1, 3))
def test_two_players_with_a_prior_solve_its_cubic(share, prior):
    """By symmetry their strengths are r and 1 / r, and share + a = r^2 / (r^2 + 1) + 2 a r / (r + 1)."""
    r, inverse = bradley_terry(np.array([[0.0, share], [1 - share, 0.0]]), prior=prior)
    assert r * inverse == pytest.approx(1)
    known = share + prior
    roots = np.roots([known - 1 - 2 * prior, known - 1, known - 2 * prior, known])
    assert min(abs(roots - r)) < 1e-6


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), players=st.integers(2, 6), prior=st.sampled_from([0.1, 0.5, 2.0]))
def test_they_are_the_most_likely_ones_by_a_general_optimiser(seed, players, prior):
    wins = np.random.default_rng(seed).integers(0, 4, (players, players)) * 0.5
    np.fill_diagonal(wins, 0)

    def unlikely(logs):
        gaps = logs[:, None] - logs
        return (wins * np.logaddexp(0, -gaps)).sum() + prior * (np.logaddexp(0, -logs) + np.logaddexp(0, logs)).sum()

    found = minimize(unlikely, np.zeros(players), options={"gtol": 1e-9})
    np.testing.assert_allclose(np.log(bradley_terry(wins, prior=prior)), found.x, atol=1e-5)


def test_whoever_lost_all_has_a_strength_and_whoever_never_played_has_one_of_1():
    strengths = bradley_terry(np.array([[0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert strengths[0] > 1 > strengths[1] > 0 and strengths[2] == pytest.approx(1)
    assert bradley_terry(np.zeros((2, 2)), prior=0).tolist() == [1, 1]


@given(players=st.integers(1, 6))
def test_every_pair_meets_once_and_the_first_few_pairs_connect_all(players):
    met = []
    all_pairs(players, lambda one, other: met.append((one, other)))
    assert sorted(met) == [(i, j) for i in range(players) for j in range(i + 1, players)]
    assert met[: players - 1] == [(i, i + 1) for i in range(players - 1)]


@settings(deadline=None)
@given(players=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_knockout_finds_the_best_in_one_pair_fewer_than_players(players, seed):
    merit = np.random.default_rng(seed).permutation(players)
    met = []

    def match(one, other):
        met.append((one, other))
        return float(merit[one] > merit[other])

    rounds = knockout(players, match)
    assert len(met) == players - 1 and all(one < other for one, other in met)
    assert int(np.argmax(rounds)) == int(np.argmax(merit)) and rounds.count(max(rounds)) == 1
    assert max(rounds) == math.ceil(math.log2(players))


def test_seeds_decide_a_knockout_of_which_nothing_is_told():
    for share in (None, 0.5):
        rounds = knockout(9, lambda one, other, share=share: share)
        assert rounds.index(max(rounds)) == 0
