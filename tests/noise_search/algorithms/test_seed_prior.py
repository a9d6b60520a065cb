"""What seeds are worth over prompts: learned from scores, told apart from chance, and handed out first."""

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_search import Halving, RandomSearch, SeedPrior
from noise_search.algorithms.base import Terms
from noise_search.engine.prompt_search import SEEDS, Limits, ProblemView, PromptSearch
from noise_search.engine.recorded import Ladder, bare_space, search_recorded
from verifiers.aggregators.ranks import Single
from verifiers.base import FunctionVerifier

STEPS = 10
VERIFIER = FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)), name="mean")


def scores(prompts, seeds, of_seed, seed=0):
    """A table whose seeds explain the share `of_seed` of the variance within a prompt; prompts have other scales."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(size=seeds)
    own = rng.normal(size=(prompts, seeds))
    scale, mean = rng.uniform(0.1, 10, (prompts, 1)), rng.normal(size=(prompts, 1))
    table = mean + scale * (np.sqrt(of_seed) * effects + np.sqrt(1 - of_seed) * own)
    return effects, {f"prompt {at}": dict(enumerate(row.tolist())) for at, row in enumerate(table)}


def learned(table, nfe=0):
    return SeedPrior.learned("model", VERIFIER.key, STEPS, table, nfe)


@pytest.mark.parametrize("of_seed", [0.1, 0.3, 0.9])
def test_reliability_is_what_halves_of_the_prompts_share(of_seed):
    # The mean over n prompts has the variance of the seeds' effects and an n-th of the rest.
    found = [learned(scores(12, 400, of_seed, at)[1]).reliability for at in range(4)]
    assert np.mean(found) == pytest.approx(of_seed / (of_seed + (1 - of_seed) / 6), abs=0.05)


def test_planted_seeds_are_found():
    effects, table = scores(24, 64, 0.4)
    prior = learned(table, 24 * 64 * STEPS)
    assert prior.trusted and prior.prompts == 24 and prior.nfe == 24 * 64 * STEPS
    values = np.array([prior.values[at] for at in range(64)])
    assert np.corrcoef(values, effects)[0, 1] > 0.95 and abs(values.mean()) < 1e-9
    assert set(np.argsort(-effects)[:3].tolist()) <= set(prior.best(6))
    assert prior.best() == prior.best(int((values > 0).sum()))


def test_chance_is_not_trusted():
    found = [learned(scores(12, 64, 0.0, at)[1]) for at in range(12)]
    assert abs(np.mean([one.reliability for one in found])) < 0.08 and not any(one.trusted for one in found)


def test_what_failed_and_what_has_no_spread_tells_nothing():
    table = {"a": {1: 0.0, 2: 1.0, 3: np.nan, 5: np.inf}, "b": {1: 7.0, 2: 7.0}, "c": {1: 2.0, 2: 4.0, 4: np.nan}}
    prior = learned(table)
    assert prior.values == {1: -1.0, 2: 1.0} and prior.prompts == 2
    assert np.isnan(prior.reliability) and not prior.trusted, "two seeds have no correlation"
    nothing = learned({})
    assert nothing.values == {} and nothing.prompts == 0 and not nothing.trusted and nothing.best() == []


@given(
    st.dictionaries(st.integers(0, 2**32 - 1), st.floats(-4, 4), max_size=8),
    st.one_of(st.just(float("nan")), st.floats(-1, 1)),
)
def test_as_json_it_keeps_all(values, reliability):
    prior = SeedPrior("model", "clip@1", 20, values, 7, reliability, 99)
    text = json.dumps(prior.to_json(), allow_nan=False)
    again = SeedPrior.from_json(json.loads(text))
    assert repr(again) == repr(prior) and again.record() == prior.record()
    assert prior.record()["values"] == len(values)


def test_another_value_has_another_hash():
    one, other = (SeedPrior("model", "clip@1", 20, {3: value}, 7, 0.5) for value in (0.25, 0.5))
    assert one.record()["hash"] != other.record()["hash"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "a prior of version 2, and this release reads up to 1"),
        ({"values": {"3": float("inf")}}, "value of seed 3 is inf"),
        ({"steps": None}, None),
    ],
)
def test_what_is_no_prior_is_refused(change, match):
    content = {**SeedPrior("model", "clip@1", 20, {3: 1.0}, 7, 0.5).to_json(), **change}
    if match is None:
        content.pop("steps")
    with pytest.raises(ValueError, match=match or "no prior: it needs model, verifier, steps and values"):
        SeedPrior.from_json(content)


def drawn(terms, seed, *counts):
    """What `fresh` hands out, as seeds."""
    search = PromptSearch(0, "", terms, 0, Single(VERIFIER), RandomSearch(), seed, 1, Limits())
    problem = ProblemView(search, terms, 0, seed)
    return [recipe.seed for count in counts for recipe in problem.fresh(count).recipes]


def terms(prior, baseline=True, steps=STEPS, nfe=4 * STEPS):
    return Terms(bare_space(steps), nfe, baseline, prior=prior)


@given(
    st.dictionaries(st.integers(0, 40) | st.integers(SEEDS - 3, SEEDS - 1), st.floats(-2, 2), max_size=12),
    st.integers(0, 50) | st.integers(SEEDS - 5, SEEDS - 1),
    st.booleans(),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_noise_0_the_better_seeds_and_then_the_stream_none_of_them_twice(values, seed, baseline, counts):
    found = drawn(terms(SeedPrior("", "", STEPS, values, 9, 1.0), baseline), seed, *counts)
    assert len(found) == len(set(found)) == sum(counts)
    first = [seed] if baseline else []
    better = sorted((one for one in values if values[one] > 0), key=lambda one: (-values[one], one))
    ahead = first + [one for one in better if one not in first]
    stream = ((seed + more) % SEEDS for more in range(200))
    rest = [one for one in stream if one not in values and one not in first]
    assert found == list(islice([*ahead, *rest], sum(counts)))


@given(st.integers(0, SEEDS - 1), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_without_a_prior_the_stream_is_random_searchs(seed, counts):
    assert drawn(terms(None), seed, *counts) == [(seed + more) % SEEDS for more in range(sum(counts))]


@pytest.mark.parametrize("algorithm", [RandomSearch(), Halving(rungs=(0.5,))])
def test_algorithms_find_the_best_seed_wherever_it_is(algorithm):
    values = np.zeros((64, 2))
    values[47] = 5.0
    ladder = Ladder((STEPS // 2, STEPS), {VERIFIER.key: values})
    prior = SeedPrior("", "", STEPS, {47: 1.0, 11: 0.5, 3: -1.0}, 9, 1.0)

    def found(known):
        done = search_recorded(algorithm, ladder, terms(known, nfe=6 * STEPS), Single(VERIFIER), range(64))
        return done.winner

    assert found(prior) == 47 and found(None) != 47
