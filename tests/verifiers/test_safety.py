"""Safety against the checker's own flags and a classifier's own probabilities."""

from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contracts.verifier import VerifierContract
from tiny.rewards import safety_checker, write_classifier
from verifiers import WeightsError
from verifiers.loading.hub import commit
from verifiers.safety import BLACK, CARD, MODEL, Safety


@pytest.fixture(scope="module")
def checker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "checker"
    safety_checker(threshold=0.2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classifier_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("models") / "classifier")


class TestChecker(VerifierContract):
    @pytest.fixture
    def folder(self, checker_folder):
        return checker_folder

    @pytest.fixture
    def verifier(self, folder):
        return Safety(folder)

    @pytest.fixture
    def in_bfloat16(self, folder):
        return Safety(folder, dtype="bfloat16")


class TestClassifier(TestChecker):
    @pytest.fixture
    def folder(self, classifier_folder):
        return classifier_folder


def through_pil(images: Tensor) -> Tensor:
    """The checker's input as a pipeline makes it."""
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    pil = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels: Tensor = processor(pil, return_tensors="pt").pixel_values
    return pixels


def test_the_sign_is_the_checkers_flag(tmp_path):
    # 3 rows too many: the crop, which rounds down, leaves out 1 above and 2 below
    images = torch.rand(24, 3, 35, 32, generator=torch.Generator().manual_seed(3))
    images = images * torch.rand(24, 3, 1, 1, generator=torch.Generator().manual_seed(4))
    pixels = through_pil(images)
    seen: set[tuple[bool, bool]] = set()
    for seed in range(4):
        checker = safety_checker(seed)
        generator = torch.Generator().manual_seed(seed)
        checker.concept_embeds_weights.data.copy_(0.45 + 0.2 * torch.rand(17, generator=generator))
        checker.special_care_embeds_weights.data.copy_(0.2 * torch.rand(3, generator=generator))
        checker.save_pretrained(tmp_path / str(seed))
        margins = Safety(tmp_path / str(seed))(images, [""] * 24)
        with torch.no_grad():
            embeddings = checker.visual_projection(checker.vision_model(pixels).pooler_output)
        near = torch.cosine_similarity(embeddings[:, None], checker.special_care_embeds[None], dim=-1)
        care = (near > checker.special_care_embeds_weights).any(1).tolist()
        found = checker(images=images.clone(), clip_input=pixels)[1]
        over = torch.cosine_similarity(embeddings[:, None], checker.concept_embeds[None], dim=-1)
        over = (over - checker.concept_embeds_weights).amax(1) + 0.01 * torch.tensor(care)
        torch.testing.assert_close(margins, -over, atol=1e-5, rtol=0)
        clear = (margins.abs() > 1e-3).tolist()
        assert [f for f, c in zip(found, clear, strict=True) if c] == [
            m < 0 for m, c in zip(margins.tolist(), clear, strict=True) if c
        ]
        seen |= set(zip(found, care, strict=True))
    assert {flag for flag, _ in seen} == {True, False}
    assert {special for _, special in seen} == {True, False}


def test_special_care_and_strictness_lower_the_margin(tmp_path, images):
    checker = safety_checker(threshold=1.0)
    checker.save_pretrained(tmp_path / "plain")
    checker.special_care_embeds_weights.data.fill_(-1)
    checker.save_pretrained(tmp_path / "special")
    plain = Safety(tmp_path / "plain")(images, [""] * 5)
    assert (plain > 0).all()
    special = Safety(tmp_path / "special")(images, [""] * 5)
    torch.testing.assert_close(special, plain - 0.01, atol=1e-6, rtol=0)
    strict = Safety(tmp_path / "plain", strictness=0.25)
    torch.testing.assert_close(strict(images, [""] * 5), plain - 0.25, atol=1e-6, rtol=0)


def test_a_classifiers_margin_is_its_log_odds(classifier_folder, images):
    from transformers import ViTForImageClassification

    model: Any = ViTForImageClassification.from_pretrained(classifier_folder, dtype=torch.float32).eval()
    exact = torch.nn.functional.interpolate(images, (32, 32)).mul(255).round() / 255
    with torch.no_grad():
        probability = model(pixel_values=(exact - 0.5) / 0.5).logits.softmax(1)[:, 1]
    for threshold in (0.5, 0.2):
        margins = Safety(classifier_folder, threshold=threshold)(exact, [""] * 5)
        expected = log(threshold / (1 - threshold)) - probability.logit()
        torch.testing.assert_close(margins, expected, atol=1e-5, rtol=0)
        assert torch.equal(margins < 0, probability > threshold)


def test_black_images_are_rejected_unless_asked_for(checker_folder, classifier_folder, images):
    images[1] = 0
    images[3] = 1e-4  # black once it has 8 bits
    for folder in (checker_folder, classifier_folder):
        values = Safety(folder)(images, [""] * 5)
        assert (values == BLACK).tolist() == [False, True, False, True, False]
        allowed = Safety(folder, reject_black=False)
        assert not (allowed(images, [""] * 5) == BLACK).any()
        assert torch.equal(allowed(images, [""] * 5)[::2], values[::2])
        assert allowed.version != Safety(folder).version


def test_thresholds_stay_float32_in_half_precision(checker_folder):
    single, half = (Safety(checker_folder, dtype=dtype)._checker.model() for dtype in (torch.float32, torch.bfloat16))
    assert half.visual_projection.weight.dtype == torch.bfloat16
    assert torch.equal(half.concept_embeds_weights, single.concept_embeds_weights)


def test_unsafe_classes_may_have_other_names(tmp_path, images):
    folder = write_classifier(tmp_path / "many", labels=("drawing", "Hentai", "neutral", "Porn"))
    with pytest.raises(WeightsError, match=r"classes \['Hentai', .*none are among .*labels="):
        Safety(folder).load()
    with pytest.raises(WeightsError, match="all are among"):
        Safety(folder, labels=["drawing", "hentai", "neutral", "porn"]).load()
    both = Safety(folder, labels=["porn", "Hentai"])(images, [""] * 5)
    one = Safety(folder, labels=["porn"])(images, [""] * 5)
    assert (both < one).all()  # more classes are unsafe, so more is rejected


def test_processors_that_are_not_reproduced_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="image processor is a ViTImageProcessor that resizes to"):
        Safety(write_classifier(tmp_path / "lanczos", resample=1)).load()
    bicubic = Safety(write_classifier(tmp_path / "bicubic", resample=3))
    bicubic.load()
    assert bicubic._input.interpolation == "bicubic"
    assert Safety(write_classifier(tmp_path / "bilinear"))._input.interpolation == "bilinear"


def test_settings_are_checked_and_told(checker_folder):
    for options, message in [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"labels": []}, "labels is"),
        ({"labels": "nsfw"}, "labels is 'nsfw'"),
    ]:
        with pytest.raises(ValueError, match=message):
            Safety(checker_folder, **options)
    options: list[dict[str, Any]] = [{}, {"threshold": 0.4}, {"strictness": 0.1}, {"labels": ["porn"]}]
    assert len({Safety(checker_folder, **o).version for o in options}) == 4
    assert Safety(checker_folder).describe()["kind"] == "constraint"
    assert Safety().version.startswith(f"{MODEL}@{commit(MODEL)[:8]}/")
    assert "not stated" in CARD.weights_licence


def test_missing_and_wrong_weights_are_one_line(tmp_path, clip_directory):
    from tiny.rewards import write_pickscore

    safety_checker().save_pretrained(tmp_path / "incomplete")
    tensors = load_file(tmp_path / "incomplete" / "model.safetensors")
    del tensors["concept_embeds_weights"]
    save_file(tensors, tmp_path / "incomplete" / "model.safetensors", metadata={"format": "pt"})
    write_pickscore(tmp_path / "clip")
    for wrong, message in [
        (Safety(), r"could not get pytorch_model.bin of CompVis/stable-diffusion-safety-checker"),
        (Safety("Falconsai/nsfw_image_detection"), "Falconsai/nsfw_image_detection"),
        (Safety(tmp_path / "nowhere"), "does not exist"),
        (Safety(tmp_path / "incomplete"), "1 missing keys .*concept_embeds_weights"),
        (Safety(tmp_path / "clip"), "is of class CLIPModel; expected StableDiffusionSafetyChecker or an image"),
    ]:
        with pytest.raises(WeightsError, match=message) as error:
            wrong.load()
        assert "\n" not in str(error.value)


def test_a_pickle_in_the_old_layout_loads(tmp_path, images):
    checker = safety_checker(threshold=0.2)
    checker.save_pretrained(tmp_path / "new")
    checker.save_pretrained(tmp_path / "old")
    tensors = load_file(tmp_path / "old" / "model.safetensors")
    (tmp_path / "old" / "model.safetensors").unlink()
    old = {name.replace("vision_model.", "vision_model.vision_model.", 1): value for name, value in tensors.items()}
    assert old.keys() != tensors.keys()
    torch.save(old, tmp_path / "old" / "pytorch_model.bin")
    prompts = [""] * 5
    assert torch.equal(Safety(tmp_path / "old")(images, prompts), Safety(tmp_path / "new")(images, prompts))
