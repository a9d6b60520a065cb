"""Consistency against DINOv2's own processor and model in transformers, and against cosines by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from contracts.verifier import VerifierContract
from verifiers import CLIPScore, WeightsError
from verifiers.consistency import DINO_INPUT, Consistency
from verifiers.inputs.classifier import ClassifierInput


@pytest.fixture(scope="session")
def dino_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    directory = tmp_path_factory.mktemp("dino") / "tiny-dino"
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=518, patch_size=14, mlp_ratio=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Dinov2Model(config)
        for parameter in model.parameters():  # else a random model sees all images alike
            parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(directory)
    return directory


def other(images: Tensor) -> Tensor:
    """Predictions that differ from the images, row by row; finite, as the images of a call may not be."""
    return (images.detach().nan_to_num(0.5, 0.5, 0.5).float() * 0.8 + 0.1).flip(-1).clamp(0, 1)


class TestDino(VerifierContract):
    @pytest.fixture
    def source(self, dino_directory):
        return {"model": dino_directory}

    @pytest.fixture
    def verifier(self, source):
        return Consistency(**source)

    @pytest.fixture
    def in_bfloat16(self, source):
        return Consistency(**source, precision="bf16")


class TestTower(TestDino):
    @pytest.fixture
    def source(self, clip_directory):
        return {"features": "clip", "model": clip_directory}


def test_preprocessing_is_that_of_dinos_own_processor():
    from transformers import BitImageProcessorPil

    size = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 3}
    theirs = BitImageProcessorPil(**size, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    assert ClassifierInput.of_transformers(theirs) == DINO_INPUT  # which test_classes.py holds against its pixels


def test_score_is_the_cosine_of_class_tokens(dino_directory, images, prompts):
    from transformers import Dinov2Model

    model = Dinov2Model.from_pretrained(dino_directory).eval()
    x0 = other(images)
    with torch.no_grad():
        tokens = [model(DINO_INPUT(x)).last_hidden_state[:, 0].double() for x in (x0, images)]
    scores = Consistency(model=dino_directory)(images, prompts, x0=x0)
    torch.testing.assert_close(scores.double(), F.cosine_similarity(*tokens), atol=1e-5, rtol=0)
    assert scores.std() > 1e-4


@pytest.mark.parametrize("features", ["dino", "clip"])
def test_equal_images_score_1(features, dino_directory, clip_directory, images, prompts):
    verifier = Consistency(features=features, model=dino_directory if features == "dino" else clip_directory)
    scores = verifier(images, prompts, x0=images)
    torch.testing.assert_close(scores, torch.ones(5), atol=1e-5, rtol=0)


def test_a_clip_and_its_consistency_encode_the_finished_image_once(clip_directory, images, prompts):
    clip, consistency = CLIPScore(clip_directory), Consistency(features="clip", model=clip_directory)
    tower = clip.source.tower()
    before = tower.images_encoded
    consistency(images, prompts, x0=other(images))
    clip(images, prompts)
    assert tower.images_encoded - before == 10, "five x0 predictions and five images"


def test_a_gradient_reaches_both(dino_directory, images, prompts):
    images, x0 = images.requires_grad_(), other(images).requires_grad_()
    Consistency(model=dino_directory)(images, prompts, x0=x0, grad=True).sum().backward()
    for given in (images, x0):
        assert given.grad is not None and (given.grad.flatten(1).abs().amax(1) > 0).all()


def test_a_prediction_that_is_not_finite_stays_in_its_row(dino_directory, images, prompts):
    verifier, x0 = Consistency(model=dino_directory), other(images)
    expected = verifier(images, prompts, x0=x0)
    x0[2, 0, 0, 0] = torch.nan
    scores = verifier(images, prompts, x0=x0)
    assert scores.isnan().tolist() == [False, False, True, False, False]
    torch.testing.assert_close(scores[[0, 1, 3, 4]], expected[[0, 1, 3, 4]], atol=1e-5, rtol=0)


def test_wrong_predictions_and_options_are_told(dino_directory, images, prompts, tmp_path):
    verifier = Consistency(model=dino_directory)
    wrong: list[tuple[Any, str]] = [
        (images * 255, "x0: .*images / 255"),
        (images[0], r"x0: .*\[batch, 3, height, width\]"),
        (images[:3], "5 images but 3 x0 predictions"),
        (None, "x0: "),
    ]
    for x0, message in wrong:
        with pytest.raises((TypeError, ValueError), match=message):
            verifier(images, prompts, x0=x0)
    with pytest.raises(ValueError, match=r"needs \['x0'\]"):
        verifier(images, prompts)
    for options, message in [
        ({"noise_level": 1.0}, "noise_level is 1.0; expected a number between 0"),
        ({"features": "vgg"}, "expected 'dino'"),
        ({"pretrained": "openai"}, "belongs to features='clip'"),
        ({"precision": "half"}, "precision is 'half'; expected one of float32, bfloat16, float16, fp32"),
    ]:
        with pytest.raises(ValueError, match=message):
            Consistency(**options)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="does not exist"):
        Consistency(model=tmp_path / "none").load()


def test_version_names_level_and_features(dino_directory, clip_directory):
    keys = {
        Consistency(level, features, model=model).key
        for level in (0.4, 0.6)
        for features, model in (("dino", dino_directory), ("clip", clip_directory))
    }
    assert len(keys) == 4
    assert Consistency(model=dino_directory).version.startswith("0.4/tiny-dino/")
    assert Consistency().version.startswith("0.4/facebook/dinov2-base@")
