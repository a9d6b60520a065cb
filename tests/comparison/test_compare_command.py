"""The command `noise-search compare`, on an embedded model."""

import csv
import json
import shlex
import sys

import pytest
from typer.testing import CliRunner

from noise_search.cli import app


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
    assert "about" in ended.stderr and "Comparison(4 records" in ended.stdout


def test_its_report_shows_the_command(compared):
    out, _ = compared
    given = ["--prompts", "two yellow stars", "--candidates", "1,2", "--seeds", "2"]
    shown = json.loads((out / "settings.json").read_text(encoding="utf-8"))["command"]
    assert set(given) <= set(shlex.split(shown)) and shlex.split(shown)[:2] == ["noise-search", "compare"]
    assert "&#x27;two yellow stars&#x27;" in (out / "report.html").read_text(encoding="utf-8")


def test_what_is_there_is_not_run_again(patch, compared):
    out, _ = compared
    before = (out / "records.jsonl").read_bytes()
    ended = command(patch, out, "--candidates", "1,2", "--seeds", "2")
    assert ended.exit_code == 0 and (out / "records.jsonl").read_bytes() == before and "about" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--candidates", "four"], "candidates 'four'"),
        (["--candidates", "0"], "0"),
        (["--budgets", "2"], "2"),
        (["--algorithms", "randon"], "did you mean"),
        (["--judges", "orcale"], "did you mean"),
        (["--steps", "5", "--candidates", "1"], "another"),
    ],
)
def test_bad_input_ends_in_one_line(patch, compared, options, said):
    ended = command(patch, compared[0], *options)
    assert ended.exit_code not in (0, None) and said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
