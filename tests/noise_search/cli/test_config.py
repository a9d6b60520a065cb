"""Options in files: read, printed, and those of a run."""

import json
import tomllib

import pytest
from typer.testing import CliRunner

from noise_search import ZeroOrderSearch, load, search
from noise_search.cli.app import app
from tiny.command import PROMPT
from tiny.search import brightness

SMALL = ["--steps", "2", "--candidates", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def printed(*arguments):
    done = run(*arguments, "--print-config")
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*arguments):
    done = run(*arguments)
    assert done.exit_code == 2 and done.stdout == "", done.output
    return done.stderr.strip().splitlines()[-1].removeprefix("noise-search: ")


ASKED = [
    *(PROMPT, "two \"yellow\" stars, \\ and 'more' 🦊", "--algorithm", "zero-order", "--option", "neighbours=3"),
    *("--option", "cosine=0.9", "--verifier", "clip,jpeg", "--verifier-option", "jpeg.quality=50", "--seed", "7"),
    *(
        "--guidance",
        "2.5",
        "--no-baseline",
        "--deterministic",
        "--draft-steps",
        "3",
        "--calibration",
        "some where.json",
    ),
    *("--lora", "ink.safetensors:0.5", "--time-limit", "1e3", "--format", "json", "--out", "runs/x", *SMALL),
]


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", *ASKED],
        ["generate"],
        ["compare", "--budgets", "80,320", "--algorithms", "random,climb", "--pictured", "0", "--dtype", "bfloat16"],
        ["calibrate", "shapes-ddim", "--move", "branch 4", "--move", "neighbour 0.9", "--overwrite"],
    ],
)
def test_what_is_printed_is_read_as_the_same(arguments, folder):
    text = printed(*arguments)
    (folder / "c.toml").write_text(text, encoding="utf-8")
    assert printed(arguments[0], "--config", "c.toml") == text
    assert not (folder / "runs").exists(), "nothing is done"


def test_a_printed_file_holds_what_was_given():
    found = tomllib.loads(printed("generate", *ASKED))
    assert found["prompt"] == [PROMPT, "two \"yellow\" stars, \\ and 'more' 🦊"]
    assert found["option"] == ["neighbours=3", "cosine=0.9"] and found["guidance"] == 2.5
    assert found["baseline"] is False and found["seed"] == 7 and "nfe" not in found and found["format"] == "json"


def test_the_line_goes_before_the_file(folder):
    (folder / "c.toml").write_text(f'prompt = "{PROMPT}"\nnfe = 640\nseed = 3\ndraft_steps = 2\nguidance = 3\n')
    found = tomllib.loads(printed("generate", "two yellow stars", "--config", "c.toml", "--candidates", "4"))
    assert found["prompt"] == ["two yellow stars"] and "nfe" not in found and found["candidates"] == 4
    assert found["seed"] == 3 and found["draft-steps"] == "2" and found["guidance"] == 3.0
    found = tomllib.loads(printed("generate", "--config", "c.toml", "--prompts", "shapes", "--seed", "0"))
    assert "prompt" not in found and found["prompts"] == "shapes" and found["seed"] == 0 and found["nfe"] == 640


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("candidats = 3", "unknown option in 'c.toml' 'candidats'; did you mean 'candidates'?"),
        ("candidates = 2.5", "candidates in 'c.toml' is 2.5; expected a whole number"),
        ("candidates = true", "candidates in 'c.toml' is True; expected a whole number"),
        ("guidance = 'high'", "guidance in 'c.toml' is 'high'; expected a number"),
        ("baseline = 1", "baseline in 'c.toml' is 1; expected true or false"),
        ("format = 'yaml'", "format in 'c.toml' is 'yaml'; expected human or json"),
        ("out = 3", "out in 'c.toml' is 3; expected a path"),
        ("candidates = ", "'c.toml' is no TOML: "),
        ("[generate]\nnfe = 3", "unknown option in 'c.toml' 'generate'"),
        (None, "no options at 'c.toml': expected a TOML file or the directory of a run"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(folder, content, said):
    if content is not None:
        (folder / "c.toml").write_text(content)
    assert refused("generate", PROMPT, "--config", "c.toml").startswith(said)
    assert not (folder / "runs").exists()


def test_a_file_asks_for_the_search_that_the_line_asks_for(folder):
    line = [PROMPT, *SMALL, "--verifier", "jpeg", "--verifier-option", "jpeg.quality=50", "--judge", "none"]
    (folder / "c.toml").write_text(printed("generate", *line))
    for arguments in (line, ["--config", "c.toml"]):
        assert run("generate", *arguments).exit_code == 0
    one, other = load("runs/0001"), load("runs/0002")
    assert one.to_json()["candidates"] == other.to_json()["candidates"]


def test_a_run_gives_its_options_back(folder):
    line = [PROMPT, *SMALL, "--algorithm", "zero-order", "--option", "neighbours=2", "--guidance", "2", "--seed", "5"]
    line += ["--verifier", "clip,jpeg", "--verifier-option", "jpeg.quality=50", "--keep-images", "bests"]
    assert run("generate", *line).exit_code == 0
    again = run("generate", "--config", "runs/0001", "--out", "runs/0001")
    assert again.exit_code == 0 and "which goes on: 2 evaluations needn't be made again" in again.stderr, again.output
    more = run("generate", "--config", "runs/0001", "--candidates", "3", "--out", "runs/0001")
    assert more.exit_code == 0 and load("runs/0001").ledger.nfe == 6, more.output


def test_a_run_of_python_gives_its_options_too(folder):
    kept = {"run": folder / "run", "progress": False, "candidates": 2, "steps": 2, "judges": ["oracle"]}
    search([PROMPT], algorithm=ZeroOrderSearch(neighbours=3), model_options={"sigmas": None}, **kept)
    found = tomllib.loads(printed("generate", "--config", "run"))
    assert found["prompt"] == [PROMPT] and found["judge"] == "oracle" and found["nfe"] == 4
    assert found["algorithm"] == "zero-order" and found["option"] == ["neighbours=3"]
    assert found["model-option"] == ["sigmas=null"]
    edit_call(folder / "run", compile=True)
    assert tomllib.loads(printed("generate", "--config", "run"))["compile"] == "whole"


def edit_call(run, **more):
    content = json.loads((run / "run.json").read_text())
    content["call"] |= more
    (run / "run.json").write_text(json.dumps(content))


def test_a_run_of_a_stranger_says_nothing_of_where_and_what_is_written(folder):
    search(PROMPT, run=folder / "run", progress=False, candidates=1, steps=2)
    plain = printed("generate", "--config", "run")
    edit_call(folder / "run", workers="ray://elsewhere:1", overwrite=True, out="theirs", format="json", quiet=True)
    edit_call(folder / "run", config="theirs.toml", log="tensorboard", prompts="theirs.txt", repeat=99)
    assert printed("generate", "--config", "run") == plain


def test_a_run_that_no_options_can_ask_for_says_so(folder):
    kept = {"progress": False, "candidates": 1, "steps": 2}
    search(PROMPT, verifier=brightness, run=folder / "own", **kept)
    assert "was searched with verifier (a " in refused("generate", "--config", "own")
    search([PROMPT, "two yellow stars"], seed=[0, 9], run=folder / "two", **kept)
    assert "'two' is one search of 2 prompts, which no options say" in refused("generate", "--config", "two")
    search([PROMPT], algorithm="random", share="difficulty", run=folder / "shared", **kept)
    assert "was searched with share='difficulty', which no option" in refused("generate", "--config", "shared")
    (folder / "empty").mkdir()
    assert "'empty' holds no run (it has no run.json)" in refused("generate", "--config", "empty")
    assert json.loads((folder / "own" / "run.json").read_text())["prompts"] == [PROMPT]
