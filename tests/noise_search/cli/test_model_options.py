"""What the command asks of the model: pictures, options of the pipeline's call, and how it is loaded."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from noise_search import compare, search
from noise_search.cli.app import app
from noise_search.cli.options import OfModel
from tiny.pipelines import tiny
from tiny.search import brightness

SMALL = ["--steps", "4", "--candidates", "2", "--verifier", "brightness", "--format", "json"]


def drawn(seed, size=(16, 16)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved pipelines by the names of their directories, and pictures."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("sd", "sd-image", "sd-controlnet", "sdxl"):
        tiny(name).save_pretrained(folder / name)
    drawn(0).save(folder / "a.png")
    drawn(1).save(folder / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    drawn(2, (16, 24)).save(folder / "sideways.png", exif=exif)
    (folder / "text.png").write_text("no picture")
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model sd --image a.png", "StableDiffusionPipeline takes no image; save AutoPipelineForImage2Image"),
        ("--model sd --mask a.png", "StableDiffusionPipeline takes no mask; save AutoPipelineForInpainting"),
        ("--model sd --control-image a.png", "takes no control image; give the directory of a saved ControlNet"),
        ("--model sd --strength 0.5", "StableDiffusionPipeline takes no strength; save"),
        ("--image a.png", "FluxPipeline takes no image"),
        ("--model sd-image --image a.png --strength 2", "strength=2 must be from 0 to 1"),
        ("--model sd-image --image c.png", "'c.png' is no image that can be opened"),
        ("--model sd-image --image text.png", "'text.png' is no image that can be opened"),
        ("--model sd-image --image a.png --image b.png", "image holds 2 images, and StableDiffusionImg2ImgPipeline"),
        ("--model sd-image --image a.png --model-option image=b.png", "'image' of StableDiffusionImg2ImgPipeline is"),
        ("--model sd-image --model-option strenght=1", "'strenght'; did you mean 'strength'?"),
        ("--model sd-image --model-option strength=high", "strength='high' is a text; StableDiffusionImg2ImgPipeline"),
        ("--model sd-image --model-option strength", "option 'strength' has no value"),
        ("--model sd --model-option num_inference_steps=3", "give it as --steps"),
        ("--model sd --model-option generator=3", "give it as --seed"),
        ("--model sd --model-option output_type=np", "unknown option of StableDiffusionPipeline: 'output_type'"),
        ("--model sd --lora a.bin", "lora='a.bin' isn't there"),
        ("--model sd --variant fp16", "model 'sd' has no variant 'fp16'"),
        ("--model sd --revision main", "revision='main' is of models of the hub"),
        ("--model org/none --image a.png", "model 'org/none' isn't in the hub's cache here"),
        ("--offload modle", "unknown offload 'modle'; did you mean 'model'?"),
        ("--offload model", "the device here is the CPU: leave it out"),
    ],
)
def test_what_the_model_does_not_take_is_one_line(arguments, words, tmp_path):
    done = run("generate", "a cat", *SMALL, *arguments.split(), "--out", tmp_path / "run")
    [line] = done.stderr.strip().splitlines()
    assert done.exit_code == 2 and not done.stdout and words in line, line
    assert not any((tmp_path / "run").iterdir())


def test_an_image_gives_what_python_gives(tmp_path):
    image = ["--image", "a.png", "--model-option", "strength=0.5"]
    done = run("generate", "a cat", "--model", "sd-image", *image, *SMALL, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    options = {"image": drawn(0), "strength": 0.5}
    here = search(
        "a cat", model="sd-image", model_options=options, steps=4, candidates=2, verifier=brightness, progress=False
    )
    there = [Image.open(tmp_path / "top" / f"{at:02}.png") for at in (1, 2)]
    best = [one for one in here.candidates if one.id == here.best.id] + [
        one for one in here.candidates if one.id != here.best.id
    ]
    assert all(np.array_equal(np.asarray(a), b.pixels) for a, b in zip(there, best, strict=True))
    recorded = json.loads((tmp_path / "result.json").read_text())["settings"]["model"]["options"]
    assert recorded == here.settings["model"]["options"]

    def replayed(*more):
        return run("replay", tmp_path / "result.json", "--model", "sd-image", *more, "--out", tmp_path / "again.png")

    assert replayed("--image", "a.png").exit_code == 0
    for more, words in [
        (["--image", "b.png"], "model_options 'image' is not what"),
        ([], "can't hold: pass it again"),
    ]:
        refused = replayed(*more, "--overwrite")
        assert refused.exit_code == 2 and words in refused.stderr
    unnamed = run("replay", tmp_path / "result.json", "--image", "a.png", "--out", tmp_path / "more.png")
    assert unnamed.exit_code == 2 and "give --model too" in unnamed.stderr


def test_a_control_image_reaches_the_controlnet(tmp_path):
    shown = []
    for picture in ("a.png", "b.png"):
        arguments = ["--model", "sd-controlnet", "--control-image", picture, *SMALL, "--out", tmp_path / picture]
        done = run("generate", "a cat", *arguments)
        assert done.exit_code == 0, done.output
        shown.append(np.asarray(Image.open(tmp_path / picture / "best.png")))
    assert not np.array_equal(*shown)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--model sd --image a.png", "StableDiffusionPipeline takes no image"),
        ("--model sd --mask a.png", "StableDiffusionPipeline takes no mask"),
        ("--model sd --control-image a.png", "takes no control image"),
        ("--model sd-image --strength 2", "strength=2 must be"),
        ("--model sd-image --model-option strenght=1", "'strenght'; did you mean 'strength'?"),
        ("--model sd --lora a.bin", "lora='a.bin' isn't there"),
        ("--model sd --variant fp16", "has no variant 'fp16'"),
        ("--model sd --revision main", "revision='main' is of models of the hub"),
        ("--offload model", "the device here is the CPU"),
    ],
)
def test_a_comparison_takes_the_same(arguments, words, tmp_path):
    done = run("compare", "--prompts", "a cat", "--candidates", "1", *arguments.split(), "--out", tmp_path)
    assert done.exit_code == 2 and words in done.stderr.strip().splitlines()[-1], done.stderr


def test_a_comparison_with_an_image_goes_on_with_the_same(tmp_path):
    def compared(image):
        options = {"model_options": {"image": image, "strength": 0.5}, "steps": 2, "candidates": [1], "diagnosed": 0}
        settings = options | {"algorithms": ["random"], "verifier": brightness, "progress": False, "out": tmp_path}
        return compare(["a cat"], model=tiny("sd-image"), **settings)

    asked = compared(drawn(0)).settings["asked"]["model_options"]
    assert asked["strength"] == 0.5 and asked["image"].startswith("Image of shape (16, 16, 3), sha256")
    assert compared(drawn(0)).settings["asked"]["model_options"] == asked
    with pytest.raises(ValueError, match="made with another model: option image"):
        compared(drawn(1))


def test_values_have_the_types_of_the_signature():
    typed = ["original_size=[64, 48]", "prompt_2=2024", "clip_skip=2", "guidance_rescale=0.7", "ip_adapter_image=a.png"]
    found = OfModel(model_option=typed).given("sdxl")["model_options"]
    assert found.pop("ip_adapter_image").size == (16, 16)
    assert found == {"original_size": (64, 48), "prompt_2": "2024", "clip_skip": 2, "guidance_rescale": 0.7}


def test_pictures_are_opened_upright_and_several_are_a_list():
    assert OfModel(image=["sideways.png"]).given("sd-image")["model_options"]["image"].size == (16, 24)
    [first, second] = OfModel(control_image=["a.png", "b.png"]).given("sd-controlnet")["model_options"]["image"]
    assert first == drawn(0) and second == drawn(1)


def test_what_is_not_given_is_left_out():
    assert OfModel().given("sd", steps=3, width=None) == {"steps": 3}
