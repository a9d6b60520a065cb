"""Missing or unfitting weights: one clear error, never random weights."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from contracts.verifier import refused
from tiny.clip import write_tiny_clip
from tiny.fake_hub import HubServer
from verifiers import Aesthetic, CLIPScore
from verifiers.loading import hub as pins
from verifiers.loading import notices
from verifiers.loading import open_clip as loading
from verifiers.loading.tower import TowerSource

ONE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
STANDARD, PICKLE, CONFIG = "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_config.json"
FIRST, SECOND = "1" * 40, "2" * 40


def changed(directory: Path, **model: dict[str, object]) -> Path:
    """A tiny CLIP whose configuration says something else than its weights; None takes a field away."""
    write_tiny_clip(directory)
    config = json.loads((directory / CONFIG).read_text())
    for part, fields in model.items():
        both = config["model_cfg"][part] | fields
        config["model_cfg"][part] = {name: value for name, value in both.items() if value is not None}
    (directory / CONFIG).write_text(json.dumps(config))
    return directory


def test_construction_loads_nothing():
    CLIPScore("local-dir:/nowhere")
    CLIPScore()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["local-dir:/nowhere"], "'/nowhere' does not exist"),
        (["ViT-L-14-quikgelu", "laion2b"], "no model 'ViT-L-14-quikgelu'; expected e.g. ViT-L-14-quickgelu"),
        (["ViT-B-32", "laion2b_s34b_b79"], "neither weights of 'ViT-B-32'.*laion2b_s34b_b79k"),
        (["ViT-B-32", None], "given without pretrained weights"),
        (["ViT-B-32-quickgelu", "openai"], "vit_base_patch32_clip_224.openai at revision 'main'.*check the"),
        (["hf-hub:org/other"], r"could not get org/other at revision 'main'.*check the network"),
    ],
)
def test_what_is_not_there_is_named(hub, arguments, message):
    with refused(message):
        CLIPScore(*arguments)(ONE, ["a"])


def test_directories_that_lack_something(tmp_path):
    with refused("has no open_clip_config.json"):
        CLIPScore(tmp_path).load()
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / "model.safetensors").touch()
    with refused("has no model_cfg"):
        CLIPScore(tmp_path).load()
    directory = write_tiny_clip(tmp_path / "model", weights="open_clip_model.pt")
    with refused(r"has no weights.*\['open_clip_model.pt'\] is not read"):
        CLIPScore(directory).load()
    (directory / "open_clip_model.pt").unlink()
    with refused("has no weights; expected open_clip_model.safetensors"):
        CLIPScore(directory).load()


def test_parts_that_do_not_fit(tmp_path):
    with refused("could not load .*local-dir"):
        CLIPScore(changed(tmp_path / "layers", vision_cfg={"layers": 3})).load()
    with refused("embeds 523 tokens but its tokenizer has 49408"):
        CLIPScore(changed(tmp_path / "words", text_cfg={"hf_tokenizer_name": None})).load()
    directory = write_tiny_clip(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    with refused("could not load"):
        CLIPScore(directory).load()


def test_version_names_the_weights_not_the_machine(clip_directory, tmp_path, images):
    assert CLIPScore().key == "clip@ViT-L-14-quickgelu/openai/2.5"
    assert CLIPScore(output="cosine").key == "clip@ViT-L-14-quickgelu/openai/cos"
    local = CLIPScore(clip_directory)
    assert local.version.startswith("tiny/") and str(clip_directory) not in local.version
    assert CLIPScore(f"local-dir:{clip_directory}").version == local.version
    copy = write_tiny_clip(tmp_path / "tiny")
    assert CLIPScore(copy).version == local.version
    changed = write_tiny_clip(tmp_path / "changed" / "tiny", quick_gelu=True)
    assert CLIPScore(changed).version != local.version


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Makes a model and its tags known to open_clip, for one test."""
    import open_clip
    from open_clip import pretrained

    def made_known(name, config, tags):
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
        monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
        monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
        open_clip.add_model_config(tmp_path / f"{name}.json")
        monkeypatch.setitem(pretrained._PRETRAINED, name, tags)

    return made_known


@pytest.fixture
def published(hub, register, tmp_path):
    """open_clip knows a small model "tiny-published" whose tags' weights are on the hub."""
    import open_clip

    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    tag = {"hf_hub": "org/tiny/", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "resize_mode": "squash"}
    tag |= {"interpolation": "bilinear"}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    register("tiny-published", config, {"web": tag, "dfn2b": tag})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-published")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / STANDARD)
    hub.add("org/tiny", {STANDARD: tmp_path / STANDARD})


def test_a_tag_is_fetched_from_the_hub_and_keeps_its_preprocessing(published, images):
    import open_clip

    clip = CLIPScore("tiny-published", "web", output="cosine")
    scores = clip(images[:2], ["a cat", "a dog"])
    preprocess = clip.source.tower().preprocess
    assert (preprocess.mean, preprocess.std) == ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert (preprocess.interpolation, preprocess.resize_mode) == ("bilinear", "squash")
    theirs = open_clip.create_model("tiny-published", pretrained="web").eval()
    pixels = preprocess(images[:2])
    with torch.no_grad():
        left, right, _ = theirs(pixels, open_clip.get_tokenizer("tiny-published")(["a cat", "a dog"]))
    torch.testing.assert_close(scores, (left * right).sum(-1), atol=1e-6, rtol=0)


def test_a_tag_at_another_revision(published):
    other = CLIPScore("tiny-published", "web", revision="0" * 40)
    assert other.version == "tiny-published/web@00000000/2.5"
    with refused(f"org/tiny at revision '{'0' * 40}'"):
        other.load()


def test_a_hub_model_is_read_like_a_directory(hub, clip_directory, images):
    hub.add("org/tiny", {file.name: file for file in clip_directory.iterdir()})
    scores = CLIPScore("hf-hub:org/tiny")(images, ["a red circle"] * 5)
    assert torch.equal(scores, CLIPScore(clip_directory)(images, ["a red circle"] * 5))


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(notices, "_said", set())
    with HubServer(tmp_path / "cache", monkeypatch) as server:
        yield server


@pytest.fixture
def versions(clip_directory, tmp_path):
    """Files of the tiny CLIP's weights, each with another logit scale, so that it shows which were loaded."""
    tensors = load_file(clip_directory / STANDARD)
    paths = {}
    for scale, name in enumerate(("first.safetensors", "second.safetensors", "first.bin", "second.bin"), 1):
        paths[name] = tmp_path / name
        save = torch.save if name.endswith(".bin") else save_file
        save({**tensors, "logit_scale": torch.tensor(float(scale))}, paths[name])
    return paths


@pytest.fixture
def texts(clip_directory):
    return {path.name: path for path in clip_directory.iterdir() if path.suffix == ".json"}


def loaded(clip: CLIPScore) -> float:
    return float(clip.source.tower().model.logit_scale)


@pytest.mark.parametrize(
    ("tag", "safe", "pickle"),
    [
        ("org/tiny/", STANDARD, PICKLE),
        ("org/tiny/pytorch_model.bin", "pytorch_model.safetensors", "pytorch_model.bin"),
    ],
)
def test_a_tag_takes_safetensors_and_a_pickle_only_without_them(server, versions, monkeypatch, tag, safe, pickle):
    for commit, name in ((FIRST, "first"), (SECOND, "second")):
        server.add("org/tiny", {safe: versions[f"{name}.safetensors"], pickle: versions[f"{name}.bin"]}, commit)

    def scale(revision: str | None) -> float:
        path, _ = loading.published({"hf_hub": tag}, None, revision)
        weights = load_file(path or "") if str(path).endswith("safetensors") else torch.load(path or "")
        return float(weights["logit_scale"])

    assert scale(FIRST) == 1
    assert scale(None) == 2
    monkeypatch.setitem(pins._COMMITS, "org/tiny", FIRST)
    assert scale(None) == 1
    assert server.served == [("org/tiny", FIRST, safe), ("org/tiny", SECOND, safe)]
    server.add("org/tiny", {pickle: versions["first.bin"]}, third := "3" * 40)
    assert scale(third) == 3
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert scale(third) == 3  # as is known from before
    assert server.served[2:] == [("org/tiny", third, pickle)]


def test_safetensors_that_can_not_be_got_are_not_replaced_by_a_pickle(server, hub, versions, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server.add("org/tiny", {STANDARD: versions["first.safetensors"], PICKLE: versions["first.bin"]}, FIRST)
    server.broken.add(STANDARD)
    with refused(f"could not get {STANDARD} of org/tiny .*check the network"):
        loading.published({"hf_hub": "org/tiny/"}, None, FIRST)
    assert server.served == []
    hub.add("org/other", {PICKLE: versions["first.bin"]}, FIRST)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with refused(f"could not get {STANDARD} of org/other"):
        loading.published({"hf_hub": "org/other/"}, None, FIRST)
    hub.lacks("org/other", [STANDARD], FIRST)
    assert loading.published({"hf_hub": "org/other/"}, None, FIRST)[0]


def test_a_hub_model_takes_safetensors_and_a_pickle_only_without_them(server, texts, versions, monkeypatch):
    for commit, name in ((FIRST, "first"), (SECOND, "second")):
        weights = {STANDARD: versions[f"{name}.safetensors"], PICKLE: versions[f"{name}.bin"]}
        server.add("org/tiny", {**texts, **weights}, commit)
    assert loaded(CLIPScore("hf-hub:org/tiny", revision=FIRST)) == 1
    assert loaded(CLIPScore("hf-hub:org/tiny")) == 2
    assert CLIPScore("hf-hub:org/tiny").source.label == "hf-hub:org/tiny@main"
    monkeypatch.setitem(pins._COMMITS, "org/tiny", FIRST)
    assert loaded(CLIPScore("hf-hub:org/tiny")) == 1
    assert CLIPScore("hf-hub:org/tiny").source.label == "hf-hub:org/tiny@11111111"
    assert not any(name.endswith(".bin") for _, _, name in server.served)
    server.add("org/pickled", {**texts, PICKLE: versions["first.bin"]}, FIRST)
    assert loaded(CLIPScore("hf-hub:org/pickled")) == 3


def test_damaged_files_of_published_models_are_refused(hub, texts, versions):
    hub.add("org/tiny", {**texts, STANDARD: versions["first.safetensors"]}, FIRST)
    hub.add("org/pickled", {PICKLE: versions["first.bin"]}, FIRST)
    hub.lacks("org/pickled", [STANDARD], FIRST)
    for repository, name in (("org/tiny", STANDARD), ("org/pickled", PICKLE)):
        path = max(hub.blobs(repository), key=lambda blob: blob.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with refused(f"{name} of {repository}@11111111 has sha256 .* the file is damaged"):
            loading.published({"hf_hub": f"{repository}/"}, None, FIRST)
    with refused(f"{STANDARD} of org/tiny@11111111 has sha256"):
        CLIPScore("hf-hub:org/tiny", revision=FIRST).load()


def test_a_gated_repository_says_what_to_do(server):
    server.gated.add("org/gated")
    with refused("accept its terms on the page of org/gated and log in with `hf auth login`"):
        CLIPScore("hf-hub:org/gated").load()
    with refused("accept its terms on the page of org/gated"):
        loading.published({"hf_hub": "org/gated/"}, None, None)


@pytest.fixture
def worded(clip_directory, register):
    """open_clip knows a model "tiny-worded" whose tokenizer is that of the hub's org/words, and its tag "web"."""
    config = json.loads((clip_directory / CONFIG).read_text())["model_cfg"]
    config["text_cfg"] |= {"hf_tokenizer_name": "org/words", "tokenizer_kwargs": {"clean": "lower"}}
    register("tiny-worded", config, {"web": {"hf_hub": "org/tiny/"}, "same": {"hf_hub": "org/words/"}})
    return clip_directory


def test_a_tokenizer_of_the_hub_is_said_and_read_at_its_commit(server, worded, versions, tmp_path, monkeypatch, caplog):
    from open_clip.tokenizer import HFTokenizer

    words = {path.name: path for path in worded.iterdir() if path.name.startswith("tokenizer")}
    changed = tmp_path / "tokenizer.json"  # the two words have changed places
    text = words["tokenizer.json"].read_text().replace('"red"', '"?"').replace('"green"', '"red"')
    changed.write_text(text.replace('"?"', '"green"'))
    weights = {STANDARD: versions["first.safetensors"]}
    server.add("org/words", {**words, **weights, "pytorch_model.bin": versions["first.bin"]}, FIRST)
    server.add("org/words", {**words, **weights, "tokenizer.json": changed}, SECOND)
    server.add("org/tiny", weights, FIRST)

    def ids(clip: CLIPScore) -> list[int]:
        return clip.source.tower().tokenizer(["A red circle"])[0].tolist()

    first, second = (
        HFTokenizer(str(worded), context_length=16)(text)[0].tolist() for text in ("a red circle", "a green circle")
    )
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        assert ids(CLIPScore("tiny-worded", "web")) == second  # main; the revision of other weights isn't its
        assert ids(CLIPScore("tiny-worded", "web", revision=FIRST)) == second
    assert any(said.startswith("downloading the tokenizer of org/words@main") for said in caplog.messages)
    assert ids(CLIPScore("tiny-worded", "same", revision=FIRST)) == first
    monkeypatch.setitem(pins._COMMITS, "org/words", FIRST)
    assert ids(CLIPScore("tiny-worded", "web", precision="bf16")) == first
    assert ("org/words", FIRST, "pytorch_model.bin") not in server.served
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(pins._COMMITS, "org/words", "4" * 40)
    with refused(r"could not get org/words at revision '4444.*check the"):
        CLIPScore("tiny-worded", "web", precision="fp16").load()


def test_a_revision_of_local_weights_is_refused(clip_directory, versions):
    local = (clip_directory, None), (f"local-dir:{clip_directory}", None), ("ViT-B-32", versions["first.bin"])
    for model, pretrained in local:
        with refused(r"revision 'v1' is one of a hub repository, but '.*' is local", ValueError):
            CLIPScore(model, pretrained, revision="v1")


def test_paths_may_start_at_the_users_directory(clip_directory, versions, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TowerSource("ViT-B-32", "~/first.bin").label == TowerSource("ViT-B-32", versions["first.bin"]).label
    assert TowerSource("ViT-B-32", Path("~/first.bin")).label.startswith("ViT-B-32/first.bin/")
    (tmp_path / "model").symlink_to(clip_directory)
    for model in ("~/model", "local-dir:~/model", Path("~/model")):
        assert TowerSource(model).directory == clip_directory.resolve()


def test_a_towers_licence_is_flagged(published, caplog):
    Aesthetic(model="tiny-published", pretrained="dfn2b").source.tower()
    assert any("tiny-published" in message for message in caplog.messages)
