"""Against a Gaussian's closed form: the images of a search, and the x0 predictions that it hands to verifiers."""

import itertools
import logging
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from noise_search import SearchOverPaths, ZeroOrderSearch, replay
from samplers import DenoiserSampler
from tiny.search import MEAN, TAU, ParticleSearch, brightness, gaussian_x0, scores, space, toy_search, vp_space
from verifiers import Verifier


def picture(x):
    return x / 16 + 0.5  # wide enough that nothing is clipped


class Toy(DenoiserSampler):
    """The Gaussian's exact denoiser; counts what it decodes."""

    def __init__(self, kind=space, steps=10, rule="x0"):
        self.decoded = 0

        def output(x, alpha, sigma, prompts):
            x0 = gaussian_x0(x, alpha, sigma, prompts)
            return (x - x0) / sigma if rule == "velocity" else (x - alpha * x0) / sigma if rule == "epsilon" else x0

        def shown(x):
            self.decoded += len(x)
            return picture(x)

        super().__init__(output, lambda asked, levels: kind(asked or steps), prediction=rule, decode=shown)


@dataclass(eq=False)
class Change(Verifier):
    """Minus the mean change from the x0 prediction to the image; remembers what it was given."""

    noise_level: float = 0.4
    name: str = "change"
    seen: list = field(default_factory=list)
    needs = frozenset({"x0"})

    @property
    def version(self):
        return f"{self.noise_level:g}"

    def score(self, images, prompts, *, x0):
        self.seen.append((images, x0))
        return -(images - x0).abs().mean((1, 2, 3))


def found(sampler=None, **options):
    return toy_search(sampler or Toy(), **{"candidates": 5, "verifier": Change(), "batch_size": 2, **options})


def by_hand(grid, seeds, level):
    """Prediction nearest to a noise level, and the finished image, by the exact denoiser and the first-order step."""
    at = min(range(grid.end), key=lambda i: abs(grid.noise_level(i) - level))
    x, kept = grid.fresh(seeds).x, None
    for i in range(grid.end):
        x0 = gaussian_x0(x, grid.alphas[i], grid.sigmas[i], [])
        kept = x0 if i == at else kept
        x = grid.alphas[i + 1] * x0 + grid.sigmas[i + 1] * (x - grid.alphas[i] * x0) / grid.sigmas[i]
    return picture(kept), picture(x)


@pytest.mark.parametrize("kind", [space, vp_space])
def test_search_converges_to_the_exact_map_at_first_order(kind):
    def error(steps):
        """Largest distance between searched images and the exact map of the same noises."""
        grid, seen = kind(steps), Change()
        found(Toy(lambda steps: grid), verifier=[brightness, seen], candidates=4)
        spread = math.sqrt(grid.alphas[0] ** 2 * TAU**2 + grid.sigmas[0] ** 2)
        exact = MEAN + TAU / spread * (grid.fresh([0, 1, 2, 3]).x - grid.alphas[0] * MEAN)
        return float(((torch.cat([images for images, _ in seen.seen]) - 0.5) * 16 - exact).abs().max())

    errors = [error(steps) for steps in (16, 32, 64, 128)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(0.75 < order < 1.25 for order in orders[1:]), (errors, orders)
    assert errors[-1] < 0.05


@pytest.mark.parametrize(("kind", "rule"), [(space, "velocity"), (vp_space, "epsilon")], ids=["flow", "ddim"])
@pytest.mark.parametrize("level", [0.2, 0.4, 0.8])
def test_the_prediction_handed_over_is_the_exact_one_of_the_same_trajectory(kind, rule, level):
    change = Change(level)
    result = found(Toy(kind, rule=rule), verifier=change, seed=3)
    x0, images = by_hand(kind(10), [3, 4, 5, 6, 7], level)
    torch.testing.assert_close(torch.cat([s[1] for s in change.seen]), x0, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([s[0] for s in change.seen]), images, atol=1e-5, rtol=0)
    assert scores(result) == pytest.approx((-(images - x0).abs().mean((1, 2, 3))).tolist(), abs=1e-5)


@pytest.mark.parametrize("deterministic", [False, True])
def test_batches_change_nothing_and_decodes_are_booked(deterministic):
    alone, together = found(batch_size=1), found(batch_size=4, deterministic=deterministic)
    assert scores(alone) == pytest.approx(scores(together), abs=1e-6)
    assert alone.ledger.nfe == together.ledger.nfe == 50 and together.ledger.decodes == 10
    point = min(range(10), key=lambda i: abs(space(10).noise_level(i) - 0.4))
    assert together.settings["x0_predictions"] == {space(10).id: {"0.4": pytest.approx(space(10).noise_level(point))}}


def test_nothing_is_decoded_and_no_score_changes_where_nobody_needs_it():
    plain, sampler = Toy(), Toy()
    without, beside = found(plain, verifier=brightness), found(sampler, verifier=[brightness, Change()])
    assert plain.decoded == without.ledger.decodes == 5 and sampler.decoded == beside.ledger.decodes == 10
    assert "x0_predictions" not in without.settings and without.ledger.nfe == beside.ledger.nfe
    key = next(iter(without.best.scores))
    assert [c.scores[key] for c in without.candidates] == [c.scores[key] for c in beside.candidates]


def test_several_levels_and_levels_that_share_a_point():
    sampler = Toy()
    changes = [Change(0.4), Change(0.41), Change(0.7)]
    found(sampler, verifier=changes)
    assert sampler.decoded == 5 * 3
    given = [torch.cat([x0 for _, x0 in change.seen]) for change in changes]
    assert torch.equal(given[0], given[1]) and not torch.allclose(given[0], given[2])


def test_drafts_use_the_nearest_point_of_their_own_grid():
    change = Change()
    result = found(verifier=change, candidates=None, nfe=60, draft_steps=4, draft_renders=1)
    draft = next(c for c in result.candidates if c.draft)
    x0, images = by_hand(space(4), [draft.seed], 0.4)
    assert draft.score == pytest.approx(float(-(images - x0).abs().mean()), abs=1e-5)
    assert set(result.settings["x0_predictions"]) == {space(10).id, space(4).id}


@pytest.mark.parametrize("algorithm", ["random", ZeroOrderSearch()], ids=repr)
def test_a_judge_sees_what_a_verifier_would(algorithm):
    judge, verifier = Change(name="judge"), Change()
    result = found(verifier=[brightness, verifier], judges=[judge], algorithm=algorithm)
    for candidate in result.top(3):
        assert candidate.judges[judge.key] == pytest.approx(candidate.scores[verifier.key], abs=2 / 255)
        assert set(candidate.x0) == {0.4} and candidate.x0[0.4].dtype == np.uint8


@pytest.mark.parametrize("algorithm", [SearchOverPaths(), ParticleSearch(every=3)], ids=["paths", "particles"])
def test_a_judge_gives_nan_where_the_last_run_starts_after_the_level_and_says_it_once(algorithm, caplog):
    with caplog.at_level(logging.WARNING):
        result = found(verifier=brightness, judges=[Change()], algorithm=algorithm, candidates=None, nfe=100)
    grid = space(10)
    judged = [c for c in result.candidates if c.judges]
    passes = [grid.noise_level(c.recipe.operations[-1]["from"]) >= 0.4 - 1e-9 for c in judged]
    finite = [bool(np.isfinite(c.judges["change@0.4"])) for c in judged]
    # A recipe tells a run that was resumed as one run, so paths may have been resumed after the level.
    assert any(finite) and all(passed for passed, known in zip(passes, finite, strict=True) if known)
    warned = [r for r in caplog.records if "starts after noise level 0.4" in r.message]
    assert not all(finite) and len(warned) == 1
    if isinstance(algorithm, ParticleSearch):
        assert finite == passes, "the last runs of particles start after the level"


def test_a_replay_scores_the_same():
    result = found()
    for candidate in result.candidates:
        again = replay(result, candidate=candidate.id, model=Toy(), verifier=Change(), progress=False)
        assert again.scores["change@0.4"] == pytest.approx(candidate.score, abs=1e-6) and again.nfe == 10


def test_a_replay_without_such_a_prediction_is_refused():
    particles = found(verifier=brightness, algorithm=ParticleSearch(every=3), candidates=None, nfe=100)
    half = next(c for c in particles.candidates if not c.finished)
    late = next(c for c in particles.candidates if c.finished and c.recipe.operations[-1]["from"] > 6)
    for which, message in [(half, "before the last of 10 steps"), (late, "last run starts after it, at 0.1")]:
        sampler = Toy()
        with pytest.raises(ValueError, match=message):
            replay(particles, candidate=which.id, model=sampler, verifier=Change(), progress=False)
        assert sampler.denoiser_rows == 0


class Whole(Toy):
    can_stop, limitation = False, "scheduler='keep'"


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        (Whole, {}, "only runs whole .*scheduler='first-order'"),
        (Whole, {"verifier": brightness, "judges": [Change()]}, "only runs whole"),
        (Toy, {"algorithm": "paths"}, r"'paths' ranks unfinished ones; use algorithm='random'"),
        (Toy, {"algorithm": ParticleSearch()}, "ranks unfinished ones"),
        (Toy, {"verifier": Change(0.06)}, "noise_level=0.06 falls on the last of 10 steps"),
        (lambda: Toy(steps=1), {}, "take more steps"),
        (lambda: Toy(steps=2), {"verifier": brightness, "judges": [Change()]}, "nearest to one of 1, or more steps"),
        (Toy, {"draft_steps": 2, "nfe": 60, "candidates": None}, "falls on the last of 2 steps"),
        (Toy, {"verifier": Change(1.4)}, "noise_level 1.4; set it to a number between 0"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_spent(sampler, options, message):
    made = sampler()
    with pytest.raises(ValueError, match=message):
        found(made, **options)
    assert made.denoiser_rows == made.decoded == 0
