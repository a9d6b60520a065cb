"""Missing or unfitting weights: one clear error, never random weights."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tiny.clip import write_tiny_clip, write_tokenizer
from tiny.fake_hub import FakeHub, HubServer
from verifiers import Aesthetic, CLIPScore, WeightsError
from verifiers.loading import hub as pins
from verifiers.loading import notices
from verifiers.loading import open_clip as loading
from verifiers.loading.tower import TowerSource


def refused(clip: CLIPScore, message: str) -> None:
    images = torch.rand(1, 3, 8, 8)
    with pytest.raises(WeightsError, match=message) as caught:
        clip(images, ["a"])
    assert "\n" not in str(caught.value)


def test_construction_loads_nothing() -> None:
    CLIPScore("local-dir:/nowhere")
    CLIPScore()


def test_missing_directory_and_configuration(tmp_path: Path) -> None:
    refused(CLIPScore("local-dir:/nowhere"), "'/nowhere' does not exist")
    refused(CLIPScore(tmp_path), "has no open_clip_config.json")
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    refused(CLIPScore(tmp_path), "has no model_cfg")


def test_missing_weights(tmp_path: Path) -> None:
    directory = write_tiny_clip(tmp_path / "model")
    weights = directory / "open_clip_model.safetensors"
    weights.rename(directory / "open_clip_model.pt")
    refused(CLIPScore(directory), r"has no weights.*\['open_clip_model.pt'\] is not read")
    (directory / "open_clip_model.pt").unlink()
    refused(CLIPScore(directory), "has no weights; expected open_clip_model.safetensors")


def test_unfitting_weights(tmp_path: Path) -> None:
    directory = write_tiny_clip(tmp_path / "model")
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["vision_cfg"]["layers"] = 3
    path.write_text(json.dumps(config))
    refused(CLIPScore(directory), "could not load .*local-dir")


def test_missing_or_unfitting_tokenizer(tmp_path: Path) -> None:
    directory = write_tiny_clip(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    refused(CLIPScore(directory), "could not load")
    write_tokenizer(directory)
    path = directory / "open_clip_config.json"
    config = json.loads(path.read_text())
    del config["model_cfg"]["text_cfg"]["hf_tokenizer_name"]
    path.write_text(json.dumps(config))
    refused(CLIPScore(directory), "embeds 523 tokens but its tokenizer has 49408")


def test_wrong_names() -> None:
    refused(
        CLIPScore("ViT-L-14-quikgelu", "laion2b"),
        "no model 'ViT-L-14-quikgelu'; expected e.g. ViT-L-14-quickgelu",
    )
    refused(CLIPScore("ViT-B-32", "laion2b_s34b_b79"), "neither weights of 'ViT-B-32'.*laion2b_s34b_b79k")
    refused(CLIPScore("ViT-B-32", None), "given without pretrained weights")


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused(CLIPScore("ViT-B-32-quickgelu", "openai"), "vit_base_patch32_clip_224.openai at revision 'main'.*check the")


def test_version_names_the_weights_not_the_machine(clip_directory: Path, tmp_path: Path, images: Tensor) -> None:
    assert CLIPScore().key == "clip@ViT-L-14-quickgelu/openai/2.5"
    assert CLIPScore(output="cosine").key == "clip@ViT-L-14-quickgelu/openai/cos"
    local = CLIPScore(clip_directory)
    assert local.version.startswith("tiny/") and str(clip_directory) not in local.version
    assert CLIPScore(f"local-dir:{clip_directory}").version == local.version
    copy = write_tiny_clip(tmp_path / "tiny")
    assert CLIPScore(copy).version == local.version
    changed = write_tiny_clip(tmp_path / "changed" / "tiny", quick_gelu=True)
    assert CLIPScore(changed).version != local.version


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    directory = write_tiny_clip(tmp_path / "another")
    state = torch.get_rng_state()
    CLIPScore(directory).load()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tower_loaded_in_inference_mode_serves_gradients_later(tmp_path: Path) -> None:
    clip = CLIPScore(write_tiny_clip(tmp_path / "first in inference mode"), output="cosine")
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        clip(images, ["a"])
    images.requires_grad_()
    clip(images, ["a"], grad=True).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


@pytest.fixture
def published(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """open_clip knows a small model "tiny-published" with a tag "web", whose weights are on the hub."""
    import open_clip
    from open_clip import pretrained

    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    (tmp_path / "tiny-published.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    open_clip.add_model_config(tmp_path / "tiny-published.json")
    tag = {"hf_hub": "org/tiny/", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "resize_mode": "squash"}
    tag |= {"interpolation": "bilinear"}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-published", {"web": tag})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("tiny-published")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    hub.add("org/tiny", {"open_clip_model.safetensors": tmp_path / "open_clip_model.safetensors"})
    return hub


def test_a_tag_is_fetched_from_the_hub_and_keeps_its_preprocessing(published: FakeHub, images: Tensor) -> None:
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


def test_a_tag_at_another_revision(published: FakeHub) -> None:
    other = CLIPScore("tiny-published", "web", revision="0" * 40)
    assert other.version == "tiny-published/web@00000000/2.5"
    refused(other, f"org/tiny at revision '{'0' * 40}'")


def test_a_hub_model_is_read_like_a_directory(hub: FakeHub, clip_directory: Path, images: Tensor) -> None:
    hub.add("org/tiny", {file.name: file for file in clip_directory.iterdir()})
    scores = CLIPScore("hf-hub:org/tiny")(images, ["a red circle"] * 5)
    assert torch.equal(scores, CLIPScore(clip_directory)(images, ["a red circle"] * 5))
    refused(CLIPScore("hf-hub:org/other"), r"could not get org/other at revision 'main'.*check the network")


FIRST, SECOND = "1" * 40, "2" * 40
STANDARD, PICKLE = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(notices, "_said", set())
    with HubServer(tmp_path / "cache", monkeypatch) as server:
        yield server


@pytest.fixture
def versions(clip_directory: Path, tmp_path: Path) -> dict[str, Path]:
    """Files of the tiny CLIP's weights, each with another logit scale, so that it shows which were loaded."""
    tensors = load_file(clip_directory / STANDARD)
    paths = {}
    for scale, name in (
        (1.0, "first.safetensors"),
        (2.0, "second.safetensors"),
        (3.0, "first.bin"),
        (4.0, "second.bin"),
    ):
        paths[name] = tmp_path / name
        changed = {**tensors, "logit_scale": torch.tensor(scale)}
        if name.endswith(".bin"):
            torch.save(changed, paths[name])
        else:
            save_file(changed, paths[name])
    return paths


def loaded(clip: CLIPScore) -> float:
    return float(clip.source.tower().model.logit_scale)


@pytest.mark.parametrize(
    ("tag", "safe", "pickle"),
    [
        ("org/tiny/", STANDARD, PICKLE),
        ("org/tiny/pytorch_model.bin", "pytorch_model.safetensors", "pytorch_model.bin"),
    ],
)
def test_a_tag_takes_safetensors_at_its_commit_and_a_pickle_only_without_them(
    server: HubServer, versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tag: str, safe: str, pickle: str
) -> None:
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


def test_safetensors_that_can_not_be_got_are_not_replaced_by_a_pickle(
    server: HubServer, hub: FakeHub, versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server.add("org/tiny", {STANDARD: versions["first.safetensors"], PICKLE: versions["first.bin"]}, FIRST)
    server.broken.add(STANDARD)
    with pytest.raises(WeightsError, match=f"could not get {STANDARD} of org/tiny .*check the network") as caught:
        loading.published({"hf_hub": "org/tiny/"}, None, FIRST)
    assert "\n" not in str(caught.value) and server.served == []
    hub.add("org/other", {PICKLE: versions["first.bin"]}, FIRST)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=f"could not get {STANDARD} of org/other"):
        loading.published({"hf_hub": "org/other/"}, None, FIRST)
    hub.lacks("org/other", [STANDARD], FIRST)
    assert loading.published({"hf_hub": "org/other/"}, None, FIRST)[0]


def test_a_hub_model_takes_safetensors_at_its_commit_and_a_pickle_only_without_them(
    server: HubServer, clip_directory: Path, versions: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {path.name: path for path in clip_directory.iterdir() if path.suffix == ".json"}
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


def test_damaged_files_of_published_models_are_refused(
    hub: FakeHub, clip_directory: Path, versions: dict[str, Path]
) -> None:
    texts = {path.name: path for path in clip_directory.iterdir() if path.suffix == ".json"}
    hub.add("org/tiny", {**texts, STANDARD: versions["first.safetensors"]}, FIRST)
    hub.add("org/pickled", {PICKLE: versions["first.bin"]}, FIRST)
    hub.lacks("org/pickled", [STANDARD], FIRST)
    for repository, name in (("org/tiny", STANDARD), ("org/pickled", PICKLE)):
        path = max(hub.blobs(repository), key=lambda blob: blob.stat().st_size)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(WeightsError, match=f"{name} of {repository}@11111111 has sha256 .* the file is damaged"):
            loading.published({"hf_hub": f"{repository}/"}, None, FIRST)
    refused(CLIPScore("hf-hub:org/tiny", revision=FIRST), f"{STANDARD} of org/tiny@11111111 has sha256")


def test_a_gated_repository_says_what_to_do(server: HubServer) -> None:
    server.gated.add("org/gated")
    refused(CLIPScore("hf-hub:org/gated"), "accept its terms on the page of org/gated and log in with `hf auth login`")
    with pytest.raises(WeightsError, match="accept its terms on the page of org/gated"):
        loading.published({"hf_hub": "org/gated/"}, None, None)


@pytest.fixture
def worded(clip_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """open_clip knows a model "tiny-worded" whose tokenizer is that of the hub's org/words, and its tag "web"."""
    import open_clip
    from open_clip import pretrained

    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", list(open_clip.factory._MODEL_CONFIG_PATHS))
    config = json.loads((clip_directory / "open_clip_config.json").read_text())["model_cfg"]
    config["text_cfg"] |= {"hf_tokenizer_name": "org/words", "tokenizer_kwargs": {"clean": "lower"}}
    (tmp_path / "tiny-worded.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-worded.json")
    tags = {"web": {"hf_hub": "org/tiny/"}, "same": {"hf_hub": "org/words/"}}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny-worded", tags)
    return clip_directory


def test_a_tokenizer_of_the_hub_is_said_and_read_at_its_commit(
    server: HubServer,
    worded: Path,
    versions: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
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
        tokens: list[int] = clip.source.tower().tokenizer(["A red circle"])[0].tolist()
        return tokens

    first, second = (
        HFTokenizer(str(worded), context_length=16)(text)[0].tolist() for text in ("a red circle", "a green circle")
    )
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        assert ids(CLIPScore("tiny-worded", "web")) == second  # main; the revision of other weights isn't its
        assert ids(CLIPScore("tiny-worded", "web", revision=FIRST)) == second
    told = [record.getMessage() for record in caplog.records]
    assert any(said.startswith("downloading the tokenizer of org/words@main") for said in told)
    assert ids(CLIPScore("tiny-worded", "same", revision=FIRST)) == first
    monkeypatch.setitem(pins._COMMITS, "org/words", FIRST)
    assert ids(CLIPScore("tiny-worded", "web", precision="bf16")) == first
    assert ("org/words", FIRST, "pytorch_model.bin") not in server.served
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setitem(pins._COMMITS, "org/words", "4" * 40)
    refused(CLIPScore("tiny-worded", "web", precision="fp16"), r"could not get org/words at revision '4444.*check the")


def test_a_revision_of_local_weights_is_refused(clip_directory: Path, versions: dict[str, Path]) -> None:
    for model, pretrained in (
        (clip_directory, None),
        (f"local-dir:{clip_directory}", None),
        ("ViT-B-32", versions["first.bin"]),
    ):
        with pytest.raises(ValueError, match=r"revision 'v1' is one of a hub repository, but '.*' is local") as caught:
            CLIPScore(model, pretrained, revision="v1")
        assert "\n" not in str(caught.value)


def test_paths_may_start_at_the_users_directory(
    clip_directory: Path, versions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TowerSource("ViT-B-32", "~/first.bin").label == TowerSource("ViT-B-32", versions["first.bin"]).label
    assert TowerSource("ViT-B-32", Path("~/first.bin")).label.startswith("ViT-B-32/first.bin/")
    (tmp_path / "model").symlink_to(clip_directory)
    for model in ("~/model", "local-dir:~/model", Path("~/model")):
        assert TowerSource(model).directory == clip_directory.resolve()


def test_a_towers_licence_is_flagged(published: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    from open_clip import pretrained

    pretrained._PRETRAINED["tiny-published"]["dfn2b"] = pretrained._PRETRAINED["tiny-published"]["web"]
    Aesthetic(model="tiny-published", pretrained="dfn2b").source.tower()
    assert [record.getMessage() for record in caplog.records if "tiny-published" in record.getMessage()]
