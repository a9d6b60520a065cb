"""Sets and choices from finished searches: of closed-form models, and of the embedded ones with tiny budgets."""

import numpy as np
import pytest

from noise_search import AllCandidatesFailed, Halving, load, search
from noise_search.choosing.pairs import as_batch
from noise_search.choosing.sets import cosine_distances, pick_set, unexplained
from tiny.search import CountingSampler, brightness, contrast, spoilt, toy_search
from verifiers import FunctionVerifier

PROMPT = "a red circle and a blue square"


@pytest.fixture(scope="module")
def result():
    return toy_search(nfe=96, top_k=20)


@pytest.fixture(scope="module")
def embedded():
    return search(PROMPT, verifier="clip", steps=6, candidates=8, algorithm="random", progress=False, seed=3)


def ids(candidates):
    return [one.id for one in candidates]


def test_without_diversity_a_set_is_the_top(result):
    assert ids(result.diverse(5, diversity=0)) == ids(result.top(5))
    assert ids(result.diverse(12, diversity=3)) == ids(result.top(12)), "of as many as there are it takes all"


def test_a_set_is_what_pick_set_takes_of_the_kept_images(result):
    kept = result.top(12)
    images = as_batch([one.image for one in kept])
    small = images.numpy().reshape(12, -1)
    quality = np.array([one.score for one in kept])
    rows = pick_set(quality, cosine_distances(unexplained(small, quality)), 4, 2.0)
    found = result.diverse(4, diversity=2.0, features=lambda images: images.flatten(1))
    assert ids(found) == [kept[row].id for row in rows]
    assert ids(result.diverse(4, diversity=2.0)) == ids(result.diverse(4, diversity=2.0, features="thumbnails"))


def test_features_are_those_of_the_tower_that_is_named(embedded):
    import verifiers
    from noise_search.shapes import EMBEDDED_VERIFIERS

    clip = verifiers.load(**{"name": "clip", "model": EMBEDDED_VERIFIERS["shapes-clip"]["model"]})
    own = embedded.diverse(3, diversity=5.0, features="clip")
    assert ids(own) == ids(embedded.diverse(3, diversity=5.0, features=clip))
    tower = clip.source.tower("cpu")
    known = ids(embedded.diverse(3, diversity=5.0, features=lambda images: tower.image(images)))
    assert ids(own) == known


def test_a_loaded_run_gives_the_same_set_and_nothing_is_spent(tmp_path):
    found = search(
        PROMPT, verifier="clip", steps=6, candidates=6, algorithm="random", progress=False, run=tmp_path / "run"
    )
    again = load(tmp_path / "run")
    assert ids(again.diverse(3)) == ids(found.diverse(3)) and again.ledger.nfe == found.ledger.nfe == 36


@pytest.mark.parametrize("judge", ["vlm", "oracle"])
def test_an_embedded_judge_chooses_what_it_scores_highest(embedded, judge):
    from noise_search import ByScores
    from noise_search.results.choosing import recorded_verifier

    choice = embedded.choose(judge, k=4)
    verifier = recorded_verifier(embedded, judge)
    shown = as_batch([one.image for one in choice.candidates])
    scores = verifier(shown, [PROMPT] * 4).tolist()
    assert scores == sorted(scores, reverse=True) and choice.best.id == choice.candidates[0].id
    assert choice.calls == 12 and choice.contradictions == 0 and choice.contest.pairs == 6
    assert list(choice.strengths) == sorted(choice.strengths, reverse=True)
    assert {one.id for one in choice.candidates} == {one.id for one in embedded.top(4)}
    by_scores = embedded.choose(ByScores(verifier, scale=1.0), k=4, calls=4)
    assert by_scores.calls == 4 and "calls=4" in str(by_scores)
    assert choice.image.size == embedded.image.size and f"candidate {choice.best.id}" in str(choice)


def test_beyond_six_a_knockout(result):
    choice = result.choose(lambda a, b, prompt: float(np.mean(a) < np.mean(b)), k=9)
    darkest = min(result.top(9), key=lambda one: one.pixels.mean())
    assert choice.best.id == darkest.id and choice.calls == 16 and len(choice.candidates) == 9


def test_fewer_images_than_were_asked_for(result):
    few = toy_search(nfe=16)
    assert len(few.choose(FunctionVerifier(brightness), k=6).candidates) == 2
    with pytest.raises(ValueError, match=r"k=3 .*2 of 2 finished.*larger budget"):
        few.diverse(3)
    some = toy_search(nfe=96, top_k=2)
    with pytest.raises(ValueError, match="search with top_k=9"):
        some.diverse(9)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"diversity": -1}, ValueError, "diversity=-1"),
        ({"diversity": None}, TypeError, "None"),
        ({"diversity": "much"}, TypeError, "number"),
        ({"k": 0}, ValueError, "k=0"),
        ({"features": "nobody"}, ValueError, "nobody"),
        ({"features": FunctionVerifier(brightness)}, ValueError, "no tower"),
        ({"features": lambda images: images}, ValueError, r"\[image, feature\]"),
    ],
)
def test_what_makes_no_sense_is_refused(result, options, error, said):
    with pytest.raises(error, match=said):
        result.diverse(**options)


@pytest.mark.parametrize(("options", "said"), [({"k": 1}, "k=1"), ({"calls": 1}, "calls=1")])
def test_a_choice_needs_two_of_everything(result, options, said):
    with pytest.raises(ValueError, match=said):
        result.choose(FunctionVerifier(brightness), **options)
    with pytest.raises(TypeError, match="judge"):
        result.choose(3)


def test_a_search_without_a_winner_has_no_set(caplog):
    with pytest.raises(AllCandidatesFailed) as failed:
        toy_search(CountingSampler(fn=spoilt(slice(None))), nfe=16)
    for take in (lambda one: one.diverse(1), lambda one: one.choose(FunctionVerifier(brightness))):
        with pytest.raises(AllCandidatesFailed):
            take(failed.value.results[0])


@pytest.mark.parametrize("model", ["shapes-flow", "shapes-ddim"])
def test_halving_finds_a_set_within_a_search(model):
    algorithm = Halving(rungs=(0.5,), finish=3, diversity=1.5)
    result = search(PROMPT, model=model, verifier="clip", steps=4, nfe=24, algorithm=algorithm, progress=False)
    begun = [one for one in result.candidates if not one.finished]
    assert len(begun) > 4 and result.ledger.nfe <= 24
    assert len(result.diverse(3)) == 3


def test_an_ensemble_is_searched_for_sets_too():
    result = toy_search(algorithm=Halving(finish=4, diversity=1.5), nfe=96, verifier=[brightness, contrast])
    assert len(result.diverse(4)) == 4 and result.schedule.count("go on")
