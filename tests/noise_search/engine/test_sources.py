"""The source of an edit, from the options of the model's call to verifiers, judges, records and files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from noise_search import compare, diagnose, replay, score_images
from noise_search.cli.app import app
from noise_search.engine.scoring import Scorer
from noise_search.engine.sources import edited_sources, needed_sources
from noise_search.shapes import WEIGHTS
from tiny.pipelines import image_latents, tiny
from tiny.search import CountingSampler, brightness, fits, toy_search
from verifiers import FunctionVerifier, Verifier

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
SOURCE = torch.from_numpy(PIXELS).permute(2, 0, 1)[None] / 255
OTHER = Image.fromarray(PIXELS[::-1].copy())


def near(images, prompts, source):
    """Minus the difference in colour."""
    return -(images.mean((2, 3)) - source.mean((2, 3))).abs().mean(1)


class Edits(Verifier):
    """Remembers the sources that it was given."""

    name, version = "edits", "1"

    def __init__(self, *needs):
        self.needs, self.seen = frozenset(needs), []

    def score(self, images, prompts, **needs):
        self.seen.append(needs)
        return images.mean((1, 2, 3))


def editing(image=PICTURE, **options):
    """The closed-form model, as one that was given an image to edit."""
    sampler = CountingSampler(4)
    sampler.options = {"image": image, **options}
    return sampler


def test_a_search_over_image_to_image_hands_its_verifier_the_image_at_its_own_size():
    options, judge = {"image": PICTURE, "strength": 0.5}, Edits("source", "sources")
    result = toy_search(
        tiny("sd-image"), verifier=near, judges=[judge], candidates=4, steps=4, model_options=options, batch_size=3
    )
    for candidate in result.candidates:
        picture = torch.from_numpy(candidate.pixels).permute(2, 0, 1)[None] / 255
        assert candidate.score == pytest.approx(near(picture, [], SOURCE).item(), abs=1 / 255)
    assert len({candidate.score for candidate in result.candidates}) == 4
    [given] = judge.seen
    assert torch.equal(given["source"], SOURCE) and [*map(torch.Tensor.tolist, given["sources"])] == [SOURCE.tolist()]
    [recorded] = result.settings["sources"]
    assert recorded["shape"] == [1, 3, 12, 20] and len(recorded["sha256"]) == 64
    assert "sources" not in toy_search(tiny("sd-image"), candidates=1, steps=2, model_options=options).settings


READ = {
    "PIL": PICTURE,
    "PIL with transparency": PICTURE.convert("RGBA"),
    "8-bit array": PIXELS,
    "array": PIXELS.astype(np.float32) / 255,
    "batch of arrays": PIXELS[None],
    "8-bit tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor": SOURCE,
    "row": SOURCE[0],
    "tensor of diffusers": SOURCE * 2 - 1,
    "list": [PICTURE],
    "list of lists": [[SOURCE]],
}


@pytest.mark.parametrize("form", READ)
def test_the_source_is_read_as_pipelines_take_it(form):
    [source] = edited_sources([FunctionVerifier(near)], {"image": READ[form]})
    assert source.dtype == torch.float32 and source.shape == (1, 3, 12, 20)
    torch.testing.assert_close(source, SOURCE, atol=1e-6, rtol=0)


def test_image_comes_before_images_and_input_images_and_a_batch_is_several():
    every = [FunctionVerifier(lambda images, prompts, sources: images.mean((1, 2, 3)))]
    options = {"strength": 0.5, "input_images": [OTHER], "images": torch.cat([SOURCE, SOURCE]), "image": None}
    assert [source.tolist() for source in edited_sources(every, options)] == [SOURCE.tolist()] * 2
    options |= {"image": OTHER}
    assert torch.equal(edited_sources(every, options)[0], SOURCE.flip(-2))
    assert torch.equal(edited_sources(every, {"input_images": [[OTHER], PICTURE]})[1], SOURCE)
    assert edited_sources([FunctionVerifier(brightness)], {"image": "anything"}) == ()


REFUSED = {
    "none": ({"image": None}, r"'near' needs the source image, and there is none: give model_options\['image'\]"),
    "latents": ({"image": image_latents()}, r"'image'\] can't be read as one: it has shape \(1, 4, 8, 8\); .*latents"),
    "several": ({"image": [PICTURE, OTHER]}, r"'near' compares with one source image, and .*'image'\] holds 2"),
    "a path": ({"image": "cat.png"}, "it is a str; expected a PIL image"),
    "a clip": ({"image": SOURCE[None]}, r"it has shape \(1, 1, 3, 12, 20\); expected RGB pixels"),
    "grey": ({"image": PIXELS[..., 0]}, r"it has shape \(12, 20\); expected RGB pixels \[batch, height, width, 3\]"),
    "NaN": ({"image": SOURCE * torch.nan}, "source holds values that aren't finite"),
    "another range": ({"image": SOURCE * 255}, "source: images spans .*images / 255"),
    "no row": ({"image": SOURCE[:0]}, "source holds 0 images"),
    "an empty list": ({"image": []}, "it is a list; expected"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("role", ["verifier", "judge"])
def test_what_is_no_source_is_refused_in_one_line_before_anything_is_run(case, role):
    options, match = REFUSED[case]
    sampler = editing(**options)
    asked = {"verifier": near} if role == "verifier" else {"judges": [near]}
    with pytest.raises(ValueError, match=match) as caught:
        toy_search(sampler, candidates=2, **asked)
    assert sampler.rows == 0 and "\n" not in str(caught.value)


def test_a_model_of_texts_alone_has_no_source():
    with pytest.raises(ValueError, match="verifier 'near' needs the source image, and there is none"):
        toy_search(tiny("sd"), verifier=near, candidates=1, steps=2)


def test_batches_that_are_cut_keep_the_source_whole():
    images, [source] = torch.rand(5, 3, 8, 8), needed_sources([FunctionVerifier(near)], PICTURE, "source")
    expected = near(images, [], source).tolist()

    def limited(images, prompts, source):
        return fits(2, near)(images, prompts, source)

    one = FunctionVerifier(limited)
    found, failures = Scorer([one], [source]).score(images, ["a"] * 5)
    assert found[one.key].tolist() == pytest.approx(expected) and failures == [None] * 5


def test_each_frame_of_a_clip_is_held_against_the_source():
    clips, verifier = torch.rand(2, 5, 3, 8, 8), FunctionVerifier(near)
    found, _ = Scorer([verifier], [SOURCE]).score(clips, ["a", "b"])
    expected = [near(clip, [], SOURCE).mean().item() for clip in clips]
    assert found[verifier.key].tolist() == pytest.approx(expected)


def test_a_replay_scores_with_the_source_again(tmp_path):
    options = {"image": PICTURE, "strength": 0.5}
    result = toy_search(tiny("sd-image"), verifier=near, candidates=2, steps=4, model_options=options)
    file = result.save(tmp_path)["best"]
    again = replay(file, model=tiny("sd-image"), model_options=options, verifier=near, progress=False)
    assert list(again.scores.values()) == pytest.approx([result.score], abs=1e-4)
    assert json.loads((tmp_path / "result.json").read_text())["settings"]["sources"] == result.settings["sources"]
    plain = toy_search(tiny("sd"), candidates=1, steps=2)
    with pytest.raises(ValueError, match="'near' needs the source image, and there is none"):
        replay(plain, model=tiny("sd"), verifier=near, progress=False)


def test_a_diagnosis_scores_with_the_source_again_and_with_no_other():
    sampler = editing()
    result = toy_search(sampler, verifier=near, candidates=8)
    assert result.score > result.first_score
    found = diagnose(result, verifier=near, model=sampler)
    assert found.rescoring.skipped == {"flip": "the verifier compares with the source image"}
    assert found.rescoring.share == pytest.approx(1, abs=0.2)
    told = diagnose(result, verifier=near)
    assert told.rescoring.skipped["all"].startswith("verifier 'near' needs the source image, and there is none: give")
    assert "all" not in diagnose(result, verifier=near, model_options={"image": PICTURE}).rescoring.skipped
    with pytest.raises(ValueError, match="source image in model_options is not the one that the search was scored"):
        diagnose(result, verifier=near, model_options={"image": OTHER})


def test_a_comparison_hands_the_source_on_and_goes_on_with_no_other(tmp_path):
    judge = Edits("sources")
    asked = {"verifier": near, "judges": [judge], "algorithms": ["random"], "candidates": (2, 4), "progress": False}
    with pytest.raises(ValueError, match="'near' needs the source image, and there is none"):
        compare(["a"], model=CountingSampler(4), **asked)
    table = compare(["a", "b"], model=editing(), out=tmp_path, **asked)
    assert len(table.records) == 4 and all(np.isfinite(one.scores["near"]) for one in table.records)
    assert all(torch.equal(needs["sources"][0], SOURCE) for needs in judge.seen) and judge.seen
    compare(["a", "b"], model=editing(PICTURE.copy()), out=tmp_path, **asked)
    with pytest.raises(ValueError, match="was made with another sources"):
        compare(["a", "b"], model=editing(OTHER), out=tmp_path, **asked)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "edits").mkdir()
    for name, level in (("same", 1.0), ("darker", 0.8), ("dark", 0.2)):
        Image.fromarray((PIXELS * level).astype(np.uint8)).save(tmp_path / "edits" / f"{name}.png")
    PICTURE.save(tmp_path / "source.png")
    return tmp_path


@pytest.mark.parametrize("form", [str, lambda file: file, Image.open, lambda file: [file]])
def test_pictures_are_scored_with_a_source(folder, form):
    found = score_images(
        folder / "edits", prompt="a", verifier=near, source=form(folder / "source.png"), progress=False
    )
    assert [one.file.stem for one in found.images] == ["same", "darker", "dark"]
    assert found.images[0].value == pytest.approx(0, abs=1e-6)
    assert found.to_json()["sources"][0]["shape"] == [1, 3, 12, 20]


def test_pictures_and_a_source_that_do_not_fit_their_verifier_are_told(folder):
    options = {"prompt": "a", "progress": False}
    with pytest.raises(ValueError, match="'near' needs the source image, and there is none: give source"):
        score_images(folder / "edits", verifier=near, **options)
    with pytest.raises(ValueError, match="a source image was given, and brightness doesn't look at it"):
        score_images(folder / "edits", verifier="brightness", source=PICTURE, **options)
    with pytest.raises(ValueError, match=r"none\.png' is no image that can be opened"):
        score_images(folder / "edits", verifier=near, source=folder / "none.png", **options)
    with pytest.raises(ValueError, match="'near' compares with one source image, and source holds 2"):
        score_images(folder / "edits", verifier=near, source=[PICTURE, OTHER], **options)


def test_the_command_takes_the_source(folder):
    def score(*options):
        option = ["--verifier-option", f"model={WEIGHTS / 'clip'}"]
        return CliRunner().invoke(app, ["score", str(folder / "edits"), "--verifier", "clip-image", *option, *options])

    done = score("--source", str(folder / "source.png"), "--format", "json")
    said = json.loads(done.stdout)
    assert done.exit_code == 0 and said["images"][0]["file"].endswith("same.png") and len(said["sources"]) == 1
    assert said["images"][0]["value"] == pytest.approx(1, abs=1e-5) and said["images"][0]["prompt"] is None
    told = score()
    line = (
        "noise-search: verifier 'clip-image' needs the source image, and there is none: give source, the image that is "
    )
    assert told.exit_code == 2 and told.stderr == f"{line}edited\n"
