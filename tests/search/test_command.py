"""The command, run as users run it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-c", "from noise_search.cli import main; main()"]
PROMPT = "a red circle to the left of a blue square"


def run(*arguments, cwd=None):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


def test_generate_prints_scores_and_writes_files(tmp_path):
    done = run("generate", PROMPT, "--nfe", "12", "--steps", "3", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    for word in ("score", "judge", "oracle", "12 of 12 NFE", "best.png", "result.json"):
        assert word in done.stdout
    assert "12 NFE: up to 4 candidates of 3 steps" in done.stderr
    assert {f.name for f in (tmp_path / "run").iterdir()} == {
        "best.png",
        "top",
        "top.png",
        "curve.png",
        "result.json",
    }


def test_json_goes_to_standard_output_alone(tmp_path):
    options = ["--candidates", "2", "--steps", "2", "--verifier", "clip,aesthetic", "--judge", "none"]
    done = run("generate", PROMPT, *options, "--format", "json", "--out", str(tmp_path))
    content = json.loads(done.stdout)
    assert content["nfe"]["spent"] == 4 and content["judges"] == {}
    assert len(content["best"]["scores"]) == 2 and content["files"]["best"].endswith("best.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "shapes-flwo"], ["unknown model 'shapes-flwo'", "shapes-flow"]),
        (["--verifier", "clpi"], ["unknown verifier 'clpi'", "clip"]),
        (["--algorithm", "randm"], ["unknown algorithm 'randm'", "random"]),
        (["--nfe", "0"], ["nfe=0", "nfe=20"]),
        (["--dtype", "float31"], ["unknown dtype 'float31'", "float32"]),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(tmp_path, arguments, words):
    done = run("generate", PROMPT, *arguments, "--out", str(tmp_path))
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert all(word in line for word in words), line


def test_a_judge_that_cannot_tell_says_so(tmp_path):
    done = run("generate", "a cat on a mat", "--candidates", "1", "--steps", "2", "--out", str(tmp_path))
    assert "can't tell (one sample)" in done.stdout and "nan" not in done.stdout


def test_an_empty_prompt_and_an_unwritable_directory_are_refused(tmp_path):
    assert run("generate", " ", "--out", str(tmp_path)).returncode == 2
    (tmp_path / "file").write_text("")
    done = run("generate", PROMPT, "--out", str(tmp_path / "file" / "x"))
    assert done.returncode == 2 and "can't be written" in done.stderr


def test_ctrl_c_saves_the_best_so_far(tmp_path):
    arguments = [
        *COMMAND,
        "generate",
        PROMPT,
        "--candidates",
        "100000",
        "--steps",
        "2",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    shown = ""
    while "by the first batch" not in shown:
        shown += process.stderr.readline()
        assert process.poll() is None, shown
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ended    interrupted" in out and (tmp_path / "best.png").exists()


def test_list_shows_what_there_is():
    content = json.loads(run("list", "--format", "json").stdout)
    assert {"shapes-ddim", "shapes-flow"} <= content["models"].keys()
    assert "random" in content["algorithms"] and {"clip", "aesthetic", "shapes-oracle"} <= content["verifiers"].keys()
    assert content["algorithms"]["zero-order"]["options"]["neighbours"] == 4
    shown = run("list").stdout
    assert "shapes-flow" in shown and "options: neighbours=4, cosine=0.95" in shown
