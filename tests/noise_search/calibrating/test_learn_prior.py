"""`learn_prior`: random candidates with common seeds, a file, and searches that begin with the better ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from noise_search import RandomSearch, SeedPrior, compare, learn_prior, replay, search
from noise_search.cli.app import app
from noise_search.resolve import read_prior
from tiny.search import CountingSampler, brightness, contrast, toy_search
from verifiers.base import FunctionVerifier

PROMPTS = ["a", "a dog", "two grey cats", "an old red house"]
KEY = FunctionVerifier(brightness).key


def of_prompt(images, prompts):
    """Likes another direction for each prompt, so that no seed is good for all."""
    directions = [torch.randn(images[0].shape, generator=torch.Generator().manual_seed(len(p))) for p in prompts]
    return (images * torch.stack(directions)).sum((1, 2, 3))


def learned(sampler=None, verifier=brightness, **options):
    asked = {"prompts": PROMPTS, "seeds": 24, "progress": False}
    return learn_prior(sampler or CountingSampler(), verifier, **asked | options)


@pytest.fixture(scope="module")
def prior():
    return learned()


def test_every_prompt_runs_the_same_seeds_and_the_cost_is_said(capsys):
    sampler = CountingSampler()
    found = learned(sampler, seeds=range(100, 120), progress=True)
    assert "160 NFE for each of 4 prompts, prior: seeds 20, steps 8" in capsys.readouterr().err
    assert found.nfe == sampler.rows == 4 * 20 * 8 and found.prompts == 4
    assert sorted(found.values) == list(range(100, 120)) and (found.steps, found.verifier) == (8, KEY)
    alone = [toy_search(sampler, prompt, nfe=8 * 20, seed=100) for prompt in PROMPTS]
    rows = np.array([[one.score for one in result.candidates] for result in alone])
    z = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    assert [found.values[seed] for seed in range(100, 120)] == pytest.approx(z.mean(0).tolist(), abs=1e-4)


def test_where_prompts_agree_it_is_trusted_and_where_they_do_not_it_is_not(prior):
    assert prior.trusted and prior.reliability > 0.8
    own = learned(verifier=of_prompt)
    assert not own.trusted and abs(own.reliability) < 0.4


@pytest.mark.parametrize("algorithm", ["random", "halving", "auto"])
def test_a_search_with_it_begins_with_noise_0_and_the_better_seeds(prior, algorithm):
    result = toy_search(prompt="something else", algorithm=algorithm, nfe=48, seed=500, prior=prior)
    begun = list(dict.fromkeys(one.seed for one in result.candidates))
    best = [seed for seed in prior.best() if seed != 500]
    assert begun == [500, *best][: len(begun)] and len(begun) >= 6
    assert result.ledger.nfe <= 48
    plain = toy_search(prompt="something else", nfe=8, seed=500)
    assert result.first_score == pytest.approx(plain.score, abs=1e-5)
    others = [
        toy_search(prompt="something else", algorithm=algorithm, nfe=48, seed=at).score for at in range(90, 900, 90)
    ]
    assert result.score > np.mean(others)
    assert result.settings["prior"] == prior.record()


def test_drafts_and_a_search_without_baseline_begin_with_the_better_seeds(prior):
    result = toy_search(nfe=48, seed=500, prior=prior, baseline=False)
    assert [one.seed for one in result.candidates] == prior.best(6)
    drafted = toy_search(nfe=64, seed=500, prior=prior, draft_steps=4)
    assert list(dict.fromkeys(one.seed for one in drafted.candidates))[:4] == [500, *prior.best(3)]


def test_one_that_is_not_trusted_is_not_used_and_that_is_said_once(prior, caplog):
    doubtful = replace(prior, reliability=0.39)
    result = toy_search(prompt=PROMPTS, nfe=24, prior=doubtful)
    assert (
        caplog.text.count("the prior isn't used: its seeds' means over halves of its 4 prompts correlate by 0.39") == 1
    )
    assert [one.seed for one in result[0].candidates] == [0, 1, 2] and "prior" not in result[0].settings


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        ({"model": "another"}, {}, r"prior is of model another, 8 steps, brightness@\S+, and this search of model"),
        ({}, {"model": CountingSampler(steps=9)}, "8 steps, .* 9 steps"),
        ({}, {"verifier": contrast}, "8 steps, brightness.* 8 steps, contrast"),
        ({}, {"verifier": [brightness, contrast]}, "8 steps, brightness@.*, contrast@"),
        ({"reliability": 0.0}, {"verifier": contrast}, "8 steps, contrast"),
    ],
)
def test_a_prior_of_something_else_is_refused(prior, change, options, match):
    with pytest.raises(ValueError, match=match):
        toy_search(**{"nfe": 24, "prior": replace(prior, **change), **options})


def test_a_file_is_read_back_and_nothing_is_replaced(prior, tmp_path):
    file = tmp_path / "new" / "prior.json"
    found = learned(out=file)
    assert read_prior(file) == found == prior
    result, again = (toy_search(nfe=24, prior=one) for one in (file, str(file)))
    assert result.settings["prior"] == again.settings["prior"] == prior.record()
    sampler = CountingSampler()
    with pytest.raises(ValueError, match="is there already: give another file, or overwrite=True"):
        learned(sampler, out=file)
    assert sampler.rows == 0
    learned(sampler, out=file, overwrite=True, seeds=range(5, 25))
    assert sorted(read_prior(file).values) == list(range(5, 25))


@pytest.mark.parametrize(
    "content", ['{"a": "letter"}', "[1]", "{", '{"model": "", "verifier": "", "steps": 1, "values": 3}']
)
def test_a_file_of_something_else_is_refused(content, tmp_path):
    file = tmp_path / "notes.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"notes.json can't be read as a prior"):
        toy_search(nfe=24, prior=file)
    with pytest.raises(ValueError, match=r"no prior at .*none.json; noise_search.learn_prior"):
        toy_search(nfe=24, prior=tmp_path / "none.json")
    with pytest.raises(TypeError, match="must be what learn_prior"):
        toy_search(nfe=24, prior={3: 1.0})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 15}, "seeds=15 must be at least 16"),
        ({"seeds": [*range(15), 3]}, "seeds has 15 different ones"),
        ({"seeds": "many"}, "must be a whole number, how many, or several seeds"),
        ({"seeds": [*range(15), -1]}, "seed=-1 must be a whole number"),
        ({"prompts": ["a"]}, "gives 1 prompt, and a prior is a mean over at least 2"),
        ({"verifier": [brightness, contrast]}, "combines several; a prior is of one"),
    ],
)
def test_what_can_not_be_learned_is_refused_before_anything_runs(options, match):
    sampler = CountingSampler()
    with pytest.raises((ValueError, TypeError), match=match):
        learned(sampler, **options)
    assert sampler.rows == 0


def test_ctrl_c_ends_it():
    def stopping(images, prompts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned(verifier=stopping)


def test_a_comparison_keeps_its_yardstick_without_it(prior, tmp_path):
    asked = {"prompts": PROMPTS, "model": CountingSampler(), "verifier": brightness, "candidates": 4}
    asked |= {"algorithms": {"primed": RandomSearch()}, "diagnosed": 0, "pictured": 0, "progress": False}
    plain = compare(**asked)
    table = compare(prior=prior, out=tmp_path / "out", **asked)

    def won(found, label):
        return {one.prompt: json.loads(one.recipe)[0]["seed"] for one in found.records if one.algorithm == label}

    assert won(table, "random") == won(plain, "random") == won(plain, "primed")
    assert [one.scores for one in table.pools] == [one.scores for one in plain.pools]
    noise_0 = {one.prompt: one.noise for one in table.records}
    assert all(seed in (*prior.best(3), noise_0[prompt]) for prompt, seed in won(table, "primed").items())
    assert set(won(table, "primed").values()) & set(prior.best(3))
    for one, other in zip(table.records, plain.records, strict=True):
        assert one.first_scores == pytest.approx(other.first_scores, abs=1e-5), "noise 0 stays a plain sample"
    assert table.settings["prior"] == prior.record()
    with pytest.raises(ValueError, match="was made with another prior"):
        compare(out=tmp_path / "out", **asked)


def test_a_comparison_says_once_that_it_is_not_trusted(prior, caplog):
    asked = {"prompts": PROMPTS, "model": CountingSampler(), "verifier": brightness, "candidates": [1, 2]}
    compare(algorithms=["halving"], prior=replace(prior, reliability=0.0), diagnosed=0, progress=False, **asked)
    assert caplog.text.count("the prior isn't used") == 1


def test_on_an_embedded_model_from_the_prompts_to_a_replayed_winner(tmp_path):
    file = tmp_path / "prior.json"
    settings = {"steps": 2, "height": 32, "width": 32}
    prior = learn_prior("shapes-flow", "aesthetic", limit=2, seeds=16, out=file, progress=False, **settings)
    assert isinstance(prior, SeedPrior) and prior.nfe == 2 * 16 * 2 and prior.verifier.startswith("aesthetic")
    read_prior(file)
    sure = replace(prior, reliability=0.9)
    given = {"verifier": "aesthetic", "candidates": 3, "algorithm": "random", "progress": False, **settings}
    result = search("a red circle", prior=sure, seed=7, **given)
    assert [one.seed for one in result.candidates] == [7, *[seed for seed in prior.best() if seed != 7][:2]]
    result.save(tmp_path / "run")
    again = replay(tmp_path / "run" / "best.png")
    assert not again.broken and again.recipe.seed == result.best.seed
    with pytest.raises(ValueError, match=r"prior is of model .*size, guidance and scheduler among them"):
        search("a red circle", prior=sure, **given | {"height": 64, "width": 64})

    file.write_text(json.dumps(sure.to_json()))
    typed = [
        "generate",
        "a red circle",
        "--verifier",
        "aesthetic",
        "--judge",
        "none",
        "--candidates",
        "3",
        "--seed",
        "7",
    ]
    typed += ["--algorithm", "random", "--steps", "2", "--height", "32", "--width", "32", "--prior", str(file)]
    done = CliRunner().invoke(
        app, [*typed, "--out", str(tmp_path / "typed"), "--format", "json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["settings"]["prior"] == sure.record() and [one["seed"] for one in told["candidates"]] == [
        one.seed for one in result.candidates
    ]
