"""HPSv2 against open_clip's own forward pass and torchvision's own resizing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from contracts.verifier import VerifierContract, refused
from tiny.clip import HPS_MODEL, SIDE, hps_weights, write_tiny_hps
from verifiers.hps import CARD, HPS, PUBLISHED, LongestSide
from verifiers.inputs.preprocess import MEAN, STD, Preprocess
from verifiers.loading import hub as pins

SIZES = [(512, 512), (301, 517), (831, 333), (224, 150), (97, 224), (224, 224), (50, 33), (3, 1000), (17, 18)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_tiny_hps(tmp_path_factory.mktemp("hps"))


@pytest.fixture
def tiny(files):
    config, weights = files
    return HPS(weights=weights, model=config)


class TestHPS(VerifierContract):
    longest = ("cat " * 74 + "cat", 77)

    @pytest.fixture
    def verifier(self, tiny):
        return tiny

    @pytest.fixture
    def in_bfloat16(self, files):
        return HPS(weights=files[1], model=files[0], precision="bf16")


def with_torchvision(image: Tensor, side: int) -> Tensor:
    """The published preprocessing of one image, `[3, height, width]`."""
    from torchvision.transforms.v2 import functional as tv

    scale = side / max(image.shape[1:])
    size = [max(1, round(length * scale)) for length in image.shape[1:]]
    x = image if scale == 1 else tv.resize(image, size, tv.InterpolationMode.BICUBIC, antialias=True)
    rows, columns = side - x.shape[1], side - x.shape[2]
    padding = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
    return tv.normalize(tv.pad(x, padding, fill=0), list(MEAN), list(STD))


def noise(count: int, height: int, width: int) -> Tensor:
    """Images of 8-bit values, as PIL would hold them."""
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)) / 255


@pytest.mark.parametrize("size", SIZES)
def test_preprocessing_equals_torchvision(size):
    images = noise(2, *size)
    expected = torch.stack([with_torchvision(image, 224) for image in images])
    torch.testing.assert_close(LongestSide(224, MEAN, STD)(images), expected, atol=1e-6, rtol=0)


def test_open_clips_longest_is_another_preprocessing():
    images = noise(1, 301, 517)
    theirs = Preprocess((224, 224), MEAN, STD, resize_mode="longest")(images)
    assert (LongestSide(224, MEAN, STD)(images) - theirs).abs().max() > 0.03


@pytest.mark.parametrize("size", [(SIDE, SIDE), (SIDE, 17), (301, 517), (97, 33)])
def test_scores_equal_the_half_weights_in_open_clip(tiny, prompts, size):
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer

    model = CLIP(**HPS_MODEL).eval()
    model.load_state_dict({name: value.half().float() for name, value in hps_weights().items()})
    images = noise(5, *size)
    expected = []
    for one, prompt in zip(images, prompts, strict=True):
        with torch.no_grad():
            image, text, _ = model(with_torchvision(one, SIDE)[None], SimpleTokenizer()([prompt]))
        expected.append(float(image[0].double() @ text[0].double()))
    np.testing.assert_allclose(tiny(images, prompts), expected, atol=1e-6)
    assert np.ptp(expected) > 0.05


def test_an_image_scores_as_it_does_after_it_was_saved(tiny, images, prompts):
    saved = (images * 255).round().to(torch.uint8)
    assert torch.equal(tiny(images, prompts), tiny(saved / 255, prompts))


def test_plain_gelu(tiny):
    activation = tiny.source.tower().model.visual.transformer.resblocks[0].mlp.gelu
    x = torch.linspace(-4, 4, 33)
    torch.testing.assert_close(activation(x), x * 0.5 * (1 + torch.erf(x / 2**0.5)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["fp16", "pure_bf16"])
def test_other_precisions_of_the_tower(files, tiny, precision, images):
    scores = HPS(weights=files[1], model=files[0], precision=precision)(images, ["a cat"] * 5)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, tiny(images, ["a cat"] * 5), atol=0.05, rtol=0)


def test_version_names_the_weights(tiny, files, tmp_path):
    assert HPS().version == "2.1/HPS_v2.1_compressed.pt/c57a38fb"
    assert HPS("2.0").version == "2.0/HPS_v2_compressed.pt/07cb0d20"
    assert HPS(model="ViT-H-14-quickgelu").version == HPS().version + "/ViT-H-14-quickgelu"
    assert re.fullmatch(r"2\.1/HPS_tiny_compressed\.pt/[0-9a-f]{8}/tiny-hps\.json/[0-9a-f]{8}", tiny.version)
    other = tmp_path / "tiny-hps.json"
    other.write_text(json.dumps({**HPS_MODEL, "quick_gelu": True}))
    assert HPS(weights=files[1], model=other).version != tiny.version
    assert HPS(weights=files[1], model=files[0], precision="bf16").version == tiny.version + "/bf16"
    assert {file.repository for file in PUBLISHED.values()} == {CARD.weights}
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256 or "") and file.size for file in PUBLISHED.values())
    assert re.fullmatch("[0-9a-f]{40}", pins.commit(CARD.weights))


def test_configurations_of_one_name_are_different_models(tiny, files, tmp_path, images, prompts):
    config, weights = files
    other = tmp_path / config.name
    other.write_text(json.dumps({**HPS_MODEL, "quick_gelu": True}))
    expected = tiny(images, prompts)
    assert (HPS(weights=weights, model=other)(images, prompts) - expected).abs().max() > 1e-5
    assert torch.equal(HPS(weights=weights, model=config)(images, prompts), expected)
    assert HPS(weights=weights, model=config).source.tower() is tiny.source.tower()


def test_a_configuration_does_not_replace_open_clips_own(files, tmp_path):
    import open_clip

    own, models = open_clip.get_model_config("ViT-H-14"), set(open_clip.list_models())
    (tmp_path / "ViT-H-14.json").write_text(json.dumps(HPS_MODEL))
    HPS(weights=files[1], model=tmp_path / "ViT-H-14.json").load()
    assert open_clip.get_model_config("ViT-H-14") == own
    (tmp_path / "ViT-H-14.json").unlink()
    (tmp_path / "broken.json").write_text("{")
    with refused(r"configuration 'broken.json' is no JSON \(Expecting"):
        HPS(weights=files[1], model=tmp_path / "broken.json").load()
    assert set(open_clip.list_models()) >= models


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_weights_are_those_of_the_pinned_commit_and_checked(hub, files, version):
    name, commit = PUBLISHED[version].filename, pins.commit(CARD.weights)
    hub.add(CARD.weights, {name: files[1]}, commit)
    with refused(f"{name} of xswu/HPSv2@{commit[:8]} has sha256 .* the file is damaged"):
        HPS(version).load()


def test_what_is_wrong_with_weights_is_said_in_one_line(hub, files, tmp_path):
    lacking = hps_weights()
    del lacking["visual.proj"]
    torch.save({"state_dict": lacking}, tmp_path / "lacking.pt")
    torch.save({"state_dict": {"logit_scale": torch.ones(())}}, tmp_path / "another.pt")
    torch.save({"state_dict": hps_weights(), "code": Path}, tmp_path / "pickle.pt")
    (tmp_path / "broken.pt").write_bytes(b"no tensors")
    for name in ("lacking", "another", "pickle", "broken"):
        with refused("could not load 'tiny-hps-[0-9a-f]{12}' with weights"):
            HPS(weights=tmp_path / f"{name}.pt", model=files[0]).load()
    for options, message in (
        ({}, r"could not get HPS_v2.1_compressed.pt of xswu/HPSv2 at revision .*check the network"),
        ({"weights": tmp_path / "none.pt"}, "is no file"),
        ({"weights": files[1], "model": "ViT-Z"}, "open_clip has no model 'ViT-Z'"),
    ):
        with refused(message):
            HPS(**options).load()
