"""The aesthetic heads against the published modules."""

import pytest
import torch
from torch import Tensor, nn

from tiny.clip import WIDTH, published_head, save_head
from verifiers import Aesthetic, CLIPScore, WeightsError
from verifiers.loading.weights import collapsed_head, linear_head


def test_collapse_equals_the_published_chain():
    published = published_head(768)
    tensors = {f"layers.{name}": value for name, value in published.state_dict().items()}
    assert sorted(tensors)[::2] == [f"layers.{i}.bias" for i in (0, 2, 4, 6, 7)]
    assert sum(value.numel() for value in tensors.values()) == 927_969
    embeddings = nn.functional.normalize(torch.randn(50, 768, generator=torch.Generator().manual_seed(0)), dim=1)
    head = collapsed_head(tensors)
    with torch.no_grad():
        expected = published(embeddings)[:, 0]
    torch.testing.assert_close(embeddings @ head.weight + head.bias, expected, atol=1e-6, rtol=0)


def test_relu_variant_is_refused():
    shapes = [(768, 1024), (1024, 128), (128, 64), (64, 16), (16, 1)]
    tensors: dict[str, Tensor] = {}
    for index, (inputs, outputs) in zip((0, 3, 6, 9, 11), shapes, strict=True):
        tensors |= {f"layers.{index}.weight": torch.zeros(outputs, inputs)}
        tensors |= {f"layers.{index}.bias": torch.zeros(outputs)}
    with pytest.raises(WeightsError, match=r"room for ReLUs.*use the linearMSE weights"):
        collapsed_head(tensors)


def test_other_heads_are_refused():
    good = {f"layers.{name}": value for name, value in published_head(8, (4, 1)).state_dict().items()}
    two_outputs = {f"layers.{name}": value for name, value in published_head(8, (4, 2)).state_dict().items()}
    unchained = {**good, "layers.2.weight": torch.zeros(1, 5)}
    missing = {name: value for name, value in good.items() if name != "layers.0.bias"}
    for wrong, message in [
        (two_outputs, "expected a chain that ends in one output"),
        (unchained, "expected a chain"),
        (missing, "a v2 head has keys"),
        ({**good, "extra": torch.zeros(1)}, "a v2 head has keys"),
        ({"weight": torch.zeros(1, 8), "bias": torch.zeros(1)}, "is it version='v1'"),
        ({}, "a v2 head has keys"),
    ]:
        with pytest.raises(WeightsError, match=message):
            collapsed_head(wrong)
    with pytest.raises(WeightsError, match="is it version='v2'"):
        linear_head(good)


def test_scores_are_the_head_on_the_unit_embedding(clip_directory, tmp_path, images):
    published = published_head(WIDTH)
    aesthetic = Aesthetic(save_head(published, tmp_path / "head.safetensors"), model=clip_directory)
    tower = CLIPScore(clip_directory).source.tower()
    with torch.no_grad():
        raw = tower.model.encode_image(tower.preprocess(images))
        expected = published(raw / raw.norm(dim=1, keepdim=True))[:, 0]
    torch.testing.assert_close(aesthetic(images, ["whatever"] * 5), expected, atol=1e-5, rtol=0)


def test_a_shorter_chain_and_a_state_dict_wrapper(clip_directory, tmp_path, images):
    published = published_head(WIDTH, (16, 4, 1))
    torch.save({"state_dict": {f"mlp.{k}": v for k, v in published.state_dict().items()}}, tmp_path / "h.pth")
    short = Aesthetic(tmp_path / "h.pth", model=clip_directory)
    direct = Aesthetic(save_head(published, tmp_path / "h.safetensors", prefix=""), model=clip_directory)
    prompts = ["a"] * 5
    assert torch.equal(short(images, prompts), direct(images, prompts))
    assert short.version != direct.version  # different files
    assert short.describe()["weights_sha256"] == short.file.hash
    assert short.file.hash[:8] in short.version


def test_head_for_another_tower_is_refused(clip_directory, tmp_path, images):
    other = Aesthetic(save_head(published_head(48), tmp_path / "head.safetensors"), model=clip_directory)
    with pytest.raises(WeightsError, match=r"width 48, but tower 'tiny/.* makes 32"):
        other.load()


def test_files_that_are_no_heads(clip_directory, tmp_path):
    (tmp_path / "head.txt").write_text("no")
    (tmp_path / "broken.pth").write_text("no")
    torch.save({"layers.0.weight": print}, tmp_path / "code.pth")
    for name, message in [
        ("missing.pth", "is no file"),
        ("head.txt", "expected .safetensors or .pth"),
        ("broken.pth", "could not read 'broken.pth'"),
        ("code.pth", "could not read 'code.pth'"),
    ]:
        with pytest.raises(WeightsError, match=message):
            Aesthetic(tmp_path / name, model=clip_directory).load()


def test_no_network_is_one_clear_line(clip_directory, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = Aesthetic(model=clip_directory)
    assert hub.version.startswith("v2/aesthetic-model.pth/21dd590f/tiny/")
    assert hub.describe()["weights_sha256"].startswith("21dd590f")
    with pytest.raises(WeightsError, match=r"aesthetic-model.pth of trl-lib/ddpo-aesthetic-predictor") as caught:
        hub.load()
    assert "\n" not in str(caught.value)


def test_versions_are_checked(clip_directory):
    with pytest.raises(ValueError, match="version is 'v3'; expected"):
        Aesthetic(version="v3")
    with pytest.raises(ValueError, match=r"no v1 head is published for tower 'ViT-H-14'.*'ViT-B-32'.*pass weights"):
        Aesthetic(version="v1", model="ViT-H-14", pretrained="laion2b_s32b_b79k")


def test_published_v1_heads_go_with_their_towers():
    for tower, short in [
        ("ViT-L-14-quickgelu", "l_14"),
        ("ViT-B-32-quickgelu", "b_32"),
        ("ViT-B-16-quickgelu", "b_16"),
    ]:
        file = Aesthetic(version="v1", model=tower).file
        assert file.address == (
            f"https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_{short}_linear.pth"
        )
        assert file.sha256 is not None and len(file.sha256) == 64
