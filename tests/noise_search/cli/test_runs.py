"""`noise-search runs`, and `generate` into directories of runs, as users run them."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from noise_search import compare, load
from noise_search.cli.app import app
from noise_search.disk.export import portable
from noise_search.engine.run import Run
from noise_search.resolve import CALIBRATIONS
from tiny.command import COMMAND, PROMPT
from tiny.pipelines import tiny
from tiny.search import brightness

SMALL = ["--steps", "2", "--batch-size", "2"]
ASKED = ["generate", PROMPT, *SMALL, "--candidates", "4"]


def run(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def refused(*arguments):
    """The one line by which a command refuses."""
    done = run(*arguments)
    assert done.exit_code == 2 and done.stdout == "", done.output
    return done.stderr.strip().splitlines()[-1].removeprefix("noise-search: ")


def told(*arguments):
    done = run(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def lines(directory):
    return [json.loads(one) for one in (directory / "evaluations.jsonl").read_text().splitlines()]


def evaluated(directory):
    return [one for one in lines(directory) if "nfe" in one]


def contents(directory):
    return {one: one.read_bytes() for one in directory.rglob("*") if one.is_file() and one.name != ".lock"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs of 4 candidates: one that is complete, one that was interrupted, one that was killed."""
    folder = tmp_path_factory.mktemp("made")
    assert run(*ASKED, "--out", folder / "complete").exit_code == 0
    interrupted(folder / "interrupted")
    shutil.copytree(folder / "complete", folder / "killed")
    file = folder / "killed" / "evaluations.jsonl"
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:2]) + whole[2][:30])
    return folder


@pytest.fixture
def made(folder):
    """A run that is complete."""
    return folder / "complete"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(folder, tmp_path):
    """Runs 0001, complete; 0002, killed after half of it; 0010, interrupted then; and what is no run."""
    there = tmp_path / "runs"
    for number, state in {"0001": "complete", "0002": "killed", "0010": "interrupted"}.items():
        shutil.copytree(folder / state, there / number)
    (there / "notes").mkdir()
    (there / "notes.txt").write_text("of the user")
    return there


def interrupted(directory, *more):
    """Ctrl-C in the first micro-batch."""
    commit = Run.commit

    def once(journal, outcomes):
        commit(journal, outcomes)
        Run.commit = commit
        signal.raise_signal(signal.SIGINT)

    Run.commit = once
    try:
        done = run(*ASKED, "--out", directory, *more)
    finally:
        Run.commit = commit
    assert done.exit_code == 130 and "ended    interrupted" in done.stdout


def test_runs_are_listed_with_how_far_they_are(runs):
    (runs / "0003").mkdir()
    (runs / "0003" / "run.json").write_text("{")
    done = run("runs", "list")
    head, *rows = [re.split(r"  +", one.strip()) for one in done.stdout.splitlines()]
    assert head == ["run", "state", "algorithm", "NFE", "best", "age", "prompt"]
    assert [row[:4] for row in rows] == [
        ["0001", "complete", "random", "8 of 8"],
        ["0002", "killed", "random", "4 of 8"],
        ["0003", "damaged", "-", "-"],
        ["0010", "interrupted", "random", "4 of 8"],
    ]
    whole = [one for one in done.stdout.splitlines()[1:] if not one.startswith("0003")]
    assert all(len(one) <= 80 for one in whole) and done.exit_code == 0
    shown = [row[-1].removesuffix("...") for row in rows if row[0] != "0003"]
    assert all(PROMPT.startswith(one) and len(one) >= 13 for one in shown)
    assert "run.json' is no JSON" in rows[2][-1]


def test_a_list_as_json_has_numbers(runs):
    found = {one["run"]: one for one in told("runs", "list", runs)["runs"]}
    assert [*found] == ["0001", "0002", "0010"]
    assert found["0001"]["spent"] == found["0001"]["budget"] == 8 and found["0002"]["spent"] == 4
    assert found["0001"]["best"] == load(runs / "0001").score >= found["0002"]["best"]
    assert all(0 <= one["age"] < 3600 and one["prompt"] == PROMPT for one in found.values())


def test_where_there_are_none_it_is_said(tmp_path):
    assert refused("runs", "list") == "'runs' isn't there; expected a directory of runs"
    assert run("runs", "list", tmp_path).stdout == f"no runs in '{tmp_path}'\n"
    assert told("runs", "list", tmp_path) == {"runs": []}
    assert refused("runs", "show", "latest") == "there are no runs in 'runs'"


@pytest.mark.parametrize(
    ("which", "state", "words"),
    [
        ("1", "runs/0001, complete", ["8 of 8 NFE", "ended    budget spent", "mean of 4 judged"]),
        ("2", "runs/0002, killed", ["4 of 8 NFE", "ended    it was killed, or still runs"]),
        ("0010", "runs/0010, interrupted", ["4 of 8 NFE", "ended    interrupted"]),
        ("latest", "runs/0010, interrupted", []),
        ("runs/0002", "runs/0002, killed", []),
    ],
)
def test_a_run_is_shown_without_its_model(runs, monkeypatch, which, state, words):
    monkeypatch.setattr("noise_search.models.load_model", None)
    before = contents(runs)
    done = run("runs", "show", which)
    assert done.exit_code == 0 and contents(runs) == before, "showing changes nothing"
    for word in (f"run      {state}\n", "disk     ", f"prompt   {PROMPT}", "score    ", "plan     ", *words):
        assert word in done.stdout, (word, done.stdout)


def test_a_directory_that_is_called_as_a_number_comes_first(runs, made):
    shutil.copytree(made, "2")
    assert "2, complete" in run("runs", "show", "2").stdout


def test_what_is_shown_as_json_is_the_result(runs):
    found = told("runs", "show", "1")
    assert found["state"] == "complete" and found["run"] == "runs/0001"
    assert found["results"] == [json.loads(json.dumps(load("runs/0001").to_json()))]
    on_disk = sum(one.stat().st_size for one in (runs / "0001" / "images").iterdir())
    assert found["bytes"]["images"] == on_disk and found["bytes"]["states"] == 0
    assert found["bytes"]["lines"] == (runs / "0001" / "evaluations.jsonl").stat().st_size
    assert sum(found["bytes"].values()) == sum(
        one.stat().st_size for one in (runs / "0001").rglob("*") if one.is_file()
    )


@pytest.mark.parametrize("which", ["1", "2", "latest"])
def test_a_run_goes_on_to_a_larger_budget_as_if_it_had_had_it_at_once(runs, which, tmp_path):
    assert run("generate", PROMPT, *SMALL, "--candidates", "6", "--out", tmp_path / "whole").exit_code == 0
    directory = {"1": runs / "0001", "2": runs / "0002", "latest": runs / "0010"}[which]
    before = lines_so_far(directory)
    known = {"1": 4, "2": 2, "latest": 2}[which]
    done = run("runs", "resume", which, "--nfe", 12)
    assert done.exit_code == 0, done.output
    assert f"{known} evaluations needn't be made again" in done.stderr and "12 of 12 NFE" in done.stdout
    after = evaluated(directory)
    assert after[:known] == before and len(after) == 6, "nothing is computed twice"
    assert len({one["key"] for one in after}) == 6
    here, there = load(directory), load(tmp_path / "whole")
    assert [one.recipe for one in here.candidates] == [one.recipe for one in there.candidates]
    assert [one.score for one in here.candidates] == pytest.approx([one.score for one in there.candidates], abs=1e-4)
    assert here.ledger.nfe == 12 and here.ledger.nfe_waste == 0
    assert json.loads((directory / "result.json").read_text())["nfe"]["spent"] == 12


def test_a_run_that_is_over_runs_nothing_again(runs, monkeypatch):
    before = lines(runs / "0001")
    monkeypatch.setattr("noise_search.engine.worker.LocalWorker.run", None)
    for command in (["runs", "resume", "1"], [*ASKED, "--out", "runs/0001"]):
        done = run(*command)
        assert done.exit_code == 0, done.output
        assert "run runs/0001, which goes on: 4 evaluations needn't be made again" in done.stderr
    assert evaluated(runs / "0001") == [one for one in before if "nfe" in one]


def test_failed_candidates_are_run_again_when_that_is_asked_for(runs, made):
    directory = runs / "0001"
    (directory / "evaluations.jsonl").unlink()
    (directory / "run.json").unlink()
    calls = []

    def failing(verifier, images, prompts, **needs):
        calls.append(len(images))
        raise RuntimeError("no score today")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("verifiers.clip.CLIPScore.score", failing)
        first = run(*ASKED[:-1], "2", "--out", directory, "--overwrite")
    assert first.exit_code == 1 and "no score today" in first.stderr and calls
    failed = evaluated(directory)
    assert [one["failure"] is None for one in failed] == [False, False]
    kept = run("runs", "resume", "1")
    assert kept.exit_code == 1 and evaluated(directory) == failed
    assert "ended    " in run("runs", "show", "1").stdout
    again = run("runs", "resume", "1", "--retry-failed")
    assert again.exit_code == 0, again.output
    assert [one["failure"] for one in evaluated(directory)[2:]] == [None, None]
    assert [one.failure for one in load(directory).candidates] == [None, None]


def test_a_run_that_still_runs_is_seen_and_left_alone_and_goes_on_when_it_was_killed(tmp_path):
    directory = tmp_path / "runs" / "0001"
    options = ["--candidates", "100000", *SMALL]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*COMMAND, "generate", PROMPT, *options], stderr=subprocess.DEVNULL, env=environment)
    try:
        while not (directory / "evaluations.jsonl").exists() or len(lines_so_far(directory)) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        [row] = told("runs", "list")["runs"]
        assert row["state"] == "running" and row["budget"] == 200000 and row["spent"] >= 4
        assert told("runs", "show", 1)["state"] == "running"
        for command in (["generate", PROMPT, *options, "--out", directory], ["runs", "resume", "1"]):
            assert f"is being written to by process {process.pid} on " in refused(*command)
    finally:
        process.kill()
        process.wait()
    assert told("runs", "list")["runs"][0]["state"] == "killed"
    known = len({one["id"] for one in lines_so_far(directory)})
    done = run("runs", "resume", "latest", "--nfe", 2 * known + 2)
    assert done.exit_code == 0 and f"{known} evaluations needn't" in done.stderr, done.output
    assert load(directory).ledger.nfe == 2 * known + 2 and told("runs", "list")["runs"][0]["state"] == "complete"


def lines_so_far(directory):
    """Evaluations of a journal whose last line may be half."""
    whole = (directory / "evaluations.jsonl").read_text().split("\n")[:-1]
    return [one for one in map(json.loads, whole) if "nfe" in one]


def test_several_prompts_go_on_together(tmp_path):
    from noise_search import search

    search(["two yellow stars", "a red circle"], candidates=1, steps=2, progress=False, run=tmp_path / "runs" / "0001")
    done = run("runs", "resume", "1", "--nfe", "4")
    assert done.exit_code == 0 and "two yellow stars" in done.stdout and "a red circle" in done.stdout
    assert [one.ledger.nfe for one in load("runs/0001")] == [4, 4]
    assert [one["nfe"]["spent"] for one in told("runs", "resume", "1", "--nfe", "4")["results"]] == [4, 4]
    [row] = told("runs", "list")["runs"]
    assert row["prompt"] == "two yellow stars and 1 more" and row["spent"] == 8 and row["best"] is None


# archives


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A pipeline, a LoRA and a calibration whose paths nobody else should see."""
    folder = tmp_path_factory.mktemp("secret place")
    tiny("sd").save_pretrained(folder / "sd")
    of = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file({f"{of}.lora_A.weight": ones(2, 32), f"{of}.lora_B.weight": ones(32, 2)}, folder / "ink.safetensors")
    shutil.copy(CALIBRATIONS, folder / "known.json")
    Image.new("RGB", (16, 16), "red").save(folder / "photo.png")
    tiny("sd-image").save_pretrained(folder / "sd-image")
    return folder


def ones(*shape):
    import torch

    return torch.ones(shape)


def read(content, name):
    """The bytes of a member, and what is packed within: texts of pictures."""
    found = [name.encode(), content]
    if name.endswith(".png"):
        with Image.open(io.BytesIO(content)) as image:
            found += [str(one).encode() for one in image.info.values()]
    return b"\n".join(found)


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "{}/sd", "--verifier", "brightness"],
        ["--model", "{}/sd", "--verifier", "brightness", "--lora", "{}/ink.safetensors:0.5"],
        ["--model", "{}/sd-image", "--verifier", "brightness", "--image", "{}/photo.png"],
        ["--calibration", "{}/known.json", "--steps", "20", "--algorithm", "halving", "--candidates", "4"],
    ],
    ids=["model", "lora", "image", "calibration"],
)
def test_an_archive_says_nothing_of_this_machine_and_is_the_run(models, tmp_path, options):
    if "--lora" in options:
        pytest.importorskip("peft")
    asked = [one.format(models) for one in options]
    done = run("generate", PROMPT, "--steps", "4", "--candidates", "2", *asked)
    assert done.exit_code == 0, done.output
    there = contents(tmp_path / "runs")
    exported = run("runs", "export", "latest", "--to", "out/a.zip", "--states")
    assert exported.exit_code == 0, exported.output
    assert contents(tmp_path / "runs") == there
    with zipfile.ZipFile("out/a.zip") as archive:
        for name in archive.namelist():
            content = read(archive.read(name), name)
            assert str(models).encode() not in content and str(tmp_path).encode() not in content, name
            assert b"secret place" not in content and tempfile.gettempdir().encode() not in content, name
        archive.extractall("unpacked")
    assert any("secret place" in one.read_text() for one in (tmp_path / "runs").rglob("*.json")), "there was a path"
    before, after = load("runs/0001"), load("unpacked/0001")
    assert plain(after) == portable(plain(before))
    assert all(one.image == other.image for one, other in zip(before.candidates, after.candidates, strict=True))
    assert "complete" in run("runs", "show", "unpacked/0001").stdout


def test_an_archive_goes_on_where_its_model_lies_elsewhere(models, tmp_path):
    asked = ["--model", models / "sd", "--verifier", "brightness", *SMALL]
    assert run("generate", PROMPT, *asked, "--candidates", "2").exit_code == 0
    assert run("runs", "export", "1", "--to", "a.zip").exit_code == 0
    with zipfile.ZipFile("a.zip") as archive:
        archive.extractall("unpacked")
    shutil.copytree(models / "sd", "sd there")
    there = ["--model", "sd there", *asked[2:]]
    done = run("generate", PROMPT, *there, "--candidates", "4", "--out", "unpacked/0001")
    assert done.exit_code == 0 and "which goes on: 2 evaluations needn't be made again" in done.stderr, done.output
    again = load("unpacked/0001").resume(nfe=10, model=tiny("sd"), progress=False)
    assert again.ledger.nfe == 10 and len(evaluated(tmp_path / "unpacked" / "0001")) == 5


def plain(result):
    return json.loads(json.dumps(result.to_json()))


def test_an_archive_has_the_name_of_its_run_and_latents_when_they_are_asked_for(runs):
    done = run("runs", "export", "1")
    assert done.exit_code == 0 and re.match(r"archive  0001.zip \([\d.]+ kB, \d+ files\)", done.stdout)
    (runs / "0001" / "diary.txt").write_text("of the user")
    with zipfile.ZipFile("0001.zip") as archive:
        assert {"0001/run.json", "0001/evaluations.jsonl", "0001/result.json", "0001/best.png"} <= {*archive.namelist()}
        assert not [one for one in archive.namelist() if "diary" in one or "states" in one or ".lock" in one]
    assert refused("runs", "export", "1") == "'0001.zip' is there already: give another name"
    assert refused("runs", "export", "1", "--to", "a.tar") == "'a.tar' must end in .zip"


def test_latents_go_along_when_they_are_asked_for(tmp_path):
    halving = ["--algorithm", "halving", "--steps", "8", "--candidates", "4"]
    assert run("generate", PROMPT, *halving).exit_code == 0
    assert (
        run("runs", "export", "1", "--to", "a.zip").exit_code
        == run("runs", "export", "1", "--to", "b.zip", "--states").exit_code
        == 0
    )
    without, beside = (zipfile.ZipFile(f"{one}.zip").namelist() for one in "ab")
    assert {one for one in beside if one not in without} == {
        f"0001/states/{one.name}" for one in (tmp_path / "runs/0001/states").iterdir()
    }
    for name in "ab":
        with zipfile.ZipFile(f"{name}.zip") as archive:
            archive.extractall(name)
    scores = [one.score for one in load("runs/0001").candidates]
    assert [one.score for one in load("a/0001").candidates] == scores
    assert run("runs", "resume", "b/0001").exit_code == 0 and load("b/0001").ledger.nfe_waste == 0


# what is refused


@pytest.mark.parametrize("command", ["show", "resume", "export"])
def test_what_is_no_run_is_one_line(tmp_path, command):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    options = {"steps": 2, "candidates": [1], "diagnosed": 0, "verifier": brightness, "progress": False}
    compare(["a red circle"], algorithms=["random"], out=tmp_path / "compared", **options)
    for where in ("nowhere", "empty", "7", "file", "compared"):
        line = refused("runs", command, where)
        assert line.startswith(f"'{where}' is no run directory (it has no run.json); expected one that "), line
    assert not list(tmp_path.glob("*.zip"))


def test_a_comparison_holds_no_search(tmp_path):
    options = {"steps": 2, "candidates": [1], "diagnosed": 0, "verifier": brightness, "progress": False}
    compare(["a red circle"], algorithms=["random"], out=tmp_path / "compared", **options)
    before = contents(tmp_path)
    assert "holds a comparison (records.jsonl): give a new one" in refused(*ASKED, "--out", "compared")
    assert contents(tmp_path) == before
    assert run("runs", "list", tmp_path).stdout.startswith("no runs in ")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--steps", "3"], ["steps is 3 here, 2 recorded"]),
        (["--seed", "7"], ["seeds[0] is 7 here, 0 recorded"]),
        (["--algorithm", "zero-order"], ["algorithm.name is 'zero-order' here, "]),
        (["--verifier", "aesthetic"], ["verifier."]),
        (["--guidance", "2"], ["option true_cfg_scale is 2.0 here, 2.5 recorded"]),
        (["--no-baseline"], ["baseline is False here, True recorded"]),
        (
            ["--model", "shapes-ddim"],
            ["pipeline is StableDiffusionPipeline here, FluxPipeline recorded", "the weights of "],
        ),
        (["--deterministic"], ["deterministic is True here, False recorded"]),
    ],
)
def test_another_search_is_refused_with_what_differs(runs, more, words):
    before = contents(runs)
    line = refused(*ASKED, *more, "--out", "runs/0001")
    assert line.startswith("'runs/0001' holds another search: ") and contents(runs) == before
    assert line.endswith(
        ": give another directory, the same settings, or overwrite=True (--overwrite), which removes it"
    )
    assert all(word in line for word in words), line


def test_another_prompt_is_another_search(runs):
    line = refused("generate", "two yellow stars", *ASKED[2:], "--out", "runs/0001")
    assert f"prompts[0] is 'two yellow stars' here, '{PROMPT}' recorded" in line


@pytest.mark.parametrize(
    "more", [["--candidates", "6"], ["--batch-size", "3"], ["--top-k", "2"], ["--judge", "none"], ["--patience", "9"]]
)
def test_budget_batches_judges_and_limits_may_be_others(runs, more):
    done = run(*ASKED, *more, "--out", "runs/0001")
    assert done.exit_code == 0 and "which goes on: 4 evaluations needn't be made again" in done.stderr, done.output


def test_overwriting_removes_what_a_search_wrote_and_nothing_else(runs):
    directory = runs / "0001"
    (directory / "images" / "own.png").write_bytes(b"of the user")
    (directory / "diary.txt").write_text("of the user")
    before = contents(directory / "images")
    done = run("generate", "two yellow stars", *SMALL, "--candidates", "1", "--out", directory, "--overwrite")
    assert done.exit_code == 0 and "which goes on" not in done.stderr, done.output
    [row] = [one for one in told("runs", "list")["runs"] if one["run"] == "0001"]
    assert row["prompt"] == "two yellow stars" and row["spent"] == 2
    after = contents(directory / "images")
    assert len(before) == 5 and len(after) == 2
    assert after.items() & before.items() == {(directory / "images" / "own.png", b"of the user")}
    assert (directory / "diary.txt").read_text() == "of the user"


def test_what_is_refused_before_the_start_removes_nothing(runs):
    before = contents(runs)
    assert "unknown verifier" in refused(*ASKED, "--out", "runs/0001", "--overwrite", "--verifier", "clpi")
    assert "unknown keep_images 'none'" in refused(*ASKED, "--keep-images", "none")
    assert contents(runs) == before and {one.name for one in runs.iterdir() if one.is_dir()} == {
        "0001",
        "0002",
        "0010",
        "notes",
    }


def test_a_directory_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    line = refused(*ASKED, "--out", "mine")
    assert "holds 'thesis.txt', which no search wrote: give a new one" in line
    assert [one.name for one in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_one_line(runs):
    (runs / "0001" / "run.json").write_text("{")
    for command in (["runs", "show", "1"], ["runs", "resume", "1"], ["runs", "export", "1"]):
        assert "run.json' is no JSON" in refused(*command)
    for name in ("prompts", "settings", "nfe", "identity"):
        whole = json.loads((runs / "0002" / "run.json").read_text())
        (runs / "0001" / "run.json").write_text(json.dumps({one: whole[one] for one in whole if one != name}))
        assert "run.json' is no manifest of a search; give another directory" in refused("runs", "show", "1")
    assert json.loads(run("runs", "list", "--format", "json").stdout)["runs"][0]["state"] == "damaged"
    (runs / "0001" / "run.json").write_text('{"run_version": 9, "prompts": []}')
    assert "was written in version 9, and this noise-search reads up to 1: update it" in refused("runs", "show", "1")


def test_two_that_begin_at_once_get_two_numbers(tmp_path):
    command = [*COMMAND, *ASKED[:-1], "1", "--judge", "none"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    ends = [(one.communicate(timeout=120)[1], one.returncode) for one in both]
    assert [code for _, code in ends] == [0, 0], ends
    assert sorted(one.name for one in (tmp_path / "runs").iterdir()) == ["0001", "0002"]
    assert [one["state"] for one in told("runs", "list")["runs"]] == ["complete", "complete"]
    assert np.array_equal(*(np.asarray(Image.open(f"runs/000{one}/best.png")) for one in (1, 2)))
