"""LoRAs on models that are loaded by name: what they change, how they are found, and what is refused."""

import json
import shutil
import sys

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from noise_search import replay, search
from noise_search.lora import split
from noise_search.models import load_model
from noise_search.settings import ModelSettings
from tiny.fake_hub import FakeHub
from tiny.pipelines import quiet, stock_images, tiny
from tiny.search import brightness

PART = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
SMALL = {"verifier": brightness, "steps": 2, "candidates": 2, "progress": False}


def change(layer="to_q", part=PART, of="unet", size=32):
    """A LoRA of rank 2 for one layer, in diffusers' format."""
    draw = torch.Generator().manual_seed(0)
    sides = {"lora_A": torch.randn(2, size, generator=draw), "lora_B": torch.randn(size, 2, generator=draw)}
    return {f"{of}.{part}.{layer}.{side}.weight": tensor for side, tensor in sides.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved pipeline and LoRAs for it, or not for it."""
    folder = tmp_path_factory.mktemp("models")
    tiny("sd").save_pretrained(folder / "sd")
    for name, tensors in {
        "ink": change(),
        "wash": change("to_v"),
        "partly": change() | change(part="mid_block.nowhere"),
        "nowhere": change(part="nowhere"),
        "flux": change(of="transformer"),
        "larger": change(size=48),
        "none": {"weight": torch.ones(2)},
    }.items():
        save_file(tensors, folder / f"{name}.safetensors")
    torch.save(change(), folder / "ink.bin")
    (folder / "broken.safetensors").write_bytes(b"no tensors")
    return folder


@pytest.fixture
def peft():
    return pytest.importorskip("peft")


def settings(folder, *asked, **more):
    return ModelSettings(lora=[str(folder / one) for one in asked], **more)


def refused(folder, asked, words, kind=ValueError):
    with pytest.raises(kind) as error:
        load_model(str(folder / "sd"), ModelSettings(lora=asked))
    assert words in str(error.value) and "\n" not in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ink.safetensors", ("ink.safetensors", 1.0)),
        ("ink.safetensors:0.8", ("ink.safetensors", 0.8)),
        ("owner/name:-1", ("owner/name", -1.0)),
        (r"C:\loras\ink.safetensors", (r"C:\loras\ink.safetensors", 1.0)),
        (r"C:\loras\ink.safetensors:2", (r"C:\loras\ink.safetensors", 2.0)),
    ],
)
def test_a_scale_stands_behind_a_colon(text, found):
    assert split(text) == found


@pytest.mark.parametrize("text", ["ink.safetensors:", "ink.safetensors:strong", ":0.8", "ink.safetensors:nan", "a:inf"])
def test_a_scale_is_a_number(text):
    with pytest.raises(ValueError, match="must be PATH_OR_HUB_ID or PATH_OR_HUB_ID:SCALE"):
        split(text)


def test_without_peft_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    refused(folder, folder / "ink.safetensors", "needs peft: pip install peft", ImportError)


def test_pickles_and_what_is_not_there_are_refused(folder, tmp_path, monkeypatch):
    FakeHub(tmp_path / "hub", monkeypatch).add("org/pickled", {"lora.bin": folder / "ink.bin"})
    refused(folder, folder / "ink.bin", "is a pickle (ink.bin), which isn't read as it can run code: convert it")
    refused(folder, "org/pickled", "is a pickle (lora.bin)")
    refused(folder, tmp_path / "ink.safetensors", "isn't there; expected a .safetensors file")
    refused(folder, "here/ink.safetensors", "isn't there; expected a .safetensors file")
    refused(folder, "org/nothing", "holds no .safetensors file that can be had here")
    refused(folder, folder, "holds broken.safetensors, flux.safetensors, ")
    refused(folder, folder / "sd" / "scheduler", "holds no .safetensors file")


def test_a_pipeline_that_takes_none_refuses_it(folder, tmp_path):
    tiny("dit").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="DiTPipeline takes no LoRA; leave it out"):
        load_model(str(tmp_path), settings(folder, "ink.safetensors"))


def test_candidates_are_those_of_the_plain_pipeline_with_the_lora(folder, peft):
    pipe = quiet(diffusers.StableDiffusionPipeline.from_pretrained(folder / "sd"))
    pipe.load_lora_weights(str(folder), weight_name="ink.safetensors", adapter_name="ink")
    pipe.set_adapters("ink", 0.5)
    expected = stock_images(pipe, ["a cat"] * 2, [0, 1], num_inference_steps=2)
    model, ink = str(folder / "sd"), folder / "ink.safetensors"
    found = search("a cat", model=model, lora=f"{ink}:0.5", **SMALL)
    for candidate, image in zip(found.candidates, expected, strict=True):
        assert np.abs(candidate.pixels / 255 - image.permute(1, 2, 0).numpy()).max() <= 0.6 / 255
    plain, off = (search("a cat", model=model, lora=lora, **SMALL) for lora in (None, f"{ink}:0"))
    assert np.array_equal(plain.best.pixels, off.best.pixels) and off.settings["model"]["changes"]
    assert not np.array_equal(plain.best.pixels, found.best.pixels)


def test_several_loras_are_each_at_their_scale(folder, peft):
    loaded = load_model(str(folder / "sd"), settings(folder, "ink.safetensors:0.5", "wash.safetensors:0.25"))
    changes = loaded.sampler.describe()["changes"]["adapters of unet"]
    assert "at 0.5" in changes and "at 0.25" in changes
    assert [one["scale"] for one in loaded.loading["lora"]] == [0.5, 0.25]
    again = load_model(str(folder / "sd"), settings(folder, "ink.safetensors:0.5", "wash.safetensors:0.5"))
    assert again.fingerprint != loaded.fingerprint


@pytest.mark.parametrize("name", ["nowhere", "flux", "larger", "none", "broken"])
def test_a_lora_that_does_not_fit_is_one_line(folder, peft, name, caplog):
    refused(folder, folder / f"{name}.safetensors", f"{name}.safetensors' doesn't fit StableDiffusionPipeline: ")
    assert not caplog.messages


def test_keys_that_fit_nothing_are_said(folder, peft, caplog):
    load_model(str(folder / "sd"), settings(folder, "partly.safetensors"))
    [told] = caplog.messages
    assert "partly.safetensors': some keys fit no part and are left out (" in told and "mid_block.nowhere" in told


def test_a_lora_of_the_hub_is_read_from_its_cache(folder, peft, tmp_path, monkeypatch):
    hub = FakeHub(tmp_path / "hub", monkeypatch)
    hub.add("org/one", {"ink.safetensors": folder / "ink.safetensors", "ink.bin": folder / "ink.bin"})
    hub.add("org/two", {f"{name}.safetensors": folder / f"{name}.safetensors" for name in ("ink", "wash")})
    here = load_model(str(folder / "sd"), settings(folder, "ink.safetensors")).fingerprint
    for asked in ("org/one", "org/two/ink.safetensors:1"):
        assert load_model(str(folder / "sd"), ModelSettings(lora=asked)).fingerprint == here
    refused(folder, "org/two", "holds ink.safetensors, wash.safetensors; say which, as org/two/ink.safetensors")


@pytest.fixture
def made(folder, peft, tmp_path):
    """A saved search with a LoRA that a test may change, and where it lies."""
    ink = shutil.copy(folder / "ink.safetensors", tmp_path / "ink.safetensors")
    result = search("a cat", model=str(folder / "sd"), lora=f"{ink}:0.5", **SMALL)
    return result.save(tmp_path / "run")["result"], ink


def test_a_replay_opens_the_lora_that_was_recorded(folder, made):
    file, ink = made
    [recorded] = json.loads(file.read_text())["settings"]["model"]["loading"]["lora"]
    assert recorded["source"] == str(ink) and recorded["scale"] == 0.5 and len(recorded["sha256"]) == 64
    for asked in (None, f"{ink}:0.5", f"{folder / 'ink.safetensors'}:0.5"):
        again = replay(file, model=str(folder / "sd"), lora=asked, progress=False)
        assert again.difference <= 1.001 / 255 and again.settings["model"]["loading"]["lora"][0]["scale"] == 0.5
    assert replay(again.recipe, prompt="a cat", model=str(folder / "sd"), lora=f"{ink}:0.5", steps=2, progress=False)


def test_a_replay_refuses_another_lora(folder, made):
    file, ink = made

    def refuses(words, **settings):
        with pytest.raises(ValueError) as error:
            replay(file, model=str(folder / "sd"), progress=False, **settings)
        assert words in str(error.value), str(error.value)

    refuses("was made with: it has scale 1, recorded 0.5", lora=ink)
    refuses("was made with: it has other contents", lora=f"{folder / 'wash.safetensors'}:0.5")
    refuses("; give the same", lora=[f"{ink}:0.5", str(ink)])
    shutil.copy(folder / "wash.safetensors", ink)
    refuses("was made with: it has other contents")
    ink.unlink()
    refuses(f"was made with the LoRA {str(ink)!r}, which isn't here: pass lora='{ink}:0.5' again")
    with pytest.raises(ValueError, match="adapters of unet"):
        replay(file, model=tiny("sd"), progress=False)


def test_a_file_makes_nothing_be_downloaded(folder, made):
    file, _ = made
    content = json.loads(file.read_text())
    known = content["settings"]["model"]["loading"]
    for lora, words in [
        ([known["lora"][0] | {"source": "org/one"}], "which isn't here: pass lora='org/one:0.5' again"),
        ([known["lora"][0] | {"scale": "large"}], "expected what a search writes"),
        (3, "expected what a search writes"),
    ]:
        known["lora"] = lora
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError) as error:
            replay(file, model=str(folder / "sd"), progress=False)
        assert words in str(error.value), str(error.value)


def test_a_search_made_without_is_not_replayed_with(folder, peft, tmp_path):
    file = search("a cat", model=str(folder / "sd"), **SMALL).save(tmp_path)["result"]
    with pytest.raises(ValueError, match="was made with none; give the same"):
        replay(file, model=str(folder / "sd"), lora=folder / "ink.safetensors", progress=False)
