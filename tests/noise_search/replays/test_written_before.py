"""What version 0.1.0 wrote, in `tests/data/version-0.1.0`: still read, made again, and gone on with."""

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noise_search import Comparison, compare, replay
from noise_search.shapes.oracle import Oracle

BEFORE = Path(__file__).parents[2] / "data" / "version-0.1.0"
LEVEL = 1.001 / 255
"""Images agree within 1e-4, which may still round to the next of 255 levels."""
RESULT = json.loads((BEFORE / "search" / "result.json").read_text(encoding="utf-8"))
RELATION, STARS = "a red circle to the left of a blue square", "two yellow stars"


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def recipe(again):
    return [dict(operation) for operation in again.recipe.operations]


def is_as_promised(again, file):
    """Compare the picture by the replay's own word and by the pixels, and the noise by the environment."""
    assert again.difference <= LEVEL and np.abs(again.pixels - pixels(file)).max() <= 1
    assert again.noise == "bit for bit" or again.environment


@pytest.mark.parametrize(
    ("name", "prompt", "operations"),
    [
        ("search/best.png", RELATION, ["fresh", "neighbour", "run"]),
        ("search/top/02.png", RELATION, ["fresh", "neighbour", "run"]),
        ("winner.png", STARS, ["fresh", "run", "renoise", "run"]),
    ],
)
def test_a_picture_is_made_again_from_the_recipe_inside(name, prompt, operations):
    again = replay(BEFORE / name, progress=False)
    is_as_promised(again, BEFORE / name)
    assert again.prompt == prompt and [operation["op"] for operation in recipe(again)] == operations


def test_pictures_of_a_comparison_are_made_again():
    for file in sorted((BEFORE / "comparison" / "images").glob("*-16-0.png")):
        is_as_promised(replay(file, progress=False), file)


def test_the_best_of_a_result_and_its_picture_are_found():
    again = replay(BEFORE / "search", progress=False)
    is_as_promised(again, BEFORE / "search" / "best.png")
    assert again.candidate == RESULT["best"]["id"] and recipe(again) == RESULT["best"]["recipe"]


@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_candidate_of_a_result_is_made_again_and_scores_what_it_scored(at):
    one = RESULT["candidates"][at]
    again = replay(BEFORE / "search" / "result.json", candidate=one["id"], verifier="clip", progress=False)
    assert again.candidate == one["id"] and recipe(again) == one["recipe"] and again.nfe == 8
    assert dict(again.scores) == pytest.approx(one["scores"], abs=1e-3)


def test_verifiers_score_a_winner_as_they_did():
    again = replay(BEFORE / "winner.png", verifier=["clip", "aesthetic"], progress=False)
    with Image.open(BEFORE / "winner.png") as picture:
        told = json.loads(picture.info["noise_search"])
    assert dict(again.scores) == pytest.approx(told["scores"], abs=1e-3)


def test_the_command_makes_a_winner_again(monkeypatch, tmp_path, capsys):
    from noise_search.cli.app import main

    out = tmp_path / "again.png"
    monkeypatch.setattr(sys, "argv", ["noise-search", "replay", str(BEFORE / "winner.png"), "--out", str(out)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and STARS in capsys.readouterr().out
    assert np.abs(pixels(out) - pixels(BEFORE / "winner.png")).max() <= 1


@pytest.fixture
def copied(tmp_path):
    """A copy whose judge is the oracle of today: another one's verdicts go on with nothing."""
    directory = Path(shutil.copytree(BEFORE / "comparison", tmp_path / "comparison"))
    settings = json.loads((directory / "settings.json").read_text(encoding="utf-8"))
    for judge in settings["judges"]:
        judge["version"] = Oracle.version
    (directory / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def lines(directory, kind):
    """The lines of a kind in a comparison's file, as they were written: when all prompts had the same noises."""
    written = (directory / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**line, "offset": 0} for line in map(json.loads, written) if line.pop("kind") == kind]


def plain(found):
    """Records or pools as their lines are."""
    return [json.loads(json.dumps(asdict(one))) for one in found]


def go_on(directory, **more):
    given = {"algorithms": ["random", "zero-order"], "candidates": (2, 4), "judges": ["oracle"], "seeds": 1, "steps": 4}
    return compare([RELATION, STARS], out=directory, progress=False, **given | more)


def test_a_comparison_is_read_as_it_was_written():
    found = Comparison.read(BEFORE / "comparison")
    assert found.complete and found.directory == BEFORE / "comparison"
    assert plain(found.records) == lines(found.directory, "record") and len(found.records) == 2 * 2 * 2
    assert plain(found.pools) == lines(found.directory, "pool") and len(found.pools) == 2
    for word in ("random", "zero-order", "clip", "oracle"):
        assert word in str(found), word


def test_a_complete_comparison_runs_nothing(copied):
    found = go_on(copied)
    assert (copied / "records.jsonl").read_bytes() == (BEFORE / "comparison" / "records.jsonl").read_bytes()
    assert found.complete and plain(found.records) == lines(BEFORE / "comparison", "record")
    assert str(found) == str(Comparison.read(BEFORE / "comparison"))


def test_a_comparison_by_another_oracle_is_read_and_does_not_go_on(tmp_path):
    directory = shutil.copytree(BEFORE / "comparison", tmp_path / "comparison")
    with pytest.raises(ValueError, match="oracle"):
        go_on(directory, seeds=2)


@pytest.mark.parametrize(("more", "count"), [({"seeds": 2}, 16), ({"candidates": (2, 4, 6)}, 12)])
def test_a_comparison_goes_on_and_keeps_what_it_has(copied, more, count):
    found = go_on(copied, diagnosed=0, **more)
    before = (BEFORE / "comparison" / "records.jsonl").read_text(encoding="utf-8")
    assert (copied / "records.jsonl").read_text(encoding="utf-8").startswith(before)
    assert found.complete and len(found.records) == count
    kept, old = plain(found.records), lines(BEFORE / "comparison", "record")
    assert all(one in kept for one in old) and all(word in str(found) for word in ("random", "zero-order", "oracle"))
