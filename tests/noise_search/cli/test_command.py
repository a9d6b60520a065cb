"""The command, run as users run it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from noise_search import SearchResult, load, search
from noise_search.__main__ import main
from noise_search.cli.app import app
from noise_search.shapes import EMBEDDED_VERIFIERS
from noise_search.shapes.cards import EMBEDDED_CARDS
from tiny.command import COMMAND, PROMPT, run, run_many

ROOT = Path(__file__).parents[3]


def test_generate_prints_scores_and_writes_files(tmp_path):
    done = run("generate", PROMPT, "--nfe", "12", "--steps", "3", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    for word in ("score", "judge", "oracle", "mean of 4 judged", "12 of 12 NFE", "best.png", "result.json"):
        assert word in done.stdout
    assert "12 NFE, random: up to 4 candidates of 3 steps (3 steps are too few to look in between)" in done.stderr
    shown, run_of = (
        {"best.png", "top", "top.png", "curve.png", "result.json"},
        {"run.json", "evaluations.jsonl", "images"},
    )
    assert {f.name for f in (tmp_path / "run").iterdir()} == shown | run_of


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
        (["--out", "file/x"], ["can't be written"]),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(tmp_path, arguments, words):
    (tmp_path / "file").write_text("")
    done = run("generate", PROMPT, *arguments, cwd=tmp_path)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert all(word in line for word in words), line


def test_an_empty_prompt_is_refused(tmp_path):
    assert run("generate", " ", "--out", str(tmp_path)).returncode == 2


def test_a_judge_that_cannot_tell_says_so(tmp_path):
    done = run("generate", "a cat on a mat", "--candidates", "1", "--steps", "2", "--out", str(tmp_path))
    assert "can't tell (one sample)" in done.stdout and "nan" not in done.stdout


def test_ctrl_c_saves_the_best_so_far(tmp_path):
    arguments = ["generate", PROMPT, "--candidates", "100000", "--steps", "2", "--out", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*COMMAND, *arguments], **pipes, env=os.environ | {"OMP_NUM_THREADS": "1"})
    shown = ""
    while ", best " not in shown:
        shown += process.stderr.read(1)
        assert process.poll() is None, shown
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ended    interrupted" in out and (tmp_path / "best.png").exists()
    assert load(tmp_path).stop_reason == "interrupted" and load(tmp_path).ledger.nfe >= 2


def test_a_second_ctrl_c_ends_the_command_in_the_middle_of_a_batch(tmp_path):
    arguments = ["generate", PROMPT, "--candidates", "256", "--batch-size", "256", "--out", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*COMMAND, *arguments], **pipes, env=os.environ | {"OMP_NUM_THREADS": "1"})
    shown = ""
    for told in ("NFE, 00:0", "Ctrl-C again stops at once"):
        while told not in shown:
            shown += process.stderr.read(1)
            assert process.poll() is None, shown
        process.send_signal(signal.SIGINT)
    out, more = process.communicate(timeout=60)
    assert process.returncode == 130 and not out
    assert {one.name for one in tmp_path.iterdir()} == {"run.json"}, "nothing was evaluated; it may go on"
    assert more.splitlines()[-1] == "noise-search: interrupted before a first image was done"


def test_ctrl_c_during_imports_is_one_line(monkeypatch, capsys):
    class Importing:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    for module, arguments in [("noise_search.cli.app", []), ("noise_search.engine.driver", ["generate", PROMPT])]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, Importing())
            patch.setattr(sys, "argv", ["noise-search", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        assert ended.value.code == 130
        assert re.fullmatch(r"noise-search: interrupted before .+\n", capsys.readouterr().err)


def test_what_can_not_be_saved_where_it_was_asked_for_is_saved_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    save, given = SearchResult.save, tmp_path / "given"

    def full(result, directory, **how):
        if directory == given:
            raise OSError("No space left on device")
        signal.raise_signal(signal.SIGINT)
        return save(result, directory, **how)

    monkeypatch.setattr(SearchResult, "save", full)
    done = CliRunner().invoke(app, ["generate", PROMPT, "--candidates", "1", "--steps", "2", "--out", str(given)])
    assert done.exit_code == 130 and "can't be written (No space left on device); the files are in" in done.output
    assert len(list(tmp_path.glob("noise-search-*/best.png"))) == 1
    monkeypatch.setattr(SearchResult, "save", lambda *given, **how: (_ for _ in ()).throw(OSError("disk full")))
    done = CliRunner().invoke(app, ["generate", PROMPT, "--candidates", "1", "--steps", "2", "--out", str(given)])
    assert done.exit_code == 1 and "nor can" in done.output and "make room and search again" in done.output


def test_list_shows_what_there_is():
    content = json.loads(run("list", "--format", "json").stdout)
    assert {"shapes-ddim", "shapes-flow"} <= content["models"].keys()
    assert "random" in content["algorithms"] and {"clip", "aesthetic", "shapes-oracle"} <= content["verifiers"].keys()
    assert content["algorithms"]["zero-order"]["options"]["neighbours"] == 4
    shown = run("list").stdout
    assert "shapes-flow" in shown and "options: neighbours=4, cosine=0.95" in shown


SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
DOCUMENTED = ("start", "your-pipeline", "algorithms", "replay")


def documented():
    """The commands in the documents' shell blocks, without what installs, downloads, or compares for minutes."""
    pages = ("README.md", *(f"docs/{name}.md" for name in DOCUMENTED), "verifiers/README.md")
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in pages]
    lines = [line for text in texts for block in SHELL.findall(text) for line in block.splitlines()]
    commands = [shlex.split(line.split("&&")[-1], comments=True)[1:] for line in lines if "noise-search " in line]
    return [one for one in commands if one[0] != "compare" and "stable-diffusion-v1-5/stable-diffusion-v1-5" not in one]


def test_documented_commands_run_as_far_as_a_download(tmp_path):
    commands = documented()
    assert {name for name, *_ in commands} == {"check", "generate", "list", "replay", "score"}
    small = ["--candidates", "8", "--steps", "2"]
    commands = [["generate", "two yellow stars", "--out", "runs/stars"], *commands]
    commands = [one + small if one[0] == "generate" else one for one in commands]
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photos" / "cup.png")
    for command, (code, said, told) in zip(commands, run_many(commands, tmp_path), strict=True):
        assert "Traceback" not in told, (command, told)
        if code:
            [failed] = told.strip().splitlines()
            assert code == 2 and "hps" in command, (command, told)
            assert failed.startswith("noise-search: could not get HPS_v2_compressed.pt of xswu/HPSv2 at "), told
        else:
            assert said, command


def test_the_list_says_of_every_verifier_what_to_know():
    content = json.loads(run("list", "--format", "json").stdout)["verifiers"]
    assert {"base_url", "api_key", "temperature", "max_tokens", "timeout"} <= set(content["judge"]["options"])
    facts = {"range", "direction", "weights_licence", "size", "reference", "needs", "prompt_limit", "options"}
    assert all(facts <= set(entry) for entry in content.values())
    embedded = {name: entry for name, entry in content.items() if name.startswith("shapes-")}
    assert embedded.keys() == EMBEDDED_VERIFIERS.keys()
    assert {entry["weights_licence"] for name, entry in embedded.items() if name != "shapes-oracle"} == {"Apache-2.0"}
    assert embedded["shapes-clip"]["options"]["model"] == "weights/clip"
    assert (
        "yellow star" not in content["class"]["options"] and len(embedded["shapes-class"]["options"]["classes"]) == 64
    )


def test_cards_of_embedded_verifiers_say_how_large_they_are():
    for name, settings in EMBEDDED_VERIFIERS.items():
        places = [Path(settings[key]) for key in ("model", "weights") if key in settings]
        files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
        size = sum(file.stat().st_size for file in files if file.is_file())
        assert EMBEDDED_CARDS[name].size.startswith(f"{size / 1e6:.1f} MB" if size else "none"), name


def test_a_class_that_does_not_exist_is_found_before_anything_is_denoised():
    seen = []
    options = {"judges": ["shapes-class"], "candidates": 1, "steps": 2, "progress": False, "on_candidate": seen.append}
    with pytest.raises(ValueError, match="label 'yellow star' is none of the 64 classes; the nearest are"):
        search("yellow star", **options)
    with pytest.raises(ValueError, match="label 'yellow star'"):
        search(["a yellow star", "yellow star"], **options | {"verifier": "class", "judges": []})
    assert not seen
