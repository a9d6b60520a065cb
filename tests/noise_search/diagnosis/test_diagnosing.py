"""Whole diagnoses of real searches: gains that are real, gains that are not, and what can't be told."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from noise_search import AllCandidatesFailed, search
from noise_search.algorithms.base import Job
from noise_search.diagnosis import Diagnosis, diagnose
from tiny.search import CountingSampler, contrast

PROMPT = "a pink square right of an orange star"
QUICK = {"algorithm": "random", "steps": 8, "judges": ["oracle"], "progress": False}
JUDGED = {**QUICK, "judges": ["oracle", "vlm"], "candidates": 16, "top_k": 16}


def darkness(images, prompts):
    return -images.mean((1, 2, 3))


def board(images, prompts):
    """A pattern of single pixels, which no one sees."""
    signs = (torch.arange(images.shape[-2])[:, None] + torch.arange(images.shape[-1])) % 2 * 2.0 - 1
    return 1000 * (images * signs).mean((1, 2, 3))


@dataclass(frozen=True)
class Inflating:
    """A stub: Crank-Nicolson moves, each of the seed that makes the noise longest; the model sees only the last."""

    name = "stub-inflating"
    whole_calls = True
    moves: int = 20

    def plan(self, problem):
        yield Job(problem.fresh(1), problem.space.end)
        noise = problem.fresh(1)
        for _ in range(self.moves):
            tried = problem.space.pcn(noise, problem.seeds(32), beta=0.3)
            noise = tried[[int(tried.x.flatten(1).norm(dim=1).argmax())]]
        yield Job(noise, problem.space.end)


@pytest.fixture(scope="module")
def real():
    return search(PROMPT, **JUDGED)


@pytest.fixture(scope="module")
def found(real):
    return diagnose(real)


def test_a_real_gain_is_called_real(real, found):
    assert real.judges["oracle@2"] == {"first": 0, "best": 1, "mean": 0.25}
    assert isinstance(found, Diagnosis) and found.real and found.verdict.against == ()
    gain = real.score - real.first_score
    assert found.sentence.startswith(f"The gain of +{gain:.3g} by clip is real: judge vlm rises with it (rank")
    assert found.rescoring.share > 0.8 and found.wrong.share < 0.3
    assert found.rescoring.skipped == {"flip": "the prompt says 'right'"}
    assert found.noise.winner and all(one.passed for one in (*found.noise.winner, *found.noise.first))
    assert (found.winner, found.first) == (real.best.id, 0)


def test_the_numbers_are_those_of_the_search(real, found):
    (key,) = real.best.scores
    assert found.own.by_key[key] == pytest.approx(real.score - real.first_score)
    assert found.spreads[key] == pytest.approx(np.std([c.score for c in real.candidates], ddof=1))
    oracle, vlm = found.judges
    said = np.array([[one.score, *one.judges.values()] for one in real.candidates])
    assert (vlm.judged, vlm.mean, vlm.winner) == (16, pytest.approx(said[:, 2].mean()), [*real.best.judges.values()][1])
    assert vlm.agreement.correlation == pytest.approx(spearmanr(said[:, 0], said[:, 2]).statistic)
    assert vlm.agreement.place == 1 + (said[:, 2] > vlm.winner).sum() and oracle.agreement.place == 2.5
    x = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(real.best.seed)).double()
    assert found.noise.winner[0].value == pytest.approx(float(x.square().mean()))
    assert found.noise.winner[-1].parts == pytest.approx(x[0].mean((1, 2)).tolist())


def test_a_diagnosis_is_plain_json_a_short_table_and_one_sentence(found, monkeypatch):
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["real"] is True and content["sentence"] == found.sentence and content["limits"]["least_share"] == 0.5
    assert len(content["wrong_prompts"]["wrong"]) == 8 and content["noise"]["winner"][0]["passed"] is True
    sentence, *rows = str(found).splitlines()
    assert sentence == found.sentence and sentence.endswith(".") and ". " not in sentence
    assert len(rows) < 26 and max(map(len, rows)) < 120
    table, judging = str(found), ("judge vlm", "rises", "rank correlation", "place 2.5 of 16")
    assert all(word in table for word in (*judging, "JPEG 90", "other prompts", "lag-1", "|x|^2 / D"))
    monkeypatch.setenv("COLUMNS", "80")
    narrow = str(found).splitlines()
    assert narrow[0] == sentence and max(map(len, narrow[1:])) <= 80
    assert sorted(" ".join(narrow).replace(",", "").split()) == sorted(table.replace(",", "").split())


def test_it_is_the_same_twice_and_changes_nothing(real, found):
    before = json.dumps(real.to_json())
    assert diagnose(real).to_json() == found.to_json()
    assert json.dumps(real.to_json()) == before


def test_a_gain_that_held_out_judges_punish_is_not_real():
    jpeg, dark, vivid = (search("a yellow heart", verifier=one, **JUDGED) for one in ("jpeg", darkness, "saturation"))
    for diagnosis in (diagnose(jpeg), diagnose(dark), diagnose(dark, verifier=darkness), diagnose(vivid)):
        assert diagnosis.own.total > 0 and diagnosis.verdict.status == "not real"
        assert "falls with it (rank correlation -0." in diagnosis.sentence
    assert "reads no prompt" in diagnose(jpeg).wrong.skipped
    assert "whatever the prompt" in diagnose(dark, verifier=darkness).wrong.skipped


def test_one_pair_of_images_decides_nothing():
    """The best and the first differ as much, but the judges see the pool."""
    result = search("a small green ring", verifier="saturation", **JUDGED)
    found = diagnose(result)
    assert found.judges[1].agreement.place == 1 and found.judges[1].gain > 0, "the vlm likes the winner best"
    assert found.verdict.status == "can't tell" and "neither rises nor falls" in found.sentence


def test_a_hack_is_found_without_any_judge():
    result = search(
        "a small orange triangle", candidates=12, steps=8, verifier=board, progress=False, algorithm="random"
    )
    found = diagnose(result, verifier=board)
    assert result.score > result.first_score and found.verdict.status == "doubtful" and found.rescoring.share < 0.5
    assert "stays when the images are slightly changed" in found.sentence


def test_a_noise_blown_up_by_many_moves_is_found():
    result = search(
        "a red circle", algorithm=Inflating(), verifier=contrast, nfe=8, steps=4, judges=["oracle"], progress=False
    )
    assert result.best.id == 1, "the longer noise has the higher contrast"
    found = diagnose(result)
    norm = found.noise.winner[0]
    assert norm.value > 1.3 and not norm.passed and found.noise.first[0].passed
    assert not found.real and "its noise isn't white (|x|^2 / D is" in found.sentence


def test_no_gain_has_its_own_sentence():
    found = diagnose(search("a red circle", candidates=1, steps=2, progress=False))
    assert found.sentence == "There is no gain: the winner is the first candidate (one sample)."
    assert not found.real and found.noise.winner == found.noise.first != ()
    assert found.rescoring.skipped == {"all": "there is no gain"} and found.wrong.skipped == "there is no gain"
    json.dumps(found.to_json(), allow_nan=False)


def test_moved_noise_is_checked_and_later_noise_is_named():
    climbed = search(PROMPT, candidates=4, **QUICK | {"algorithm": "zero-order"})
    paths = search(PROMPT, candidates=4, **QUICK | {"algorithm": "paths"})
    assert diagnose(climbed).noise.renoised == 0
    found, renoised = diagnose(paths), [op["op"] for op in paths.recipe.operations].count("renoise")
    assert renoised and found.noise.renoised == renoised and "isn't checked" in str(found)
    start = torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(paths.recipe.operations[0]["seed"]))
    assert found.noise.winner[0].value == pytest.approx(float(start.double().square().mean()))
    assert len(climbed.recipe.operations) > 2, "moved"
    assert diagnose(climbed).noise.winner[0].value == pytest.approx(diagnose(climbed).noise.first[0].value, abs=1e-5)


def test_an_ensemble_is_diagnosed_and_only_those_that_read_prompts_are_asked_about_others():
    result = search(PROMPT, candidates=6, verifier=["clip", "aesthetic"], **QUICK)
    found = diagnose(result)
    assert len(found.own.units) == 2 and set(found.rescoring.shares) == {"resize -2 %", "resize +2 %", "JPEG 90"}
    assert all(key.startswith("clip") for gain in found.wrong.gains.values() for key in gain.units)
    json.dumps(found.to_json(), allow_nan=False)


def test_verifiers_without_a_spread_count_alike_and_a_judge_that_cannot_tell_says_so():
    verifiers = [contrast, lambda images, prompts: 1000 * contrast(images, prompts)]
    found = search(
        "two dogs",
        candidates=3,
        seed=5,
        steps=2,
        verifier=verifiers,
        judges=["oracle"],
        progress=False,
        top_k=1,
        algorithm="random",
    )
    told = diagnose(found, verifier=verifiers)
    assert found.best.id and told.spreads == {} and told.own.total == pytest.approx(1)
    assert "judge oracle can't judge the winner; to tell, take another judge" in told.sentence
    assert told.to_json()["judges"][0]["gain"] is None
    assert set(told.own.units) == set(found.best.scores)


def test_another_model_is_asked_for_and_checked():
    model = CountingSampler()
    result = search(
        "a",
        model=model,
        verifier=contrast,
        candidates=16,
        seed=3,
        judges=[darkness],
        progress=False,
        algorithm="random",
    )
    assert result.best.id
    found = diagnose(result)
    assert "pass it as model=" in found.noise.skipped and "pass verifier=" in found.rescoring.skipped["all"]
    assert found.sentence.endswith("not tested: changed images, other prompts, noise.")
    rows = model.rows
    told = diagnose(result, model=model, verifier=contrast)
    assert told.noise.winner and told.rescoring.shares and model.rows == rows, "no NFE is spent"
    with pytest.raises(ValueError, match="belongs to another model"):
        diagnose(result, model=CountingSampler(steps=5))
    with pytest.raises(ValueError, match="the search was made with contrast"):
        diagnose(result, verifier=darkness)


def test_wrong_prompts_may_be_given(real):
    assert list(diagnose(real, wrong_prompts=["a green ring"]).wrong.wrong) == ["a green ring"]
    for bad in ([], [""], [PROMPT], [3]):
        with pytest.raises(ValueError, match="wrong_prompts"):
            diagnose(real, wrong_prompts=bad)


def test_a_first_image_without_a_score_leaves_no_gain_to_test():
    calls = iter(range(99))

    def failing(images, prompts):
        return [float("nan") if next(calls) == 0 else float(image.mean()) for image in images]

    result = search(
        "a", model=CountingSampler(), verifier=failing, candidates=4, batch_size=1, progress=False, algorithm="random"
    )
    found = diagnose(result, verifier=failing)
    assert found.sentence == "Whether there is a gain can't be told: the first candidate (one sample) has no score."
    assert not found.real and "no score" in found.rescoring.skipped["all"]
    json.dumps(found.to_json(), allow_nan=False)


def test_what_is_no_search_is_refused(real):
    with pytest.raises(TypeError, match="SearchResult of one search"):
        diagnose([real])
    with pytest.raises(AllCandidatesFailed):
        diagnose(replace(real, bests=()))


def test_a_recorded_version_that_differs_is_not_scored_with(real):
    renamed = [replace(c, scores={"clip@older": c.score}) for c in real.candidates]
    best = [c for c in renamed if c.id == real.best.id]
    described = {**real.settings["verifier"], "verifiers": [{"name": "clip", "version": "older", "kind": "score"}]}
    old = replace(real, candidates=tuple(renamed), bests=tuple(best), settings={**real.settings, "verifier": described})
    found = diagnose(old)
    assert "the search was made with clip@older" in found.rescoring.skipped["all"] and not found.rescoring.shares
