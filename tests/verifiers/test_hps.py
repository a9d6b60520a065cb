"""HPSv2 against open_clip's own forward pass and torchvision's own resizing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_hps import CONFIG, SIDE, tiny_weights, write_tiny_hps
from torch import Tensor
from verifier_contract import VerifierContract

from verifiers import Verifier, WeightsError
from verifiers.hps import CARD, HPS, PUBLISHED, LongestSide
from verifiers.preprocess import Preprocess

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [(512, 512), (301, 517), (831, 333), (224, 150), (97, 224), (224, 224), (50, 33), (3, 1000), (17, 18)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tiny_hps(tmp_path_factory.mktemp("hps"))


@pytest.fixture
def tiny(files: tuple[Path, Path]) -> HPS:
    config, weights = files
    return HPS(weights=weights, model=config)


class TestHPS(VerifierContract):
    @pytest.fixture
    def verifier(self, tiny: HPS) -> Verifier:
        return tiny


@pytest.mark.parametrize("size", SIZES)
def test_preprocessing_equals_torchvision(size: tuple[int, int]) -> None:
    from torchvision.transforms.v2 import functional as tv

    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0)) / 255
    scale = 224 / max(size)
    side = [round(length * scale) for length in size]
    side = [max(1, length) for length in side]
    expected = image if scale == 1 else tv.resize(image, side, tv.InterpolationMode.BICUBIC, antialias=True)
    rows, columns = 224 - expected.shape[1], 224 - expected.shape[2]
    padding = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
    expected = tv.normalize(tv.pad(expected, padding, fill=0), list(MEAN), list(STD))
    found = LongestSide(224, MEAN, STD)(image[None])[0]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_open_clips_longest_is_another_preprocessing() -> None:
    images = torch.randint(0, 256, (1, 3, 301, 517), generator=torch.Generator().manual_seed(0)) / 255
    theirs = Preprocess((224, 224), MEAN, STD, resize_mode="longest")(images)
    assert (LongestSide(224, MEAN, STD)(images) - theirs).abs().max() > 0.03


def test_scores_equal_the_half_weights_in_open_clip(tiny: HPS, prompts: list[str]) -> None:
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer

    model = CLIP(**CONFIG).eval()
    model.load_state_dict({name: value.half().float() for name, value in tiny_weights().items()})
    images = torch.randint(0, 256, (5, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) / 255
    inputs = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        image, text, _ = model(inputs, SimpleTokenizer()(prompts))
    cosine = (image.double().numpy() * text.double().numpy()).sum(1)
    np.testing.assert_allclose(tiny(images, prompts), cosine, atol=1e-6)


def test_plain_gelu(tiny: HPS) -> None:
    activation = tiny.source.tower().model.visual.transformer.resblocks[0].mlp.gelu
    x = torch.linspace(-4, 4, 33)
    torch.testing.assert_close(activation(x), x * 0.5 * (1 + torch.erf(x / 2**0.5)), atol=1e-6, rtol=0)


def test_prompts_beyond_77_tokens_are_cut_with_a_warning(tiny: HPS, images: Tensor) -> None:
    fits = "cat " * 75
    with pytest.warns(UserWarning, match=r"has 78 tokens, the verifier reads 77.*'dog'"):
        longer = tiny(images[:1], [fits + "dog"])
    torch.testing.assert_close(longer, tiny(images[:1], [fits]), atol=1e-6, rtol=0)


def test_half_tower(tiny: HPS, files: tuple[Path, Path], images: Tensor, prompts: list[str]) -> None:
    half = HPS(weights=files[1], model=files[0], precision="bf16")
    scores = half(images, prompts)
    assert scores.dtype == torch.float32
    assert (scores.bfloat16().float() != scores).sum() >= 4  # products were not taken in half
    assert 0 < (scores - tiny(images, prompts)).abs().max() < 0.05
    assert half.version == tiny.version + "/bf16"


def test_version_names_the_weights(tiny: HPS) -> None:
    assert HPS().version == "2.1/HPS_v2.1_compressed.pt/c57a38fb"
    assert HPS("2.0").version == "2.0/HPS_v2_compressed.pt/07cb0d20"
    assert tiny.version.startswith("2.1/HPS_tiny_compressed.pt/")
    assert all(file.sha256 and file.size for file in PUBLISHED.values())
    assert CARD.prompt_limit == "77 tokens"


def test_what_is_wrong_is_said_in_one_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"version is '2.2'; expected one of \('2.1', '2.0'\)"):
        HPS("2.2")
    with pytest.raises(WeightsError, match="is no file"):
        HPS(weights=tmp_path / "none.pt").load()
    with pytest.raises(WeightsError, match=r"could not get HPS_v2.1_compressed.pt of xswu/HPSv2.*check the network"):
        HPS().load()
    wrong = tmp_path / "wrong.pt"
    torch.save({"state_dict": {"logit_scale": torch.ones(())}}, wrong)
    with pytest.raises(WeightsError, match="could not load 'tiny-hps'"):
        HPS(weights=wrong, model=files[0]).load()
