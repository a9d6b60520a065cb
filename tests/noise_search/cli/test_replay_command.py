"""The command `noise-search replay`, as users run it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from noise_search import ZeroOrderSearch, replay, search
from noise_search.cli.app import app
from noise_search.shapes import EMBEDDED_MODELS
from tiny.command import PROMPT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved search whose candidates are neighbours of neighbours."""
    where = tmp_path_factory.mktemp("run")
    options = {"candidates": 7, "steps": 3, "progress": False}
    search(PROMPT, algorithm=ZeroOrderSearch(neighbours=2, literal=True), **options).save(where)
    return where


def run(*arguments):
    done = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def test_another_process_draws_the_same_bytes(folder, tmp_path):
    content = json.loads((folder / "result.json").read_text())
    chosen = content["candidates"][-1]
    assert len([op for op in chosen["recipe"] if op["op"] == "neighbour"]) >= 2
    command = [sys.executable, "-c", "from noise_search.cli.app import main; main()", "replay", str(folder)]
    options = ["--candidate", str(chosen["id"]), "--out", str(tmp_path / "x.png"), "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    there, here = json.loads(done.stdout), replay(folder, candidate=chosen["id"], progress=False)
    assert there["noise_sha256"] == here.noise_sha256 and there["noise"] == "bit for bit"
    assert there["recipe"] == chosen["recipe"] and there["nfe"] == 3
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), here.pixels)
    assert "replaying" in done.stderr and "3 NFE" in done.stderr


def test_all_that_is_known_is_printed_and_the_picture_written(folder, tmp_path):
    out = tmp_path / "new" / "again.png"
    done = run(folder / "best.png", "--out", out, "--verifier", "clip,oracle")
    assert done.exit_code == 0
    for word in (
        PROMPT,
        "noise of seed",
        "cosine 0.95",
        "3 NFE",
        "bit for bit",
        "the picture given",
        "clip@",
        "oracle@",
    ):
        assert word in done.stdout, word
    assert str(out) in done.stdout and replay(out, progress=False).difference == 0


def test_a_model_by_another_name_will_do(folder, tmp_path):
    done = run(folder, "--model", EMBEDDED_MODELS["shapes-flow"], "--out", tmp_path / "x.png")
    assert done.exit_code == 0 and "best.png" in done.stdout


def test_a_record_of_sizes_without_end_gets_one_line_and_exit_code_2(folder, tmp_path):
    content = json.loads((folder / "result.json").read_text())
    content["settings"]["model"]["options"] |= {"num_inference_steps": 5 * 10**7, "height": 10**6}
    (tmp_path / "result.json").write_text(json.dumps(content))
    done = run(tmp_path, "--out", tmp_path / "x.png")
    assert done.exit_code == 2 and done.stdout == "" and not (tmp_path / "x.png").exists()
    (line,) = done.stderr.strip().splitlines()
    assert "result.json' has 1000000 for height; expected at most 16384" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{folder}/best.png", "--model", "shapes-ddim"], ["another model", "FluxPipeline recorded"]),
        (["{folder}/curve.png"], ["curve.png' carries no recipe", "best.png"]),
        (["{folder}", "--candidate", "99"], ["no candidate 99"]),
        (["{folder}/nothing.png"], ["nothing.png' can't be read"]),
        (["{folder}", "--out", "{folder}/x.jpg"], ["x.jpg' must end in .png"]),
        (["{folder}", "--out", "{folder}/best.png/x.png"], ["is a file; expected a directory"]),
        (["{folder}", "--verifier", "clpi"], ["unknown verifier 'clpi'", "clip"]),
        (["{folder}", "--dtype", "float31"], ["unknown dtype 'float31'"]),
        (["{folder}", "--prompt", " "], ["prompt=' '"]),
        (["{folder}", "--out", "{folder}/best.png"], ["best.png' is there already", "--overwrite"]),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(folder, tmp_path, arguments, words):
    arguments = [a.format(folder=folder) for a in arguments]
    done = run(*arguments, *([] if "--out" in arguments else ["--out", tmp_path / "x.png"]))
    assert done.exit_code == 2 and done.stdout == "" and "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("noise-search: ") and all(word in line for word in words), line


def with_record(file, copy, change):
    """A copy of a PNG whose record was edited."""
    with Image.open(file) as image:
        record = json.loads(image.text["noise_search"])
        change(record)
        info = PngInfo()
        info.add_itxt("noise_search", json.dumps(record))
        image.save(copy, pnginfo=info)
    return copy


def test_a_picture_that_is_not_what_was_promised_ends_with_1(folder, tmp_path):
    def reseed(record):
        record["recipe"][0]["seed"] += 1

    other, out = with_record(folder / "best.png", tmp_path / "other.png", reseed), tmp_path / "x.png"
    done = run(other, "--out", out, "--format", "json")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("noise-search: ")]
    told = json.loads(done.stdout)
    levels = round(255 * told["difference"])
    assert done.exit_code == 1 and levels > 1 and told["promised"] == 1 / 255
    assert f"differs from the picture given by {levels} of 255 levels, and at most 1 was promised" in line
    again = run(other, "--out", out, "--overwrite", "--dtype", "bfloat16")
    assert again.exit_code == 0 and "recorded in float32" in again.stdout, "no promise is made of another dtype"
    assert run(folder / "best.png", "--out", out, "--overwrite").exit_code == 0


def test_of_several_copies_the_one_that_counts_is_named(folder, tmp_path):
    there = shutil.copytree(folder, tmp_path / "run")
    out, best, key = (
        tmp_path / "x.png",
        there / "best.png",
        next(iter(replay(folder).settings["verifier"]["verifiers"])),
    )
    key = f"{key['name']}@{key['version']}"
    assert "best.png" not in run(best, "--out", out).stdout

    def change(part, value):
        with_record(folder / "best.png", best, lambda record: record[part].update(value))
        return run(best, "--out", out, "--overwrite", "--verifier", "clip"), run(there, "--out", out, "--overwrite")

    of_picture, of_result = change("scores", {key: 9.5})
    number = json.loads((there / "result.json").read_text())["best"]["id"]
    assert f"candidate {number} is as best.png has it: result.json has other scores" in of_picture.stdout
    assert ", 9.5000 recorded" in of_picture.stdout and of_picture.exit_code == 0
    assert (
        f"candidate {number} is as the candidates of result.json have it: best.png has other scores" in of_result.stdout
    )
    assert "differs nowhere" in of_result.stdout

    content = json.loads((folder / "result.json").read_text())
    content["candidates"][number]["recipe"][0]["seed"] += 1
    (there / "result.json").write_text(json.dumps(content))
    shutil.copy(folder / "best.png", best)
    done = run(there, "--out", out, "--overwrite")
    assert "'best' there has another recipe" in done.stdout
    assert "best.png has another recipe, and isn't compared" in done.stdout and "differs" not in done.stdout
    assert "best.png has it: result.json has another recipe" in run(best, "--out", out, "--overwrite").stdout
