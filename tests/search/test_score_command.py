"""Scoring image files: real files, the embedded verifiers, the command as users run it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from test_command import run

import noise_search
from noise_search.image_files import look_at, read_pixels
from noise_search.shapes import EMBEDDED_VERIFIERS, embedded_verifier
from verifiers import FunctionVerifier
from verifiers.brightness import Brightness

PROMPT = "a red circle to the left of a blue square"


def score(images, **options):
    return noise_search.score_images(images, progress=False, **options)


def picture(seed=0, size=(48, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    result = noise_search.search(PROMPT, verifier=["clip", "aesthetic"], candidates=6, steps=3, progress=False)
    result.save(folder)
    return result, folder


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        picture(i, (48, 40) if i % 2 else (64, 64)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_saved_images_score_as_in_their_search_by_the_prompt_in_the_file(searched):
    result, folder = searched
    found = score(folder / "top", verifier=["clip", "aesthetic"], model="shapes-flow")
    assert [one.file.name for one in found.images] == [f"{i:02d}.png" for i in range(1, 7)]
    for one, candidate in zip(found.images, result.top(6), strict=True):
        assert (one.prompt, one.prompt_from) == (PROMPT, "recorded in the image")
        assert one.value == pytest.approx(candidate.score, abs=1e-9)
        assert one.scores == pytest.approx(candidate.scores, abs=1e-4)


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


def test_a_prompt_is_missed_only_by_what_reads_it(folder):
    with pytest.raises(ValueError, match=r"'clip' reads prompts, and 4 of 4 images have none \(0.png, .*\.txt"):
        score(folder, verifier="shapes-clip")
    assert len(score(folder, verifier=[Brightness(), "shapes-aesthetic"]).images) == 4


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
    small = FunctionVerifier(lambda images, prompts: 50.0 - images.new_full((len(images),), images.shape[-1]), "small")
    small.kind = "constraint"
    ranked = score(folder, prompt="", verifier=[Brightness(), small])
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
    assert header.split() == ["mean-rank", "clip", "aesthetic", "image"] and len(rows) == 2
    for name in ("broken.png", "text.jpg", "notes.pdf"):
        assert name in done.stderr
    content = json.loads(run("score", str(folder), *arguments, "--format", "json").stdout)
    assert len(content["images"]) == 4 and len(content["unreadable"]) == 2
    assert content["images"][0]["file"] == rows[0].split()[-1]
    assert content["verifier"]["name"] == "mean-rank(clip, aesthetic)"


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
        ("broken.png", {}, "none of 1 files can be read"),
    ],
)
def test_bad_input_is_refused_in_one_line(folder, given, options, words):
    (folder / "empty" / "inner").mkdir(parents=True)
    (folder / "broken.png").write_text("x")
    with pytest.raises(ValueError, match=words) as caught:
        score(folder / given, **{"prompt": "x", "verifier": "shapes-clip"} | options)
    assert "\n" not in str(caught.value)


def test_what_needs_more_than_images_and_prompts_is_refused(folder):
    verifier = Brightness()
    verifier.needs = frozenset({"x0"})
    with pytest.raises(ValueError, match="'brightness' needs x0, which image files don't tell"):
        score(folder, verifier=verifier)


def test_folders_of_folders_are_looked_into_when_asked(folder):
    (folder / "inner").mkdir()
    picture(9).save(folder / "inner" / "x.webp")
    assert len(score(folder, verifier=Brightness()).images) == 4
    assert len(score([folder, folder / "0.png"], verifier=Brightness(), recursive=True).images) == 5
