"""Missing or unfitting weights: one clear error, never random weights."""

import json
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub
from tiny_clip import write_tiny_clip, write_tokenizer
from torch import Tensor

from verifiers import CLIPScore, WeightsError


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
    from safetensors.torch import save_file

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
