"""Loaded models are shared: between threads, between modes of autograd, and only where they are the same."""

from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tiny.classes import save_torchvision, torchvision_model, write_linear_head
from tiny.clip import write_tiny_clip
from tiny.rewards import reward_tensors, write_bert_tokenizer, write_pickscore
from verifiers import ClassScore, CLIPScore, unload
from verifiers.classes.torchvision import TorchvisionClassifier
from verifiers.image_reward import ImageReward
from verifiers.loading import blip, pretrained
from verifiers.loading import tower as towers
from verifiers.loading.pretrained import Pretrained
from verifiers.loading.tower import Tower
from verifiers.loading.weights import WeightFile
from verifiers.pickscore import PickScore


@pytest.fixture
def tower(clip_directory):
    shared = CLIPScore(clip_directory).source.tower()
    return Tower(shared.model, shared.tokenizer)


class Contended(dict[Any, Tensor]):
    """A cache whose oldest entry another thread evicts at the worst moments: once looked for, once listed."""

    def _evict(self) -> None:
        if self:
            self.pop(next(super().__iter__()))

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self._evict()
        return found

    def __iter__(self) -> Iterator[Any]:
        keys = list(super().__iter__())
        self._evict()
        return iter(keys)


def test_a_batch_that_another_thread_scores_meanwhile_does_not_change_this_one(tower, images, monkeypatch):
    other, mine = tower.image(images[:2]).clone(), tower.image(images[2:4]).clone()
    equal = torch.equal

    def equal_then_another_thread(left: Tensor, right: Tensor) -> bool:
        found = equal(left, right)
        monkeypatch.setattr(torch, "equal", equal)
        tower.image(images[:2])
        return found

    monkeypatch.setattr(torch, "equal", equal_then_another_thread)
    torch.testing.assert_close(tower.image(images[2:4]), mine)
    assert not torch.allclose(mine, other, atol=1e-3)


def test_texts_that_another_thread_evicts_meanwhile_are_encoded_again(tower):
    prompts = ["a red circle", "a blue square", "the star", "photo"]
    expected = tower.text(prompts)
    tower.texts.most = 1
    for kept in (prompts[:1], prompts):
        tower.texts.kept = Contended(zip(kept, tower.text(kept), strict=True))
        torch.testing.assert_close(tower.text(prompts), expected)


def made_in_inference_mode(model: nn.Module) -> set[str]:
    """Parameters and buffers that can't be saved for a backward pass."""
    return {name for name, value in model.state_dict(keep_vars=True).items() if value.is_inference()}


# Moving to another device makes new tensors; "meta" is one that every machine has.
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_that_load_in_inference_mode_serve_gradients_later(tmp_path, device):
    dino = write_linear_head(tmp_path / "dino")
    save_file(reward_tensors(), tmp_path / "reward.safetensors")
    reward = WeightFile.local(tmp_path / "reward.safetensors")
    file = save_torchvision(torchvision_model("squeezenet1_1", 10), tmp_path / "small.pth")
    classifier = TorchvisionClassifier("squeezenet1_1", file, [f"class {i}" for i in range(10)], dtype=torch.bfloat16)
    with torch.inference_mode():
        models = {
            "pretrained": Pretrained(dino, "Dinov2ForImageClassification").model(device),
            "blip": blip.shared(reward, torch.bfloat16, torch.device(device)),
            "torchvision": classifier._model(device),
        }
    assert {name: made_in_inference_mode(model) for name, model in models.items()} == {name: set() for name in models}


def test_verifiers_first_called_in_inference_mode_give_gradients_later(tmp_path, images):
    save_file(reward_tensors(), tmp_path / "reward.safetensors")
    tokenizer = write_bert_tokenizer(tmp_path / "bert")
    file = save_torchvision(torchvision_model("squeezenet1_1", 10), tmp_path / "small.pth")
    classes = [f"class {i}" for i in range(10)]
    for verifier in (
        ImageReward(tmp_path / "reward.safetensors", tokenizer=tokenizer, dtype="bfloat16"),
        ClassScore(
            label=3, backend="inception", model="squeezenet1_1", pretrained=file, classes=classes, precision="bf16"
        ),
        PickScore(write_pickscore(tmp_path / "pickscore"), dtype="bfloat16"),
        CLIPScore(write_tiny_clip(tmp_path / "another"), output="cosine"),
    ):
        state = torch.get_rng_state()
        with torch.inference_mode():
            verifier(images, ["a red circle"] * 5)
        assert torch.equal(torch.get_rng_state(), state)  # though random weights were made before the true ones
        asked = images.clone().requires_grad_()
        verifier(asked, ["a red circle"] * 5, grad=True).sum().backward()
        assert asked.grad is not None and asked.grad.abs().sum() > 0


def test_unloading_frees_what_no_verifier_uses(tmp_path):
    clip = CLIPScore(write_tiny_clip(tmp_path / "to unload"))
    pick = PickScore(write_pickscore(tmp_path / "picks to unload"))
    used = PickScore(write_pickscore(tmp_path / "picks in use", vocab_size=600))
    tower, model, kept = ref(clip.source.tower()), ref(pick.source.model()), ref(used.source.model())
    assert CLIPScore(tmp_path / "to unload").source.tower() is tower()
    del clip, pick
    assert tower() is not None and model() is not None  # else a search after this one would load them again
    unload()
    assert tower() is None and model() is None and kept() is used.source.model()
    assert not any(label.startswith("to unload") for _, label, _ in towers.SHARED.models)
    assert not any("picks to unload" in key[0] for key in pretrained.SHARED.models)
    assert CLIPScore(tmp_path / "to unload").source.tower().device.type == "cpu"
