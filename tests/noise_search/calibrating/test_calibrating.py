"""`calibrate`: on models whose answer is known, and what its result is good for."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from noise_search import Calibration, CalibrationResult, Halving, RandomSearch, SeedPrior, calibrate, compare
from noise_search.algorithms.base import Job, Terms
from noise_search.calibrating.measuring import Scores, default_looks, default_moves
from noise_search.calibrating.statistics import calibration, rank_correlation, rises, slopes
from noise_search.cli.app import app
from noise_search.engine.recorded import bare_space
from noise_search.resolve import read_calibrations
from tiny.search import CountingSampler, brightness, contrast, toy_search
from verifiers.base import FunctionVerifier, Verifier

PROMPTS = ["a", "a dog", "two grey cats"]
KEY = FunctionVerifier(brightness).key


class Whole(CountingSampler):
    """Only runs whole."""

    can_stop = False
    limitation = "it has no steps"


def measured(sampler=None, verifier=brightness, **options):
    asked = {"prompts": PROMPTS, "noises": 8, "progress": False}
    return calibrate(sampler or CountingSampler(), verifier, **asked | options)


SD = 0.2


def gaussian(x, alpha, sigma, prompts):
    """The posterior mean where images are white noise of standard deviation `SD`."""
    return _share(alpha, sigma) * x


def _share(alpha, sigma):
    return alpha * SD**2 / (alpha**2 * SD**2 + sigma**2)


def test_a_linear_model_is_told_from_its_first_look():
    # Every step is linear, so that brightness keeps its order from the first prediction that knows anything.
    moves = ["neighbour 0.8", "branch 6"]
    sampler = CountingSampler(fn=gaussian)
    (found,) = measured(sampler, noises=32, moved=32, looks=[2, 4, 7], moves=moves)
    assert found.correlations == pytest.approx({2: 1, 4: 1, 7: 1}) and found.errors == pytest.approx({2: 0, 4: 0, 7: 0})
    (alpha, sigma), (after, left) = (((one / 8), 1 - one / 8) for one in (6, 7))
    told = after * _share(alpha, sigma)  # what the branch's only step takes over, beside the noise that it drops
    dropped = left * (1 - alpha * _share(alpha, sigma)) / sigma
    assert found.slopes == pytest.approx({"neighbour 0.8": 0.8, "branch 6": told / (told + dropped)}, abs=0.15)
    assert found.rises[8] == pytest.approx(1.766 - 1.424, abs=0.08)  # of a Gaussian's order statistics
    begun = Halving().shape(Terms(bare_space(8), 8 * 8, calibration=found)).rows[0]
    assert begun > 8 and found.worth[8] * 8 == pytest.approx(begun, rel=0.15)  # it finds the best of all that begin


def test_correlations_rise_towards_the_end():
    (found,) = measured(CountingSampler(steps=10), noises=16, moves=[])
    told = [found.correlations[at] for at in sorted(found.correlations)]
    assert found.correlations.keys() <= set(range(1, 10)) and told[0] < 0.9 < 0.97 < told[-1] < 1
    assert all(0 < found.errors[at] < 0.3 for at in found.correlations)
    assert found.first_above(0.9) is not None and found.spread > 0 and not found.slopes


def test_it_takes_what_was_said(capsys):
    sampler = CountingSampler(steps=10)
    found = measured(sampler, [brightness, contrast], moved=3, progress=True)
    said = capsys.readouterr().err
    each = 8 * 10 + 3 * (10 + 8 + 6)
    assert f"{each} NFE for each of 3 prompts, calibration: noises 8, steps 10, looks after 1 2 3 4 5 6 7 8 9" in said
    assert "moves of 3 neighbour 0.95 and branch 2 and branch 4" in said
    assert found.nfe == sampler.rows == 3 * each and found.looks == 3 * 8 * 9
    assert [one.verifier.split("@")[0] for one in found] == ["brightness", "contrast"]
    assert all((one.nfe, one.prompts, one.noises, one.steps) == (3 * each, 3, 8, 10) for one in found)
    assert found[0].correlations != found[1].correlations


def test_of_the_same_seed_it_is_the_same_and_prompts_share_no_noises():
    once, again, other = (measured(seed=seed, looks=[4], moves=[])[0] for seed in (3, 3, 4))
    assert once == again and once.correlations != other.correlations


def test_of_a_model_that_runs_whole_spread_and_rises_are_measured():
    found = measured(Whole())
    assert not found[0].correlations and not found.looks and found[0].slopes.keys() == {"neighbour 0.95"}
    assert found[0].spread > 0 and found[0].rises.keys() == {1, 2, 4} and not found[0].worth
    assert "0 looks" in str(found)
    with pytest.raises(ValueError, match="nothing was looked at on the way"):
        found.plot()


@dataclass(eq=False)
class Change(Verifier):
    """Minus the mean change from an x0 prediction to the finished image."""

    name: str = "change"
    version: str = "1"
    noise_level: float = 0.5
    needs = frozenset({"x0"})

    def score(self, images, prompts, *, x0):
        return -(images - x0).abs().mean((1, 2, 3))


def test_under_a_verifier_that_needs_finished_images_nothing_is_looked_at():
    (found,) = measured(verifier=Change(), noises=4, moved=2)
    assert not found.correlations and found.slopes.keys() == {"neighbour 0.95"} and found.spread > 0
    with pytest.raises(ValueError, match=r"looks at \[3\]: change needs finished images; leave them out"):
        measured(verifier=Change(), looks=[3])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sampler": Whole(), "looks": [3]}, r"looks at \[3\]: Whole only runs whole \(it has no steps\); leave them"),
        ({"sampler": Whole(), "moves": ["branch 3"]}, r"branches at \[3\]: Whole only runs whole"),
        ({"noises": 3}, "noises=3 must be at least 4"),
        ({"prompts": ["one"]}, "gives 1 prompt, and a calibration is a mean over at least 2"),
        ({"prompts": PROMPTS, "limit": 1}, "gives 1 prompt"),
        ({"verifier": "clpi"}, "unknown verifier 'clpi'; did you mean 'clip'"),
        ({"looks": [8]}, "looks=8 is off the way: give grid points from 1 to 7 of 8 steps"),
        ({"looks": [0]}, "looks=0 must be at least 1"),
        ({"moves": ["branch 8"]}, "branches=8 is off the way"),
        ({"moves": ["jump 3"]}, "move 'jump 3' must be 'neighbour COSINE' or 'branch POINT'"),
        ({"moves": ["neighbour 1.5"]}, "cosine of a neighbour=1.5 must be between -1 and 1"),
        ({"moved": 0}, "moved=0 must be at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(options, match):
    sampler = options.get("sampler") or CountingSampler()
    with pytest.raises(ValueError, match=match):
        measured(**{"sampler": sampler, **options})
    assert sampler.rows == 0


def test_a_search_takes_it_and_its_file(tmp_path):
    sampler = CountingSampler()
    found = measured(sampler, [brightness, contrast])
    file = found.save(tmp_path / "made" / "calibration.json")
    assert read_calibrations(file) == tuple(found) == found.calibrations and isinstance(found, CalibrationResult)
    for given in (found, found[0], file, str(file)):
        result = toy_search(sampler, algorithm=Halving(), nfe=64, calibration=given)
        assert Calibration.from_json(result.settings["calibration"]) == replace(found[0], scores=())
    both = toy_search(sampler, algorithm=Halving(), nfe=64, calibration=found, verifier=[brightness, contrast])
    assert Calibration.from_json(both.settings["calibration"]) == Calibration.joint(found)
    with pytest.raises(ValueError, match=r"calibration is of model .*, 8 steps, .* 9 steps"):
        toy_search(CountingSampler(steps=9), algorithm=Halving(), nfe=64, calibration=found)
    with pytest.raises(ValueError, match=f"8 steps, {contrast.__name__}.*and this search .* {KEY}: calibrate"):
        toy_search(sampler, algorithm=Halving(), nfe=64, calibration=found[1])


@dataclass(frozen=True)
class Asks:
    """Random search that remembers what it may know."""

    told: list
    name: ClassVar[str] = "asks"
    whole_calls: ClassVar[bool] = True

    def plan(self, problem):
        self.told.append(problem.calibration)
        yield Job(problem.fresh(2), problem.space.end)


def test_a_comparison_searches_with_it_and_goes_on_with_it_alone(tmp_path):
    sampler, told = CountingSampler(), []
    found = measured(sampler, noises=4, moves=[])
    asked = {"model": sampler, "algorithms": {"asks": Asks(told)}, "verifier": brightness, "candidates": 2}
    asked |= {"prompts": PROMPTS[:2], "out": tmp_path / "out", "diagnosed": 0, "progress": False}
    table = compare(calibration=found, **asked)
    assert table.settings["calibration"] == found[0].to_json(scores=False) and told == [found[0], found[0]]
    with pytest.raises(ValueError, match="was made with another calibration"):
        compare(**asked)
    with pytest.raises(ValueError, match="calibration is of model"):
        compare(calibration=found, **asked | {"model": CountingSampler(steps=9), "out": None})


def test_a_file_keeps_the_calibrations_of_others_and_what_is_none(tmp_path):
    file = tmp_path / "calibration.json"
    longer = measured(CountingSampler(steps=9), noises=4, moves=[])
    longer.save(file)
    measured(noises=4, moves=[]).save(file)
    again = measured(noises=5, moves=[])
    again.save(file)
    assert read_calibrations(file) == (*longer, *again)
    file.write_text('{"a": "letter"}')
    with pytest.raises(ValueError, match=r"holds no calibrations .* give another file, or overwrite=True"):
        again.save(file)
    assert file.read_text() == '{"a": "letter"}'
    again.save(file, overwrite=True)
    assert read_calibrations(file) == tuple(again)
    json.loads(file.read_text(), parse_constant=pytest.fail)  # no NaN in it


@pytest.mark.parametrize("wrong", [{"correlations": 5}, {"version": "new"}, {"scores": 3}, {"errors": [1]}])
def test_a_damaged_file_is_refused_by_its_name(wrong, tmp_path):
    file = tmp_path / "damaged.json"
    file.write_text(json.dumps({"model": "m", "verifier": "v", "steps": 4, "correlations": {}, **wrong}))
    with pytest.raises(ValueError, match=r"damaged.json can't be read as a calibration"):
        toy_search(nfe=24, calibration=file)


def test_a_picture_shows_each_verifier_and_where_halving_begins_to_trust():
    found = measured(verifier=[brightness, contrast])
    axes = found.plot().axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [one.verifier for one in found]
    assert {line.get_ydata()[0] for line in axes.get_lines()} >= {Halving.TRUSTED, Halving.SURE}
    told = str(found)
    assert repr(found) == told and "<pre>" in found._repr_html_() and "3 prompts of 8 noises" in told
    assert "slope of neighbour 0.95" in told and "gain from 4 to 8, in sd" in told


def test_statistics_leave_out_what_failed_and_what_is_constant():
    line, nan = np.arange(5.0), np.nan
    assert rank_correlation(line, np.exp(line)) == pytest.approx(1)
    assert rank_correlation(line, np.array([4, 3, nan, 1, 0])) == pytest.approx(-1)
    assert np.isnan(rank_correlation(line, np.ones(5))) and np.isnan(rank_correlation(line[:2], line[:2]))
    final = np.array([[0.0, 1, 2, 3], [nan, 10, 30, 20], [5, 5, 5, 5], [nan] * 4])
    half = np.array([[0.75, 1.25], [nan, 15], [5, 5], [nan, nan]])  # half of what the parents are above the mean
    scores = Scores(final, {2: final * 2}, {"neighbour 0.5": half})
    assert slopes(scores) == pytest.approx({"neighbour 0.5": 0.5})
    assert rises(np.array([[0.0, 1, 2, 3]]))[2] == pytest.approx((3 - 7 / 3) / np.std([0, 1, 2, 3], ddof=1))
    found = calibration(scores, "model", FunctionVerifier(brightness), 4, 16)
    assert found.correlations == pytest.approx({2: 1.0}) and found.errors == pytest.approx({2: 0.0})
    empty = calibration(Scores(final[3:], {2: final[3:]}, {}), "model", FunctionVerifier(brightness), 4, 16)
    assert not empty.correlations and not empty.slopes and np.isnan(empty.spread) and not empty.worth
    assert Calibration.from_json(json.loads(json.dumps(empty.to_json()))).correlations == {}


def test_the_usual_looks_and_moves():
    assert (
        default_looks(4) == (1, 2, 3)
        and default_looks(1) == ()
        and [str(one) for one in default_moves(1)] == ["neighbour 0.95"]
    )
    assert default_looks(50)[0] == 5 and default_looks(50)[-1] == 49 and len(default_looks(50)) == 10
    assert [str(one) for one in default_moves(20)] == ["neighbour 0.95", "branch 4", "branch 8"]


def test_the_command_measures_and_generate_takes_its_file(tmp_path):
    file, plot = tmp_path / "calibration.json", tmp_path / "calibration.png"
    few = ["--limit", "2", "--noises", "4", "--steps", "4", "--looks", "2,3", "--moved", "1", "--move", "branch 2"]
    asked = ["calibrate", *few, "--out", str(file), "--plot", str(plot), "--format", "json"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["nfe"] == 2 * (4 * 4 + 2) and told["looks"] == 2 * 4 * 2 and told["model"] == "shapes-flow"
    assert [one.to_json() for one in read_calibrations(file)] == told["calibrations"]
    assert plot.read_bytes().startswith(b"\x89PNG") and told["files"] == {"calibration": str(file), "plot": str(plot)}

    generate = ["generate", "a red circle", "--candidates", "2", "--judge", "none", "--calibration", str(file)]
    generate += ["--no-baseline", "--out", str(tmp_path / "out"), "--format", "json"]
    result = CliRunner().invoke(app, [*generate, "--steps", "4"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    settings = json.loads(result.stdout)["settings"]
    assert settings["baseline"] is False and settings["calibration"] == read_calibrations(file)[0].to_json(scores=False)


@pytest.mark.parametrize(
    ("typed", "match"),
    [
        (["--prompts", "no/such.txt"], "no file of prompts at 'no/such.txt'"),
        (["--plot", "plot.jpg"], "plot 'plot.jpg' must end in .png"),
        (["--looks", "many"], "looks 'many' must be whole numbers with commas between, such as 4,6,8"),
        (["--verifier", "clpi"], "unknown verifier 'clpi'; did you mean 'clip'"),
        (["--noises", "2"], "noises=2 must be at least 4"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(typed, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["calibrate", *typed])
    assert done.exit_code == 2 and match in done.stderr and done.stderr.count("\n") == 1


def test_the_command_replaces_nothing_that_is_no_calibration(tmp_path):
    file = tmp_path / "notes.json"
    file.write_text("[1]")
    done = CliRunner().invoke(app, ["calibrate", "--out", str(file)])
    assert done.exit_code == 2 and "holds no calibrations" in done.stderr and file.read_text() == "[1]"


def foretold(scores, **more):
    return Calibration("model", "verifier@1", 4, {}, scores=scores, **more)


def test_the_chance_of_a_target_is_that_of_the_beta_distribution():
    # Of one score, which reaches the target: n candidates miss it with B(3/2, 1/2 + n) / B(3/2, 1/2).
    for chance in (0.5, 0.8, 0.95):
        n = foretold([(1.0,)]).candidates_for(0.0, chance)
        p = (np.arange(1_000_000) + 0.5) / 1_000_000
        density = np.sqrt(p / (1 - p))
        reached = [1 - np.average((1 - p) ** count, weights=density) for count in (n - 1, n)]
        assert reached[0] < chance + 1e-3 and reached[1] >= chance - 1e-3


def test_candidates_of_known_prompts_reach_a_target_as_often_as_foretold():
    rng = np.random.default_rng(0)

    def draw(count):
        return rng.normal(rng.normal(0, 1, (400, 1)), 1, (400, count))

    known = foretold(tuple(map(tuple, draw(32))))
    for target in (0.5, 1.0, 2.0):
        n = known.candidates_for(target)
        assert np.mean(draw(n).max(1) >= target) == pytest.approx(0.8, abs=0.05)


def test_what_no_budget_reaches_and_what_isn_t_known():
    assert foretold([(0.0,) * 32] * 9).candidates_for(1.0) == np.inf
    assert np.isnan(foretold(()).candidates_for(1.0)) and np.isnan(foretold([(1.0,)]).trajectories_for(8))
    assert foretold([(1.0,)], worth={4: 1.5, 8: 2.0}).trajectories_for(16) == 8
    assert foretold([(1.0,)], worth={4: 1.5, 8: 2.0}).trajectories_for(9) == 6
    assert foretold([(1.0,)], worth={4: 1.5}).trajectories_for(np.inf) == np.inf


def test_scores_are_kept_and_older_files_have_none():
    (found,) = measured(noises=8)
    assert [len(row) for row in found.scores] == [8] * 3
    assert np.mean([np.std(row, ddof=1) for row in found.scores]) == pytest.approx(found.spread, rel=1e-3)
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found
    older = found.to_json(scores=False)
    assert "scores" not in older and Calibration.from_json(older).scores == ()


@pytest.mark.parametrize("algorithm", ["random", "halving"])
def test_a_target_s_budget_is_foretold_and_checked(algorithm, capfd):
    sampler = CountingSampler()
    known = measured(sampler, noises=32, looks=[2, 4, 6])
    target = float(np.quantile(known[0].scores, 0.4))
    result = toy_search(sampler, "a dog", algorithm=algorithm, candidates=16, calibration=known, target_score=target)
    told, count = result.prediction, known[0].candidates_for(target)
    count = known[0].trajectories_for(count) if algorithm == "halving" else count
    assert told["nfe"] == 8 * count and told["chance"] == 0.8
    assert told["reached"] == (result.score >= target)
    reaching = [c.nfe for c in result.candidates if c.finished and c.score >= target]
    assert told["taken"] == (min(reaching) if reaching else None)
    assert result.to_json()["prediction"] == told and "scores" not in result.settings["calibration"]
    toy_search(sampler, "a dog", algorithm=algorithm, candidates=16, calibration=known, target_score=9, progress=True)
    assert "target 9 takes more NFE with a chance of 80% than the calibration can tell" in capfd.readouterr().err


def test_nothing_is_foretold_where_nothing_is_known():
    sampler = CountingSampler()
    known = measured(sampler, noises=8)
    asked = {"calibration": known, "candidates": 4}
    assert toy_search(sampler, **asked).prediction is None
    assert toy_search(sampler, **asked, algorithm="zero-order", target_score=1.0).prediction is None
    assert toy_search(sampler, candidates=4, target_score=1.0).prediction is None
    found = {"random": RandomSearch(), "halving": Halving(), "other rungs": Halving(rungs=(0.25,), keep=0.2)}
    told = {name: toy_search(sampler, **asked, algorithm=one, target_score=0.0) for name, one in found.items()}
    assert {name for name, one in told.items() if one.prediction is not None} == {"random", "halving"}
    chosen = SeedPrior(known[0].model, known[0].verifier, known[0].steps, {7: 1.0}, 12, 0.9)
    assert toy_search(sampler, **asked, algorithm="random", target_score=0.0, prior=chosen).prediction is None
