"""The command `noise-search replay`, as users run it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
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
        (["{folder}", "--out", "{folder}/best.png/x.png"], ["can't be written"]),
        (["{folder}", "--verifier", "clpi"], ["unknown verifier 'clpi'", "clip"]),
        (["{folder}", "--dtype", "float31"], ["unknown dtype 'float31'"]),
        (["{folder}", "--prompt", " "], ["prompt=' '"]),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(folder, tmp_path, arguments, words):
    arguments = [a.format(folder=folder) for a in arguments]
    done = run(*arguments, *([] if "--out" in arguments else ["--out", tmp_path / "x.png"]))
    assert done.exit_code == 2 and done.stdout == "" and "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("noise-search: ") and all(word in line for word in words), line
