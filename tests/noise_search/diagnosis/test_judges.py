"""Judges held against verifiers over a pool: closed forms, ties, draws of different kinds, and who may judge."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from noise_search import search
from noise_search.diagnosis import diagnose
from noise_search.diagnosis.judges import MORE, MORE_PER_ROUND, RISES_BY_CHANCE, agreement, draw_kind, heldout
from noise_search.shapes import EMBEDDED_VERIFIERS, embedded_verifier
from samplers.recipe import Recipe
from tiny.search import CountingSampler, brightness, contrast, toy_search
from tiny.verdicts import climbed, searched
from verifiers import ClassScore, Consistency, FunctionVerifier, load

RNG = np.random.default_rng(5)


def test_the_correlation_is_spearmans_and_the_place_shares_ties():
    own, judge = RNG.normal(size=30), np.round(RNG.normal(size=30))
    found = agreement(own, judge, int(own.argmax()))
    assert found.correlation == pytest.approx(spearmanr(own, judge).statistic)
    value = judge[own.argmax()]
    assert found.place == (judge > value).sum() + ((judge == value).sum() + 1) / 2


def test_chances_are_those_of_all_permutations():
    own, judge = np.arange(7.0), np.array([1, 0, 2.5, 2.5, 4, 6, 5])  # ranks, of which two are tied
    every = np.array(list(permutations(judge)))
    exact = np.mean((every @ own >= judge @ own) & (every[:, 6] >= 3))
    found, turned = agreement(own, judge, 6), agreement(own, -judge, 6)
    assert found.rising == turned.falling == pytest.approx(exact, abs=0.01)
    assert found.falling == turned.rising == 1


def test_a_judge_that_says_the_same_of_all_says_nothing():
    found = agreement(np.arange(9.0), np.ones(9), 8)
    assert (found.correlation, found.place, found.rising, found.falling) == (0, 5, 1, 1)


def test_scores_are_only_compared_among_draws_of_one_kind():
    """A drift that both share is no agreement, and what is alone in its kind can't be compared."""
    own, judge = np.array([0, 1, 2, 10, 11, 12, 99.0]), np.array([2, 1, 0, 12, 11, 10, 99.0])
    kinds = ["a", "a", "a", "b", "b", "b", "c"]
    assert agreement(own, judge, 6).correlation > 0.7
    assert agreement(own, judge, 6, kinds).correlation == pytest.approx(-1)


def test_an_unrelated_judge_of_a_climb_rises_as_rarely_as_of_random_search():
    rng, rises = np.random.default_rng(0), []
    for _ in range(200):
        own, (judge,), recipes = climbed(rng, rounds=4, neighbours=4)
        kinds, winner = [draw_kind(one) for one in recipes], int(own.argmax())
        rises.append([agreement(own, judge, winner, draws).rising <= RISES_BY_CHANCE for draws in (kinds, ())])
    inside, over = np.mean(rises, 0)
    assert inside <= 0.05 and over > 0.1, "drifts correlate"


def test_kinds_are_told_from_recipes():
    fresh = [Recipe.start("fresh", seed=i) for i in range(3)]
    run = fresh[0].then_run(0, 4, "grid", 1.0)
    assert len({draw_kind(one) for one in fresh}) == 1
    moved = [fresh[i].then("neighbour", seed=9 + i, cosine=0.9).then_run(0, 4, "grid", 1.0) for i in (0, 0, 1)]
    assert draw_kind(moved[0]) == draw_kind(moved[1]) != draw_kind(moved[2])
    assert len({draw_kind(one) for one in (*fresh, run, run.then("renoise", seed=3, to=2, grid="grid"))}) == 3
    crossed = [Recipe.join(fresh[:2], "crossover", seed=seed, by="region", share=0.5) for seed in (1, 2)]
    assert draw_kind(crossed[0]) == draw_kind(crossed[1]) not in map(draw_kind, fresh)
    means = [Recipe.join([fresh[0], one], "mean", weights=(1.0, 1.0)) for one in fresh[1:]]
    assert draw_kind(means[0]) != draw_kind(means[1]), "chosen, not drawn"


@pytest.mark.parametrize("algorithm", ["random", "zero-order", "paths"])
def test_real_searches_have_draws_of_one_kind(algorithm):
    options = {"model": CountingSampler(), "verifier": contrast, "judges": [brightness], "progress": False}
    result = search("a", algorithm=algorithm, candidates=20, top_k=20, **options)
    (found,) = heldout(result)
    whole = sum(one.finished for one in result.candidates)
    assert found.agreement.compared == whole if algorithm == "random" else 8 <= found.agreement.compared == whole - 1


def test_what_would_tell_is_said():
    own = np.arange(12.0)
    judge = RNG.permutation(own)[None]

    def told(*more):
        (found,) = heldout(searched(*more))
        return found.undecided, found.more

    few = "can be held against it on {} candidates, and 8 are needed"
    all_judged = "top_k=12, which has all 12 candidates judged"
    assert told(np.append(own[5:], own[:5]), judge, 1) == (few.format(7), all_judged)
    assert told(own[:7], judge[:, :7]) == (few.format(7), MORE)
    assert told(own, np.ones((1, 12))) == ("can't tell candidates apart", MORE)
    chain = [Recipe.start("fresh", seed=0)]
    for _ in own[1:]:
        chain.append(chain[-1].then("neighbour", seed=1, cosine=0.9))
    assert told(own, judge, None, chain) == (few.format(0), MORE_PER_ROUND)


def test_a_judge_of_the_verifiers_family_confirms_nothing():
    options = {"model": CountingSampler(), "algorithm": "random", "candidates": 16, "top_k": 16, "seed": 3}
    options["progress"] = False

    def like(other, name, family):
        found = FunctionVerifier(other, name=name)
        found.family = family
        return found

    told = {}
    for family in ("clip", "", "dino"):
        judges = [like(lambda images, prompts: 2 * contrast(images, prompts), "judge", family)]
        result = search("a", verifier=like(contrast, "verifier", "clip"), judges=judges, **options)
        assert result.best.id
        told[family] = diagnose(result, verifier=like(contrast, "verifier", "clip"))
    assert [one.verdict.status for one in told.values()] == ["can't tell", "real", "real"]
    why = "judge judge can't confirm verifier, being of one family with it; to tell, take a judge of another family"
    assert why in told["clip"].sentence


def test_a_verifier_of_the_search_is_no_held_out_judge():
    result = toy_search(candidates=5, verifier=brightness, judges=[contrast])
    assert [one.name for one in heldout(result)] == ["contrast"]
    for candidate in result.candidates:  # as of a search that let its verifier judge itself
        candidate.judges |= candidate.scores
    assert [one.name for one in heldout(result)] == ["contrast"]


def test_families():
    names = ("clip", "aesthetic", "pickscore", "hps", "class", "vlm", "judge", "hpsv3", "image-reward", "consistency")
    assert [load(name).family for name in names] == ["clip"] * 5 + ["vlm"] * 3 + ["blip", "dino"]
    assert (ClassScore("dinov2").family, ClassScore("inception").family) == ("dino", "inception")
    assert Consistency(features="clip").family == "clip"
    assert {load(name).family for name in ("jpeg", "sharpness", "saturation", "brightness")} == {"pixels"}
    assert embedded_verifier(EMBEDDED_VERIFIERS["shapes-oracle"]).family == "oracle"
