"""Models that are loaded by name: which files are read, what is refused before that, and what is said and recorded."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from noise_search import models, replay, search
from noise_search.models import load_model, pipeline_class
from noise_search.settings import ModelSettings
from tiny.fake_hub import FakeHub, HubServer
from tiny.pipelines import tiny
from tiny.search import brightness
from verifiers.loading import notices

SMALL = {"verifier": brightness, "steps": 2, "candidates": 2, "progress": False}
FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Directories of one pipeline, and of one with its weights as a variant."""
    folder = tmp_path_factory.mktemp("models")
    tiny("sd").save_pretrained(folder / "plain")
    tiny("sd").save_pretrained(folder / "fp16", variant="fp16")
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of the pipeline that a test may damage."""
    return shutil.copytree(saved / "plain", tmp_path / "model")


def files_of(folder):
    return {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}


def refused(model, words, **settings):
    with pytest.raises(ValueError) as error:
        load_model(str(model), ModelSettings(**settings))
    assert words in str(error.value) and "\n" not in str(error.value), str(error.value)


def edit(folder, **entries):
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | entries))


def test_a_variant_is_read_and_recorded(saved):
    found = search("a cat", model=str(saved / "fp16"), variant="fp16", **SMALL)
    plain = search("a cat", model=str(saved / "plain"), **SMALL)
    assert np.array_equal(found.best.pixels, plain.best.pixels)
    assert found.settings["model"]["loading"] == {"variant": "fp16"} and "loading" not in plain.settings["model"]


def test_a_variant_that_is_not_there_is_named(saved):
    refused(saved / "plain", "has no variant 'fp16': it has none, leave it out", variant="fp16")
    refused(saved / "fp16", "has no variant 'bf16': it has fp16", variant="bf16")
    refused(saved / "fp16", "has its weights as variant alone: give variant='fp16' (it has fp16)")
    refused("shapes-flow", "has no variant 'fp16'", variant="fp16")


def test_revisions_are_of_the_hub(saved):
    refused(saved / "plain", "revision='main' is of models of the hub", revision="main")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_pickle_is_never_read(copied, part):
    [weights] = (copied / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save(load_file(weights), copied / part / name)
    load_model(str(copied))  # the safetensors beside it are
    weights.unlink()
    refused(copied, f"has its {part} as pickle alone, which isn't read as it can run code: convert it")


def test_no_code_of_a_model_is_run(copied, tmp_path):
    ran = tmp_path / "ran"
    code = f"import pathlib, diffusers\npathlib.Path({str(ran)!r}).touch()\nMine = diffusers.StableDiffusionPipeline\n"
    (copied / "mine.py").write_text(code)
    edit(copied, _class_name=["mine", "Mine"])
    refused(copied, "comes with code of its own (mine), and no model's code is run")
    edit(copied, _class_name="StableDiffusionPipeline", unet=["mine", "Mine"])
    (copied / "unet" / "mine.py").write_text(code)
    refused(copied, "comes with code of its own (in its parts)")
    edit(copied, _class_name=["lpw_stable_diffusion", "Community"])
    refused(copied, "comes with code of its own (lpw_stable_diffusion)")
    assert not ran.exists()


def test_a_class_that_diffusers_does_not_have_is_named(copied):
    edit(copied, _class_name="UNet2DConditionModel")
    refused(copied, "has no pipeline 'UNet2DConditionModel'")
    edit(copied, _class_name="NoPipeline")
    refused(copied, "has no pipeline 'NoPipeline'")


def test_offload_needs_an_accelerator(saved):
    refused(saved / "plain", "offload='model' moves parts of a model to an accelerator", offload="model")
    refused("shapes-flow", "leave it out", offload="group", device="cpu")


@pytest.mark.parametrize("offload", ["model", "sequential", "group"])
def test_an_offloaded_model_gives_the_same_images(saved, offload):
    plain = search("a cat", model=str(saved / "plain"), **SMALL)
    pipe = models._from_pretrained(str(saved / "plain"), models._How("cpu", torch.float32, offload=offload))
    hooked = [part for part in pipe.unet.modules() if hasattr(part, "_hf_hook") or hasattr(part, "_diffusers_hook")]
    assert hooked
    if offload == "sequential":  # accelerate can't run it with the CPU for an accelerator
        return
    assert np.array_equal(search("a cat", model=pipe, **SMALL).best.pixels, plain.best.pixels)


def test_a_replay_may_offload_otherwise(saved, tmp_path):
    file = search("a cat", model=str(saved / "plain"), **SMALL).save(tmp_path)["result"]
    content = json.loads(file.read_text())
    content["settings"]["model"]["loading"] = {"offload": "model"}  # as an accelerator's
    file.write_text(json.dumps(content))
    again = replay(file, model=str(saved / "plain"), progress=False)
    assert again.difference <= 1.001 / 255 and "loading" not in again.settings["model"]
    with pytest.raises(ValueError, match="the device here is the CPU"):
        replay(file, model=str(saved / "plain"), offload="model", progress=False)
    content["settings"]["model"]["loading"] = [3]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="for how its model was loaded; expected what a search writes"):
        replay(file, model=str(saved / "plain"), progress=False)


def test_a_replay_reads_the_recorded_variant(saved, tmp_path):
    file = search("a cat", model=str(saved / "fp16"), variant="fp16", **SMALL).save(tmp_path)["result"]
    assert replay(file, model=str(saved / "fp16"), progress=False).settings["model"]["loading"] == {"variant": "fp16"}
    assert replay(file, model=str(saved / "plain"), progress=False).difference <= 1.001 / 255


@pytest.mark.parametrize("settings", [{"lora": "a/b"}, {"offload": "model"}, {"variant": "a"}, {"revision": "a"}])
def test_what_belongs_to_loading_is_refused_for_a_pipeline_object(settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))}: only for models that are loaded by name"):
        load_model(tiny("sd"), ModelSettings(**settings))


def test_a_model_is_loaded_once_for_each_way_of_loading(saved):
    pipes = [
        load_model(str(saved / name), ModelSettings(variant=variant)).sampler._calls.pipe
        for name, variant in [("fp16", "fp16"), ("plain", None), ("fp16", "fp16")]
    ]
    assert pipes[0] is pipes[2] is not pipes[1]


def test_a_revision_of_the_cache_is_recorded_by_its_commit(saved, tmp_path, monkeypatch):
    hub = FakeHub(tmp_path / "hub", monkeypatch)
    hub.add("org/cached", files_of(saved / "plain"), FIRST)
    loaded = load_model("org/cached", ModelSettings(revision=FIRST))
    assert loaded.loading == {"revision": FIRST, "commit": FIRST}
    file = search("a cat", model="org/cached", revision=FIRST, **SMALL).save(tmp_path / "run")["result"]
    again = replay(file, model="org/cached", progress=False)  # which nothing but the record says the commit of
    assert again.difference <= 1.001 / 255 and again.settings["model"]["loading"]["commit"] == FIRST
    refused("org/cached", "isn't in the hub's cache here", revision=SECOND)
    refused("org/cached", "isn't in the hub's cache here")  # nothing says what main is


@pytest.fixture
def server(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    with HubServer(tmp_path / "cache", monkeypatch) as server:
        yield server


def test_a_licence_is_said_before_the_download(server, saved, caplog):
    server.add("org/flux", files_of(saved / "plain"), FIRST)
    server.cards["org/flux"] = {"license": "other", "license_name": "flux-1-dev-non-commercial-license"}
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        loaded = load_model("org/flux")
        load_model("org/flux")
    assert caplog.messages == [
        "org/flux: its licence, flux-1-dev-non-commercial-license, forbids commercial use; read it on the model card",
        f"downloading org/flux@{FIRST[:8]}",
    ]
    assert loaded.loading == {"commit": FIRST} and len(server.served) == len({*server.served})


@pytest.mark.parametrize("name", ["vae", "unet"])
def test_nothing_is_downloaded_for_what_is_refused(server, saved, name):
    pickled = {
        file.replace(".safetensors", ".bin") if name in file else file: path
        for file, path in files_of(saved / "plain").items()
    }
    server.add(f"org/pickled-{name}", pickled, FIRST)
    refused(f"org/pickled-{name}", f"has its {name} as pickle alone")
    server.add(f"org/{name}", files_of(saved / "plain"), FIRST)
    refused(f"org/{name}", "has no variant 'fp16'", variant="fp16")
    refused(f"org/{name}", "could not be loaded: the hub has no revision 'no-such' of it", revision="no-such")
    assert pipeline_class(f"org/{name}").__name__ == "StableDiffusionPipeline"
    assert {file for *_, file in server.served} == {"model_index.json"}


def test_what_the_hub_does_not_give_says_what_to_do(server, saved):
    server.private.add("org/private")
    refused("org/private", "the hub has no model of this name, or it is private")
    server.add("org/weights", files_of(saved / "plain" / "unet"), FIRST)
    refused("org/weights", "it holds no model_index.json; expected a diffusers pipeline")
    server.add("org/gated", files_of(saved / "plain"), FIRST)
    server.gated.add("org/gated")
    refused("org/gated", "accept its terms on the page of org/gated and log in with `hf auth login`")
