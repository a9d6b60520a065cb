"""Every way to combine verifiers, through real searches of the embedded model and of a closed-form one."""

import json
from inspect import signature

import numpy as np
import pytest
from scipy.stats import rankdata, zscore

from noise_search import AllCandidatesFailed, compare, score_images, search
from noise_search.cli.compare import compare as compare_command
from noise_search.cli.generate import generate
from noise_search.cli.score import score
from noise_search.comparison.running import winner
from noise_search.resolve import resolve_aggregator
from tiny.command import PROMPT
from tiny.search import CountingSampler, ParticleSearch, brightness, contrast, scores, toy_search
from verifiers import FunctionVerifier, MeanRank, MeanZ, Single, as_aggregator
from verifiers.aggregators.ranks import ENSEMBLE
from verifiers.aggregators.z_scores import MinZ, WeightedSum

BOTH = ["clip", "aesthetic"]
WEIGHTS = {"clip": 1.0, "aesthetic": 0.3}


def embedded(**options):
    return search(PROMPT, candidates=7, steps=3, progress=False, **options)


def toy(candidates=12, prompt="x", **options):
    options = {"verifier": MeanZ(brightness, contrast, freeze_after=5)} | options
    return toy_search(prompt=prompt, candidates=candidates, **options)


def raw(result):
    return np.array([list(c.scores.values()) for c in result.candidates])


def mean_rank(x):
    return ((rankdata(x, axis=0) - 1) / (len(x) - 1)).mean(1)


def frozen(x):
    return (x - x[:4].mean(0)) / x[:4].std(0)


CASES = {
    "several": ({"verifier": BOTH}, lambda x: zscore(x).mean(1)),
    "mean-rank by name": ({"verifier": BOTH, "ensemble": "mean-rank"}, mean_rank),
    "mean-rank": ({"verifier": MeanRank(*BOTH)}, mean_rank),
    "min-z by name": ({"verifier": BOTH, "ensemble": "min-z"}, lambda x: zscore(x).min(1)),
    "mean-z": ({"verifier": MeanZ(*BOTH)}, lambda x: zscore(x).mean(1)),
    "mean-z frozen": ({"verifier": MeanZ(*BOTH, freeze_after=4)}, lambda x: frozen(x).mean(1)),
    "min-z frozen": ({"verifier": MinZ(*BOTH, freeze_after=4)}, lambda x: frozen(x).min(1)),
    "weighted": ({"verifier": WeightedSum(*BOTH, weights=WEIGHTS)}, lambda x: x @ [1, 0.3]),
    "weighted z": (
        {"verifier": WeightedSum(*BOTH, weights=WEIGHTS, of="z", freeze_after=4)},
        lambda x: frozen(x) @ [1, 0.3],
    ),
    "single": ({"verifier": Single("clip")}, lambda x: x[:, 0]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_ensemble_ranks_the_embedded_models_images_and_raw_scores_stay(case, tmp_path):
    options, expected = CASES[case]
    result = embedded(**options)
    x = raw(result)
    assert result.best.id == int(expected(x).argmax())
    assert scores(result) == pytest.approx(expected(x).tolist(), abs=1e-9)
    result.save(tmp_path)
    saved = json.loads((tmp_path / "result.json").read_text())
    assert [list(row["scores"].values()) for row in saved["candidates"]] == x.tolist()
    described = saved["settings"]["verifier"]
    # The names mean what the embedded model declares, not OpenAI's CLIP.
    assert described["verifiers"][0]["version"].startswith("clip/") and "openai" not in json.dumps(described)
    assert result.image.size == (64, 64)


def test_each_prompt_of_a_lockstep_has_the_reference_of_its_own_first_candidates():
    one, other = toy(prompt=["x", "a longer prompt"])
    for result in (one, other):
        x = raw(result)[:5]
        reference = result.settings["verifier"]["reference"]
        assert list(reference.values()) == [pytest.approx([m, s]) for m, s in zip(x.mean(0), x.std(0), strict=True)]
        assert result.absolute
        alone = toy(prompt=result.prompt)
        assert alone.settings["verifier"] == result.settings["verifier"] and scores(alone) == scores(result)
    assert one.settings["verifier"]["reference"] != other.settings["verifier"]["reference"]


def test_several_verifiers_are_combined_by_z_scores_against_the_first_8_where_nothing_else_is_asked_for():
    result = toy(12, verifier=[brightness, contrast])
    x = raw(result)
    assert result.absolute and result.settings["verifier"]["name"] == "mean-z(brightness, contrast)"
    assert scores(result) == pytest.approx(((x - x[:8].mean(0)) / x[:8].std(0)).mean(1).tolist())
    functions = (search, compare, score_images, generate, compare_command, score, resolve_aggregator, as_aggregator)
    assert {signature(one).parameters["ensemble"].default for one in functions} == {ENSEMBLE}


@pytest.mark.parametrize("size", [1, 4, 16])
def test_the_reference_does_not_depend_on_micro_batches(size):
    plain, batched = toy(), toy(batch_size=size)
    for key, statistics in plain.settings["verifier"]["reference"].items():
        assert batched.settings["verifier"]["reference"][key] == pytest.approx(statistics, abs=1e-6)


def test_the_curve_of_a_frozen_ensemble_rises_to_the_score():
    result = toy(32, algorithm="zero-order")
    values = [value for _, value in result.curve()]
    assert values == sorted(values) and values[-1] == result.score == max(scores(result))
    assert result.plot() is not None


def test_too_few_candidates_leave_values_relative():
    result = toy(4)
    assert not result.absolute and result.settings["verifier"]["reference"] is None
    assert scores(result) == pytest.approx(zscore(raw(result)).mean(1).tolist())
    with pytest.raises(ValueError, match=r"mean-z\(brightness, contrast\) has no absolute value.*curves\(\)"):
        result.curve()


def test_the_winner_within_a_smaller_budget_is_that_of_a_search_with_it():
    options = {"prompt": "a", "model": CountingSampler(2), "verifier": [brightness, contrast], "seed": 200}
    more, less = toy_search(candidates=9, **options), toy_search(candidates=4, **options)
    early = [one for one, nfe in zip(more.bests, more.bests_nfe, strict=True) if nfe <= less.ledger.nfe]
    assert max(early, key=lambda c: c.score) is not early[-1], "the reference reorders them: else another seed"
    assert winner(more, less.ledger.nfe).recipe == less.recipe


def test_failed_candidates_are_no_part_of_the_reference():
    def third_fails(images, prompts):
        made.append(len(images))
        if len(made) == 3:
            raise RuntimeError("no score")
        return images.mean((1, 2, 3))

    made = []
    result = toy(8, verifier=MeanZ(third_fails, contrast, freeze_after=4), batch_size=1)
    assert result.candidates[2].failure and np.isnan(result.candidates[2].score)
    good = raw(result)[[0, 1, 3, 4]]
    reference = [*result.settings["verifier"]["reference"].values()]
    assert reference == [pytest.approx([m, s]) for m, s in zip(good.mean(0), good.std(0), strict=True)]


@pytest.mark.parametrize("make", [MeanRank, MeanZ, MinZ, lambda *v: MeanZ(*v, freeze_after=3)])
def test_what_violates_a_constraint_never_wins(make):
    dark = FunctionVerifier(lambda images, prompts: 0.5 - brightness(images, prompts), "dark", kind="constraint")
    result = toy(16, verifier=make(brightness, contrast, dark))
    violated = [c.scores[dark.key] < 0 for c in result.candidates]
    assert 0 < sum(violated) < 16
    assert [bool(np.isnan(s)) for s in scores(result)] == violated
    assert result.best.scores[dark.key] >= 0
    never = FunctionVerifier(lambda images, prompts: images.mean((1, 2, 3)) - 99, "never", kind="constraint")
    with pytest.raises(
        AllCandidatesFailed, match=r"constraint 'never' is violated \(-98\.\d+, and 0 passes\) in 4 of 4"
    ):
        toy(4, verifier=make(brightness, contrast, never))


def test_a_target_score_counts_once_the_reference_is_frozen():
    result = toy(64, target_score=1.0, batch_size=1)
    assert result.stop_reason == "target score 1 reached" and 5 <= len(result.candidates) < 64
    with pytest.raises(ValueError, match="only ranks a pool: give one verifier, or MeanZ"):
        toy(verifier=MeanZ(brightness, contrast), target_score=1.0)


@pytest.mark.parametrize("make", [MeanZ, MinZ])
def test_a_verifier_that_is_constant_on_the_first_candidates_counts_from_where_it_tells_them_apart(make):
    made = []
    found = FunctionVerifier(lambda images, prompts: [float(made.append(0) or len(made) == 19) for _ in images], "ocr")
    result = toy(24, verifier=make(brightness, found, freeze_after=8), batch_size=4)
    x = raw(result)
    assert x[:, 1].tolist() == [float(row == 18) for row in range(24)]
    reference = result.settings["verifier"]["reference"]
    assert reference[found.key] == pytest.approx([1 / 19, np.sqrt(18) / 19])  # of the first 19
    z = (x - [x[:8, 0].mean(), 1 / 19]) / [x[:8, 0].std(), np.sqrt(18) / 19]
    assert scores(result) == pytest.approx((z.mean(1) if make is MeanZ else z.min(1)).tolist())
    assert result.best.id == np.argmax(scores(result)) and result.image is not None and result.absolute
    assert result.best.id == 18


def test_a_verifier_that_stays_constant_leaves_a_target_score_to_the_others():
    never = FunctionVerifier(lambda images, prompts: [0.0] * len(images), "never")
    result = toy(64, verifier=MeanZ(brightness, never, freeze_after=5), target_score=0.5, batch_size=1)
    assert result.stop_reason == "target score 0.5 reached" and result.absolute and result.score >= 0.5
    assert result.settings["verifier"]["reference"][never.key] == [0.0, 0.0]


@pytest.mark.parametrize(
    "options", [{"algorithm": ParticleSearch()}, {"draft_steps": 2, "draft_renders": 3}], ids=["looks", "drafts"]
)
@pytest.mark.parametrize(
    ("verifier", "absolute"),
    [
        (brightness, lambda x: x[0]),
        (MeanRank(brightness, contrast), None),
        (MeanZ(brightness, contrast, freeze_after=50), None),
        (WeightedSum(brightness, contrast, weights={"brightness": 1.0, "contrast": 2.0}), lambda x: x @ [1, 2]),
        (MeanZ(brightness, contrast, freeze_after=2), "frozen"),
    ],
    ids=["one", "mean-rank", "not frozen yet", "sum", "frozen"],
)
def test_what_is_not_finished_has_its_own_value_or_none(verifier, absolute, options):
    result = toy(12, verifier=verifier, **options)
    if absolute == "frozen":
        mean, std = np.array(list(result.settings["verifier"]["reference"].values())).T
        absolute = lambda x: ((x - mean) / std).mean()  # noqa: E731
    rest = [c for c in result.candidates if not c.finished]
    values = [np.nan if absolute is None else absolute(np.array(list(c.scores.values()))) for c in rest]
    assert rest and [c.score for c in rest] == pytest.approx(values, nan_ok=True)
    assert all(np.isfinite(c.score) for c in result.candidates if c.finished)


def test_a_reference_of_one_search_serves_another(tmp_path):
    before = toy(8, verifier=MeanRank(brightness, contrast))
    frozen = MeanZ(brightness, contrast).freeze(before.components())
    later = toy(8, verifier=frozen, seed=100)
    assert later.absolute
    later.save(tmp_path)
    recorded = json.loads((tmp_path / "result.json").read_text())["verifier"]["reference"]
    again = toy(8, verifier=MeanZ(brightness, contrast, reference=recorded), seed=100)
    assert scores(again) == scores(later)
    np.testing.assert_allclose(np.mean(frozen.combine(before.components())), 0, atol=1e-9)


@pytest.mark.parametrize("algorithm", ["zero-order", "paths"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_ties_of_the_smallest_z_score_keep_the_pictures_of_the_best(algorithm, top_k):
    def coarse(images, prompts):
        return (images.mean((1, 2, 3)) * 4).round()

    result = toy(24, verifier=MinZ(coarse, contrast), algorithm=algorithm, top_k=top_k, batch_size=1)
    assert all(c.pixels is not None for c in (result.best, *result.top(top_k)))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"verifier": BOTH, "ensemble": "mean-zz"}, ValueError, "unknown ensemble 'mean-zz'; did you mean 'mean-z'"),
        (
            {"verifier": MeanZ(*BOTH), "ensemble": "min-z"},
            ValueError,
            r"mean-z\(clip, aesthetic\), which combines its own",
        ),
        ({"verifier": MinZ(*BOTH), "ensemble": "mean-rank"}, ValueError, "ensemble='mean-rank' beside min-z"),
        ({"verifier": MeanZ("clpi", "aesthetic")}, ValueError, "unknown verifier 'clpi'; did you mean 'clip'"),
        ({"verifier": MeanZ}, TypeError, "give it its verifiers"),
        ({"verifier": MeanZ("clip", reference={"clip": (0.0, 1.0)})}, ValueError, "reference lacks"),
    ],
)
def test_bad_ensembles_are_refused_in_one_line(options, error, words):
    with pytest.raises(error, match=words) as caught:
        embedded(**options)
    assert "\n" not in str(caught.value)
