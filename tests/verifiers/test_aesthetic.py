"""The aesthetic heads against the published modules."""

import pytest
import torch
from torch import nn

from contracts.verifier import refused
from tiny.clip import WIDTH, published_head, save_head
from verifiers import Aesthetic, CLIPScore
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


GOOD = published_head(8, (4, 1)).state_dict()
RELU = {f"{3 * i}.{part}": torch.zeros(1, 1) for i in range(4) for part in ("weight", "bias")}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (published_head(8, (4, 2)).state_dict(), "expected a chain that ends in one output"),
        ({**GOOD, "2.weight": torch.zeros(1, 5)}, "expected a chain"),
        ({name: value for name, value in GOOD.items() if name != "0.bias"}, "a v2 head has keys"),
        ({**GOOD, "extra": torch.zeros(1)}, "a v2 head has keys"),
        (RELU, r"room for ReLUs.*use the linearMSE weights"),
        ({}, "a v2 head has keys"),
    ],
)
def test_other_heads_are_refused(head, message):
    with refused(message):
        collapsed_head({f"layers.{name}": value for name, value in head.items()})


def test_versions_are_not_mixed_up():
    with refused("is it version='v1'"):
        collapsed_head({"weight": torch.zeros(1, 8), "bias": torch.zeros(1)})
    with refused("is it version='v2'"):
        linear_head(GOOD)


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
    with refused(r"width 48, but tower 'tiny/.* makes 32"):
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
        with refused(message):
            Aesthetic(tmp_path / name, model=clip_directory).load()


def test_no_network_is_one_clear_line(hub, clip_directory):
    published = Aesthetic(model=clip_directory)
    assert published.version.startswith("v2/aesthetic-model.pth/21dd590f/tiny/")
    assert published.describe()["weights_sha256"].startswith("21dd590f")
    with refused("aesthetic-model.pth of trl-lib/ddpo-aesthetic-predictor"):
        published.load()


@pytest.mark.parametrize(("tower", "short"), [("ViT-L-14", "l_14"), ("ViT-B-32", "b_32"), ("ViT-B-16", "b_16")])
def test_published_v1_heads_go_with_their_towers(tower, short):
    file = Aesthetic(version="v1", model=f"{tower}-quickgelu").file
    assert file.address == f"https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_{short}_linear.pth"
    assert len(file.sha256) == 64
