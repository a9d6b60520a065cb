"""Scoring image files: real files, the embedded verifiers, the command as users run it."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import noise_search
from noise_search.disk.images import look_at, read_pixels
from noise_search.shapes import EMBEDDED_VERIFIERS, embedded_verifier
from tiny.command import COMMAND, run, run_many
from verifiers import FunctionVerifier, available
from verifiers.measures import Brightness, Saturation

PROMPT = "a red circle to the left of a blue square"


def score(images, **options):
    return noise_search.score_images(images, progress=False, **options)


def picture(seed=0, size=(48, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    by = {"verifier": ["clip", "aesthetic"], "ensemble": "mean-rank"}
    result = noise_search.search(PROMPT, **by, candidates=6, steps=3, progress=False)
    result.save(folder)
    return result, folder


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        picture(i, (48, 40) if i % 2 else (64, 64)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_saved_images_score_as_in_their_search_by_the_prompt_in_the_file(searched):
    result, folder = searched
    found = score(folder / "top", verifier=["clip", "aesthetic"], ensemble="mean-rank", model="shapes-flow")
    assert [one.file.name for one in found.images] == [f"{i:02d}.png" for i in range(1, 7)]
    for one, candidate in zip(found.images, result.top(6), strict=True):
        assert (one.prompt, one.prompt_from) == (PROMPT, "recorded in the image")
        assert one.value == pytest.approx(candidate.score, abs=1e-9)
        assert one.scores == pytest.approx(candidate.scores, abs=1e-4)


def test_saved_images_are_scored_by_what_they_record_unless_told_otherwise(searched, folder, caplog):
    result, run = searched
    found = score(run / "top")
    assert found.aggregator["name"] == result.settings["verifier"]["name"] == "mean-rank(clip, aesthetic)"
    assert found.images[0].scores == pytest.approx(result.best.scores, abs=1e-4)
    assert score([run / "top", folder / "0.png"], prompt=PROMPT, model="shapes-flow").aggregator["name"] == "clip"
    assert "the pictures record no verifier, or several" in caplog.text
    edited = picture()
    info = PngInfo()
    described = {"name": "clip", "verifiers": [{"name": "clip", "version": "other"}]}
    info.add_itxt("noise_search", json.dumps({"prompt": PROMPT, "settings": {"verifier": described, "model": {}}}))
    edited.save(folder / "0.png", pnginfo=info)
    with pytest.raises(ValueError, match=r"record verifier clip@other, and its name gives clip@.* here"):
        score(folder / "0.png", model="shapes-flow")


def test_drawings_beside_a_search_are_no_pictures_of_it(searched):
    _, run = searched
    assert [one.file.name for one in score(run).images] == ["best.png"]
    assert len(score(run, recursive=True).images) == 7


def test_what_is_no_picture_is_told_before_a_verifier_is_loaded(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"none of 1 file can be read: .*mine\.txt"):
        score(tmp_path / "mine.txt", verifier="clip")


def test_scores_equal_the_verifiers_own(folder):
    found = score(folder, prompt=PROMPT, verifier="shapes-clip", batch_size=2)
    clip = embedded_verifier(EMBEDDED_VERIFIERS["shapes-clip"])
    for one in found.images:
        pixels = torch.from_numpy(np.array(Image.open(one.file))).permute(2, 0, 1)[None] / 255
        assert one.value == pytest.approx(clip(pixels, [PROMPT]).item(), abs=1e-5)
    assert [one.value for one in found.images] == sorted((one.value for one in found.images), reverse=True)


@pytest.mark.parametrize("ensemble", ["mean-rank", "mean-z", "min-z"])
def test_sizes_and_batches_do_not_change_the_ranking(folder, ensemble):
    options = {"prompt": "x", "verifier": ["shapes-clip", Brightness()], "ensemble": ensemble}
    one, many = score(folder, batch_size=1, **options), score(folder, batch_size=16, **options)
    assert [i.file for i in one.images] == [i.file for i in many.images]
    assert {i.height for i in one.images} == {40, 64}


@pytest.mark.parametrize("count", [1, 2, 11])
def test_z_scores_are_those_within_the_pictures_however_many(tmp_path, count):
    for i in range(count):
        picture(i).save(tmp_path / f"{i}.png")
    found = score(tmp_path, prompt="", verifier=[Brightness(), Saturation()]).images
    x = np.array([list(one.scores.values()) for one in found])
    expected = ((x - x.mean(0)) / np.where(count > 1, x.std(0), 1)).mean(1)
    assert [one.value for one in found] == pytest.approx(expected.tolist(), abs=1e-9)


def test_prompts_come_from_the_call_then_the_image_then_the_text_beside_it(searched, tmp_path):
    _, run_folder = searched
    (tmp_path / "best.png").write_bytes((run_folder / "best.png").read_bytes())
    (tmp_path / "best.txt").write_text("another")
    assert look_at(tmp_path / "best.png").prompt == PROMPT
    assert look_at(tmp_path / "best.png", "given").prompt == "given"
    picture().save(tmp_path / "plain.jpg")
    assert look_at(tmp_path / "plain.jpg").prompt is None
    (tmp_path / "plain.txt").write_text(" a green star\n")
    seen = look_at(tmp_path / "plain.jpg")
    assert (seen.prompt, seen.prompt_from) == ("a green star", "plain.txt")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (5, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (5, 4), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.new("LA", (5, 4), (0, 0)), (255, 255, 255)),
        (Image.new("L", (5, 4), 77), (77, 77, 77)),
        (Image.new("1", (5, 4), 1), (255, 255, 255)),
        (Image.fromarray(np.full((4, 5), 40000, np.uint16)), (156, 156, 156)),
        (Image.new("P", (5, 4), 0), (0, 0, 0)),
    ],
    ids=["transparent", "half", "grey-alpha", "grey", "bits", "16-bit", "palette"],
)
def test_every_kind_of_png_becomes_rgb(image, expected, tmp_path):
    image.save(tmp_path / "x.png")
    pixels = read_pixels(tmp_path / "x.png")
    assert pixels.shape == (4, 5, 3) and pixels.dtype == np.uint8 and (pixels == expected).all()


def test_pictures_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture(0, (48, 40)).save(tmp_path / "x.png", exif=exif)
    seen, pixels = look_at(tmp_path / "x.png"), read_pixels(tmp_path / "x.png")
    assert (seen.width, seen.height) == (40, 48) and pixels.shape == (48, 40, 3)
    np.testing.assert_array_equal(pixels, np.rot90(np.asarray(picture(0, (48, 40))), -1))


def test_a_failing_verifier_costs_one_image_and_a_constraint_the_ranking(folder):
    def third_fails(images, prompts):
        seen.append(images.shape)
        if len(seen) == 3:
            raise RuntimeError("no idea")
        return images.mean((1, 2, 3))

    seen = []
    *good, bad = score(folder, prompt="", verifier=third_fails, batch_size=1).images
    assert bad.failure == "third_fails failed: no idea" and np.isnan(bad.value)
    assert len(good) == 3 and all(one.failure is None for one in good)

    def fits(images, prompts):
        return 50.0 - images.new_full((len(images),), images.shape[-1])

    small = FunctionVerifier(fits, "small", kind="constraint")
    ranked = score(folder, prompt="", verifier=[Brightness(), small])
    assert str(ranked).splitlines()[0].split() == ["brightness", "small", "image"], "one score has one column"
    assert [one.width for one in ranked.images[:2]] == [48, 48]
    assert [one.failure for one in ranked.images[2:]] == [
        f"constraint 'small' is violated ({50 - one.width}, and 0 passes)" for one in ranked.images[2:]
    ]


def test_the_command_prints_a_ranking_and_names_what_it_could_not_read(folder):
    (folder / "0.txt").write_text("a green star")
    (folder / "broken.png").write_bytes((folder / "1.png").read_bytes()[:200])
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.pdf").write_text("")
    arguments = ["--prompt", PROMPT, "--verifier", "clip,aesthetic", "--model", "shapes-flow"]
    done = run("score", str(folder), *arguments, "--top", "2")
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["mean-z", "clip", "aesthetic", "image"] and len(rows) == 2
    for name in ("broken.png", "text.jpg", "notes.pdf"):
        assert name in done.stderr
    content = json.loads(run("score", str(folder), *arguments, "--format", "json").stdout)
    assert len(content["images"]) == 4 and len(content["unreadable"]) == 2
    assert content["images"][0]["file"] == rows[0].split()[-1]
    assert content["verifier"]["name"] == "mean-z(clip, aesthetic)"


NEEDY = Brightness()
NEEDY.needs = frozenset({"x0"})


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("missing.png", {}, r"missing\.png' isn't there"),
        ("empty", {}, "holds no image.*recursive"),
        ("0.png", {"verifier": "clpi"}, "unknown verifier 'clpi'; did you mean 'clip'"),
        ("0.png", {"verifier": "oracle"}, "'oracle' reads the embedded world"),
        ("0.png", {"model": "shapes-flwo"}, "unknown model 'shapes-flwo'; did you mean 'shapes-flow'"),
        ("0.png", {"ensemble": "median"}, "unknown ensemble 'median'"),
        ("0.png", {"device": "gpu"}, "device 'gpu' can't be used"),
        ("broken.png", {}, "none of 1 file can be read"),
        (".", {"prompt": None}, r"'clip' reads prompts, and 4 of 4 images have none \(0.png, .*\.txt"),
        (".", {"verifier": NEEDY}, "'brightness' needs x0, which image files don't tell"),
    ],
)
def test_bad_input_is_refused_in_one_line(folder, given, options, words):
    (folder / "empty" / "inner").mkdir(parents=True)
    (folder / "broken.png").write_text("x")
    with pytest.raises(ValueError, match=words) as caught:
        score(folder / given, **{"prompt": "x", "verifier": "shapes-clip"} | options)
    assert "\n" not in str(caught.value)


def test_folders_of_folders_are_looked_into_when_asked(folder):
    (folder / "inner").mkdir()
    picture(9).save(folder / "inner" / "x.webp")
    # The two read no prompt, and so miss none.
    assert len(score(folder, verifier=[Brightness(), "shapes-aesthetic"]).images) == 4
    assert len(score([folder, folder / "0.png"], verifier=Brightness(), recursive=True).images) == 5


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How `score` ends with each verifier by name alone, offline."""
    folder = tmp_path_factory.mktemp("offline")
    picture(0, (64, 64)).save(folder / "x.png")
    options = {name: ["--verifier", name] for name in (*available(), *EMBEDDED_VERIFIERS)} | OPTIONS
    commands = [["score", "x.png", "--prompt", "a yellow star", *one] for one in options.values()]
    return dict(zip(options, run_many(commands, folder), strict=True))


OPTIONS = {
    "a device": ["--verifier", "clip", "--device", "foo"],
    "a device as option": ["--verifier", "clip", "--verifier-option", "device=foo"],
    "a question": ["--verifier", "vlm", "--verifier-option", "question=5"],
    "an option": ["--verifier", "jpeg", "--verifier-option", "qualty=5"],
    "a type": ["--verifier", "jpeg", "--verifier-option", "quality=true"],
    "a provider": ["--verifier", "judge", "--verifier-option", "provider=openai"],
    "a module": ["--verifier", "judge", "--verifier-option", "provider=local"],
    "a version": ["--verifier", "hps", "--verifier-option", "version=2.0"],
    "a commit": ["--verifier", "clip", "--verifier-option", "revision=123456e7"],
    "a weight file": ["--verifier", "aesthetic", "--verifier-option", "weights=nowhere.pth"],
    "a label": ["--verifier", "shapes-class", "--verifier-option", "label=nothing"],
}


@pytest.mark.parametrize("name", [*available(), *EMBEDDED_VERIFIERS, *OPTIONS])
def test_every_verifier_scores_or_says_in_one_line_why_not(name, ends):
    code, said, told = ends[name]
    besides = re.compile(r"downloading |loading |WARNING|.*(image/s|s/image)\]|\s*$")
    lines = [line for line in told.splitlines() if not besides.match(line)]
    scores = {"jpeg", "sharpness", "saturation", "brightness", *EMBEDDED_VERIFIERS} - {"shapes-consistency"}
    if name in scores:
        assert (code, lines) == (0, []), told
        assert "x.png" in said
    else:
        assert code == 2 and len(lines) == 1 and lines[0].startswith("noise-search: ") and not said, told


def test_a_constraint_alone_ranks_nothing(folder):
    done = run("score", str(folder), "--prompt", "x", "--verifier", "safety")
    line = "noise-search: safety only excludes images, and nothing ranks the rest; give a score beside it: clip,safety"
    assert done.returncode == 2 and done.stderr.strip() == line


def test_ctrl_c_keeps_what_is_scored(folder):
    def stops(images, prompts):
        seen.append(images)
        if len(seen) > allowed:
            raise KeyboardInterrupt
        return images.mean((1, 2, 3))

    seen, allowed = [], 2
    found = score(folder, prompt="", verifier=stops, batch_size=1)
    assert found.interrupted and len(found.images) == 2 and found.to_json()["interrupted"]
    assert not score(folder, prompt="", verifier=Brightness()).interrupted
    seen, allowed = [], 0
    with pytest.raises(KeyboardInterrupt):
        score(folder, prompt="", verifier=stops, batch_size=1)


def test_a_verifier_that_fails_for_good_keeps_what_is_scored(folder):
    class Capped(Brightness):
        def score(self, images, prompts, **needs):
            calls.append(images)
            self.exhausted = "the cap max_calls=2 is reached" if len(calls) > 2 else ""
            return images.mean((1, 2, 3)) if len(calls) <= 2 else images.new_full((len(images),), torch.nan)

    calls = []
    found = score(folder, prompt="", verifier=Capped(), batch_size=1)
    assert found.ended == "brightness: the cap max_calls=2 is reached" and not found.interrupted
    assert len(calls) == 3 and sum(one.failure is None for one in found.images) == 2
    assert found.to_json()["ended"] == found.ended


def test_the_interrupted_command_prints_what_is_scored(folder):
    code = """
import os, signal
from verifiers import Brightness
whole, calls = Brightness.score, []
def score(self, images, prompts, **needs):
    calls.append(images)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return whole(self, images, prompts)
Brightness.score = score
"""
    command = [*COMMAND[:-1], code + COMMAND[-1], "score", str(folder), "--verifier", "brightness"]
    # Explicitly, as readline may have put a terminal's width behind Python's back.
    how = {"capture_output": True, "text": True, "env": dict(os.environ)}
    done = subprocess.run([*command, "--batch-size", "1"], check=False, **how)
    assert done.returncode == 130 and len(done.stdout.splitlines()) == 1 + 2
    assert done.stderr.strip().splitlines()[-1] == "noise-search: interrupted; 2 images scored, the others not"


def test_32_bit_pixels_are_refused_as_their_range_is_unknown(tmp_path):
    values = np.full((4, 5), 40000)
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "32.tif")
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "16.tif")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tif")
    (tmp_path / "16.pgm").write_bytes(b"P5 5 4 65535 " + values.astype(">u2").tobytes())
    for name in ("16.tif", "16.pgm"):
        assert (read_pixels(tmp_path / name) == 156).all()
    for name, what in (("32.tif", "32-bit"), ("float.tif", "floating-point")):
        with pytest.raises(ValueError, match=f"holds {what} pixels; expected 8 or 16 bits"):
            read_pixels(tmp_path / name)


def test_loading_large_weights_is_said_by_the_command(folder):
    code = "from verifiers.loading import notices; notices.QUIET_BELOW = 0; " + COMMAND[-1]
    arguments = ["score", str(folder / "1.png"), "--prompt", "x", "--verifier", "shapes-clip"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and re.search(r"^loading .*clip.*, 3.1 MB$", done.stderr, re.MULTILINE)
