"""The command `noise-search compare`, on an embedded model."""

import csv
import json
import shlex
import sys

import pytest
from typer.testing import CliRunner

from noise_search import RandomSearch, ZeroOrderSearch
from noise_search.cli.app import app
from noise_search.cli.options import configured_algorithms, many_or_these
from noise_search.comparison.comparison import Comparison


def command(monkeypatch, out, *options):
    given = ["compare", "--prompts", "two yellow stars", "--algorithms", "random", "--steps", "4", *options]
    monkeypatch.setattr(sys, "argv", ["noise-search", *given, "--out", str(out)])
    return CliRunner().invoke(app, sys.argv[1:])


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def compared(patch, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return out, command(patch, out, "--candidates", "1,2", "--seeds", "2")


def test_it_leaves_records_figures_and_a_report(compared):
    out, ended = compared
    assert ended.exit_code == 0, ended.output
    rows = list(csv.DictReader((out / "records.csv").open(encoding="utf-8")))
    assert [(row["budget"], row["seed"]) for row in rows] == [("4", "0"), ("8", "0"), ("4", "1000"), ("8", "1000")]
    assert all(float(row["judge:oracle"]) in (0, 1) for row in rows)
    assert {"score.png", "score.svg", "report.html"} <= {file.name for file in out.iterdir()}
    assert "16 NFE in 2 searches, at least 4 images for oracle to judge" in ended.stderr
    assert "Comparison(4 records" in ended.stdout


def test_its_report_shows_the_command(compared):
    out, _ = compared
    given = ["--prompts", "two yellow stars", "--candidates", "1,2", "--seeds", "2"]
    shown = json.loads((out / "settings.json").read_text(encoding="utf-8"))["command"]
    assert set(given) <= set(shlex.split(shown)) and shlex.split(shown)[:2] == ["noise-search", "compare"]
    assert "&#39;two yellow stars&#39;" in (out / "report.html").read_text(encoding="utf-8")


def test_what_is_there_is_not_run_again(patch, compared):
    out, _ = compared
    before = (out / "records.jsonl").read_bytes()
    ended = command(patch, out, "--candidates", "1,2", "--seeds", "2")
    assert ended.exit_code == 0 and (out / "records.jsonl").read_bytes() == before and "NFE in" not in ended.stderr


def test_options_and_seeds_go_to_the_comparison(patch, tmp_path):
    options = ["--algorithms", "random,zero-order", "--option", "zero-order.neighbours=2", "--seeds", "5,70"]
    options += ["--draft-steps", "2", "--draft-renders", "1", "--steps", "5", "--negative-prompt", "a red circle"]
    options += ["--height", "64", "--width", "64", "--pictured", "0", "--diagnosed", "0", "--verifier", "oracle"]
    ended = command(patch, tmp_path, *options, "--candidates", "4")
    assert ended.exit_code == 0, ended.output
    found = Comparison.read(tmp_path)
    assert found.seeds == (5, 70) and found.algorithms == ("random", "zero-order(neighbours=2)")
    assert found.settings["drafts"] == {"steps": 2, "renders": 1} and found.settings["steps"] == 5
    assert found.settings["asked"]["negative_prompt"] == "a red circle" and found.settings["asked"]["height"] == 64
    assert found.judges == ()  # the oracle is searched by, and so it is no judge by default
    assert not any(one.diagnosis for one in found.records)


def test_options_name_their_algorithm_where_there_are_several():
    assert configured_algorithms(["random", "zero-order"], ["neighbours=2", "zero-order.cosine=0.5"]) == [
        RandomSearch(), ZeroOrderSearch(neighbours=2, cosine=0.5)
    ]  # fmt: skip
    for text, match in (
        ("neighbours=2", "option 'neighbours=2' doesn't say of which algorithm; write it as NAME.neighbours=2"),
        ("zero-ordr.neighbours=2", "unknown algorithm in option 'zero-ordr'; did you mean 'zero-order'"),
        ("zero-order.neighbors=2", "unknown option of algorithm 'zero-order': 'neighbors'; did you mean 'neighbours'"),
        ("zero-order.neighbours", "has no value"),
    ):
        with pytest.raises(ValueError, match=match):
            configured_algorithms(["random", "zero-order", "paths"], [text])


def test_seeds_are_a_number_or_several():
    assert [many_or_these(one, "seeds") for one in ("3", "0,1000", "7,")] == [3, [0, 1000], [7]]
    with pytest.raises(ValueError, match="seeds 'two' must be whole numbers with commas between, such as 3, how many"):
        many_or_these("two", "seeds")


def test_an_early_interruption_ends_with_130_and_no_figures(monkeypatch, tmp_path, caplog):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("noise_search.comparison.running.search", interrupted)
    ended = command(monkeypatch, tmp_path, "--candidates", "1")
    assert ended.exit_code == 130 and ended.stdout == ""
    assert [one.getMessage() for one in caplog.records] == ["interrupted with 1 cell to go; nothing is done yet"]
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--candidates", "four"], "candidates 'four'"),
        (["--candidates", "0"], "candidates=0 must be at least 1, one trajectory of 4 steps"),
        (["--budgets", "0"], "budgets=0 must be at least 4, one trajectory of 4 steps"),
        (["--budgets", ","], "no budget was given; expected NFE such as 80 and 320"),
        (["--seeds", "0"], "seeds=0 must be at least 1"),
        (["--prompts", "nowhere.txt"], "no file of prompts at 'nowhere.txt'"),
        (["--verifier", "oracle", "--judges", "oracle"], "judge 'oracle' is a verifier of the search, too"),
        (["--algorithms", ""], "holds none"),
        (["--algorithms", "randon"], "did you mean"),
        (["--judges", "orcale"], "did you mean"),
        (["--steps", "5", "--candidates", "1"], "another"),
    ],
)
def test_bad_input_ends_in_one_line(patch, compared, options, said):
    ended = command(patch, compared[0], *options)
    assert ended.exit_code == 2 and said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
