"""Options of algorithms and verifiers as people type them."""

import json

import pytest
from typer.testing import CliRunner

from noise_search import RandomSearch, SearchOverPaths, ZeroOrderSearch, search
from noise_search.cli.app import app
from noise_search.cli.options import assignment, configured_algorithm, configured_verifiers, judge_names
from noise_search.resolve import Named
from tiny.command import PROMPT
from tiny.command import run as command
from tiny.search import toy_search


def test_options_of_an_algorithm_become_the_object():
    assert configured_algorithm("random", []) == RandomSearch()
    typed = ["neighbours=8", "cosine=0.9", "patience=none"]
    assert configured_algorithm("zero-order", typed) == ZeroOrderSearch(neighbours=8, cosine=0.9)
    assert configured_algorithm("paths", ["rounds=2", "literal=False"]) == SearchOverPaths(rounds=2)


@pytest.mark.parametrize(
    ("name", "typed", "match"),
    [
        ("zero-ordr", [], "unknown algorithm 'zero-ordr'; did you mean 'zero-order'"),
        (
            "zero-order",
            ["neighbors=8"],
            "unknown option of algorithm 'zero-order': 'neighbors'; did you mean 'neighbours'",
        ),
        ("zero-order", ["neighbours"], "option 'neighbours' has no value"),
        ("zero-order", ["neighbours=many"], "neighbours='many' must be a whole number"),
        ("random", ["n=3"], "unknown option of algorithm 'random':"),
        ("paths", ["start=2"], "start=2 must be between 0 and 1"),
    ],
)
def test_options_of_an_algorithm_that_are_wrong_are_named(name, typed, match):
    with pytest.raises((ValueError, TypeError), match=match):
        configured_algorithm(name, typed)


def test_the_command_says_how_the_budget_was_spent(tmp_path):
    done = command(
        *("generate", PROMPT, "--algorithm", "paths", "--option", "paths=1", "--nfe", "30", "--steps", "5"),
        *("--out", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "1 path to noise level 0.6, up to 0.8 and down to 0.4" in done.stdout
    drafts = ("--draft-steps", "2", "--out", str(tmp_path / "drafts"))
    wrong = command("generate", PROMPT, "--algorithm", "paths", *drafts)
    assert wrong.returncode == 2 and "stops at grid points inside trajectories" in wrong.stderr.splitlines()[-1]
    cached = ("--draft-steps", "0,5,10", "--nfe", "120", "--out", str(tmp_path / "cached"))
    assert "of 3 steps" in command("generate", PROMPT, "--algorithm", "random", *cached).stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=3", 3),
        ("a=0.5", 0.5),
        ("a=True", True),
        ("a=none", None),
        ("a=", ""),
        ("a=ViT-B-32", "ViT-B-32"),
        ('a=["Is there {}?"]', ["Is there {}?"]),
        ("a=x=y", "x=y"),
    ],
)
def test_values_are_json_or_text(text, value):
    assert assignment(text, "a=1") == ("a", value)


def test_options_go_to_their_verifier():
    [scoring, judges] = configured_verifiers(["clip.output=cosine", "vlm.pixels=784"], ["clip", "aesthetic"], ["vlm"])
    assert scoring == [Named("clip", {"output": "cosine"}), Named("aesthetic")]
    assert judges == [Named("vlm", {"pixels": 784})]
    assert configured_verifiers(["output=cosine"], ["clip"], ["oracle"])[0] == [Named("clip", {"output": "cosine"})]


def test_an_embedded_model_is_judged_by_the_oracle_unless_that_is_searched_by():
    assert judge_names(None, "shapes-flow", ["clip"]) == ["oracle"]
    assert judge_names(None, "shapes-flow", ["clip", "oracle"]) == judge_names(None, "other", ["clip"]) == []
    assert judge_names("oracle", "shapes-flow", ["oracle"]) == ["oracle"]  # asked for, and refused by the search


def test_what_an_option_takes_as_text_stays_as_it_is_typed():
    typed = ["clip.revision=123456e7", "hps.version=2.0", "vlm.question=5", "clip.revision=none", "other.x=5"]
    [found] = configured_verifiers(typed, ["clip", "hps", "vlm", "other"])
    assert found[0].options == {"revision": None} and found[1].options == {"version": 2.0}
    assert found[2].options == {"question": "5"} and found[3].options == {"x": 5}
    [found] = configured_verifiers(["revision=123456e7"], ["shapes-clip"])
    assert found[0].options == {"revision": "123456e7"}


@pytest.mark.parametrize(
    ("typed", "names", "match"),
    [
        (["output"], ["clip"], "option 'output' has no value; write it as NAME=VALUE, such as clip.output=cosine"),
        (["output=logit"], ["clip", "vlm"], "option 'output=logit' doesn't say of which verifier"),
        (["clop.output=logit"], ["clip", "vlm"], "unknown verifier in option 'clop'; did you mean 'clip'"),
        (["output=logit"], [], "doesn't say of which verifier"),
    ],
)
def test_options_of_a_verifier_that_are_wrong_are_named(typed, names, match):
    with pytest.raises(ValueError, match=match):
        configured_verifiers(typed, names)


def test_an_option_changes_what_the_model_declares_and_nothing_else():
    found = search(PROMPT, verifier=Named("clip", {"output": "cosine"}), candidates=2, steps=2, progress=False)
    plain = search(PROMPT, verifier="clip", candidates=2, steps=2, progress=False)
    [cosine], [score] = (set(one.best.scores) for one in (found, plain))
    assert cosine == score.replace("/2.5", "/cos")
    assert found.best.scores[cosine] * 2.5 == pytest.approx(plain.best.scores[score], abs=1e-6)


def test_the_commands_take_options(tmp_path):
    small = ("--candidates", "2", "--steps", "2", "--format", "json", "--out", str(tmp_path))
    options = ("--verifier", "clip,jpeg", "--verifier-option", "jpeg.reward=incompressibility")
    done = command("generate", PROMPT, *small, *options)
    assert done.returncode == 0, done.stderr
    assert any(key.startswith("jpeg@incompressibility/") for key in json.loads(done.stdout)["best"]["scores"])
    scored = command("score", str(tmp_path / "best.png"), "--verifier", "jpeg", "--verifier-option", "quality=50")
    assert scored.returncode == 0, scored.stderr
    for arguments, word in [
        (("score", str(tmp_path / "best.png"), "--verifier", "jpeg", "--verifier-option", "qualty=50"), "qualty"),
        (("generate", PROMPT, *small, "--overwrite", "--verifier-option", "oracle.strict=1"), "strict"),
    ]:
        refused = command(*arguments)
        assert refused.returncode == 2 and word in refused.stderr and "Traceback" not in refused.stderr


def test_runs_are_numbered_and_never_replaced_unasked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    small = ["generate", PROMPT, "--candidates", "1", "--steps", "2"]
    assert runner.invoke(app, [*small, "--algorithm", "zero"]).exit_code == 2
    assert not list(tmp_path.glob("runs/*")), "what was refused takes no number"
    for number in ("0001", "0002"):
        done = runner.invoke(app, small)
        assert done.exit_code == 0, done.output
        assert (tmp_path / "runs" / number / "best.png").exists()
    more = [*small, "--seed", "1", "--out", "runs/0001"]
    refused = runner.invoke(app, more)
    assert refused.exit_code == 2 and "seeds[0] is 1 here, 0 recorded: give another directory" in refused.output
    assert runner.invoke(app, [*more, "--overwrite"]).exit_code == 0


def test_a_judge_of_pairs_is_no_verifier_of_a_search():
    with pytest.raises(ValueError, match="'judge' with mode='pairs' scores no image by itself"):
        toy_search(candidates=2, verifier=Named("judge", {"mode": "pairs"}))
