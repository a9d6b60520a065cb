"""Several searches by one command, their sheet and table, and sheets of runs."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from noise_search import load
from noise_search.cli.app import app
from noise_search.cli.telling import summary
from noise_search.engine import driver
from noise_search.engine.crew import WorkersFailed
from noise_search.engine.worker import SearchOutOfMemory
from tiny.command import PROMPT
from tiny.search import contrast, toy_search
from verifiers.base import VerifierUnusable

STARS = "two yellow stars"
SMALL = ["--steps", "2", "--candidates", "2", "--judge", "none"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, **how):
    return CliRunner().invoke(app, [str(one) for one in arguments], **how)


def table(batch):
    with (batch / "table.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_prompts_and_repeats_are_runs_with_one_sheet_and_table(folder):
    done = run("generate", PROMPT, STARS, *SMALL, "--repeat", "2")
    assert done.exit_code == 0, done.output
    batch = folder / "runs" / "0001"
    names = ["0001", "0001-2", "0002", "0002-2"]
    assert sorted(one.name for one in batch.iterdir()) == [*names, "sheet.png", "table.csv"]
    found = [load(batch / name) for name in names]
    assert [one.prompt for one in found] == [PROMPT, PROMPT, STARS, STARS]
    assert [one.settings["seed"] for one in found] == [0, 1000, 0, 1000]
    rows = table(batch)
    assert [(row["run"], row["prompt"], float(row["score"])) for row in rows] == [
        (name, one.prompt, pytest.approx(one.score)) for name, one in zip(names, found, strict=True)
    ]
    assert [int(row["best_seed"]) for row in rows] == [one.best.seed for one in found]
    with Image.open(batch / "sheet.png") as sheet:
        assert sheet.width > 2 * 256 and np.asarray(sheet).std() > 1
    assert all(len(line) <= 80 for line in done.stdout.splitlines()) and "16 of 16 NFE, 8 candidates" in done.stdout
    assert "4 of 4: two yellow stars" in done.stderr


def test_a_batch_goes_on_and_grows(folder):
    assert run("generate", PROMPT, STARS, *SMALL, "--out", "b").exit_code == 0
    before = (folder / "b" / "0001" / "evaluations.jsonl").read_bytes()
    done = run("generate", PROMPT, STARS, "a red circle", *SMALL, "--repeat", "2", "--out", "b")
    assert done.exit_code == 0 and done.stderr.count("which goes on: 2 evaluations") == 2, done.output
    assert before in (folder / "b" / "0001" / "evaluations.jsonl").read_bytes()
    assert [row["run"] for row in table(folder / "b")] == ["0001", "0001-2", "0002", "0002-2", "0003", "0003-2"]
    other = run("generate", STARS, PROMPT, *SMALL, "--out", "b")
    assert other.exit_code == 2 and "holds another search: prompts[0] is" in other.stderr


def test_prompts_come_from_standard_input_files_and_sets(folder):
    done = run("generate", "-", *SMALL, "--out", "in", "--quiet", input=f"{PROMPT}\n\n  {STARS}\n")
    assert done.exit_code == 0 and done.stderr == "", done.output
    assert done.stdout.split() == ["in/0001/best.png", "in/0002/best.png"]
    (folder / "mine.txt").write_text(f"{STARS}\n{PROMPT}\na red circle\n")
    done = run("generate", "--prompts", "mine.txt", "--limit", "1", *SMALL, "--format", "json")
    told = json.loads(done.stdout)
    assert len(told["results"]) == 1 and set(told["files"]) == {"table", "sheet"}
    assert told["results"][0]["files"]["best"] == "runs/0001/0001/best.png"
    done = run("generate", PROMPT, "--prompts", "shapes", "--limit", "2", "--print-config")
    assert done.exit_code == 0 and "limit = 2" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no prompt was given: say what the image should show"),
        (["--prompts", "missing.txt"], "no file of prompts at 'missing.txt'"),
        (["--prompts", "shapse"], "unknown prompt set 'shapse'"),
        ([PROMPT, STARS, "--algorithm", "zero"], "unknown algorithm 'zero'"),
        ([PROMPT, STARS, "--nfe", "1"], "nfe=1 is below one trajectory"),
        ([PROMPT, STARS, "--log", "wandbb"], "unknown log 'wandbb'; did you mean 'wandb'?"),
    ],
)
def test_what_is_refused_is_one_line_and_takes_no_number(folder, arguments, said):
    done = run("generate", *arguments, "--steps", "2")
    assert done.exit_code == 2 and said in done.stderr.splitlines()[-1], done.output
    assert not list(folder.glob("runs/*"))


def test_a_batch_is_not_put_where_something_else_is(folder):
    assert run("generate", PROMPT, *SMALL, "--out", "one").exit_code == 0
    assert "'one' holds a single search" in run("generate", PROMPT, STARS, *SMALL, "--out", "one").stderr
    (folder / "mine").mkdir()
    (folder / "mine" / "table.csv").write_text("of the user")
    done = run("generate", PROMPT, STARS, *SMALL, "--out", "mine")
    assert done.exit_code == 2 and "table.csv in 'mine' was written by no search" in done.stderr
    assert (folder / "mine" / "table.csv").read_text() == "of the user"


def test_one_that_fails_or_is_interrupted_ends_with_what_there_is(folder, monkeypatch):
    asked = driver.search

    failures = {
        STARS: ValueError("no room\nfor stars"),
        "stop": KeyboardInterrupt(),
        "workers": WorkersFailed("no worker is left"),
        "large": SearchOutOfMemory("out of memory"),
        "mute": VerifierUnusable("no answer"),
        "mistake": ZeroDivisionError("one of ours"),
    }

    def broken(prompt, **options):
        if prompt in failures:
            raise failures[prompt]
        return asked(prompt, **options)

    monkeypatch.setattr(driver, "search", broken)
    prompts = [PROMPT, STARS, "workers", "large", "mute", "a red circle", "stop", "never"]
    done = run("generate", *prompts, *SMALL, "--out", "b")
    assert done.exit_code == 130 and [row["prompt"] for row in table(folder / "b")] == [PROMPT, "a red circle"]
    assert "b/0002: no room for stars" in done.stderr and "interrupted: 2 of 8 searches are left" in done.stderr
    for said in ("b/0003: no worker is left", "b/0004: out of memory", "b/0005: no answer"):
        assert said in done.stderr
    mistaken = run("generate", PROMPT, "mistake", *SMALL, "--out", "m")
    assert mistaken.exception is failures["mistake"]
    alone = run("generate", "workers", *SMALL, "--out", "w")
    assert alone.exit_code == 1 and alone.stderr.splitlines()[-1] == "noise-search: no worker is left"
    done = run("generate", STARS, PROMPT, *SMALL, "--out", "c")
    assert done.exit_code == 2 and "no room for stars" in done.stderr and not list((folder / "c").glob("*"))


def test_a_batch_that_is_interrupted_in_a_search_tells_of_it_without_judges(folder, monkeypatch):
    asked = driver.search

    def stop(candidate):
        raise KeyboardInterrupt

    def interrupted(prompt, **options):
        return asked(prompt, **options | ({"on_candidate": stop, "batch_size": 1} if prompt == STARS else {}))

    monkeypatch.setattr(driver, "search", interrupted)
    done = run("generate", PROMPT, STARS, "never", *SMALL[:-1], "oracle", "--out", "b")
    assert done.exit_code == 130, done.output
    assert re.search(rf"0002 .*  -  +{STARS}", done.stdout) and "oracle" in done.stdout
    assert [bool(row["judge:oracle"]) for row in table(folder / "b")] == [True, False]


def test_runs_of_batches_are_listed_found_and_laid_out(folder):
    assert run("generate", PROMPT, STARS, *SMALL).exit_code == 0
    assert run("generate", PROMPT, *SMALL, "--algorithm", "zero-order").exit_code == 0
    listed = run("runs", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["run", "0001/0001", "0001/0002", "0002"]
    assert all(len(line) <= 80 for line in listed.splitlines())
    assert f"prompt   {STARS}" in run("runs", "show", "1/2").stdout
    done = run("runs", "sheet", "1", "2")
    assert done.exit_code == 0 and done.stdout == "sheet    sheet.png (3 searches)\n"
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 12 + 2 * (256 + 12)
    assert "is there already" in run("runs", "sheet", "2").stderr
    assert run("runs", "sheet", "2", "--width", "64", "--rows", "seed", "--out", "one.png").exit_code == 0
    assert (
        "unknown rows 'sede'; did you mean 'seed'"
        in run("runs", "sheet", "1", "--rows", "sede", "--out", "x.png").stderr
    )


def test_what_is_said_of_a_search_fits_80_columns_and_names_no_hashes():
    result = toy_search(prompt="a prompt that is long " * 9, candidates=3, judges=[contrast])
    said = summary(result, result.save("somewhere"))
    assert all(len(line) <= 80 for line in said.splitlines()) and "@" not in said
    for word in ("prompt   a prompt", "score    ", "one sample", "judge    contrast", "cost     24 of 24 NFE, 3 cand"):
        assert word in said, said
    assert re.search(r"run      somewhere\nfiles    result.json, best.png, top.png, curve.png$", said)


def test_a_shell_completes_commands_and_options():
    def completed(words, at):
        more = {"_NOISE_SEARCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        code = "import sys; sys.argv = ['noise-search']; from noise_search.cli.app import main; main()"
        done = subprocess.run([sys.executable, "-c", code], env=os.environ | more, capture_output=True, text=True)
        return done.stdout.split()

    assert {"generate", "runs"} <= set(completed("noise-search ", 1))
    assert completed("noise-search generate --draft-s", 2) == ["--draft-steps"]
