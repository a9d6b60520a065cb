"""The yes/no verifier against transformers' own generation, one image at a time, on tiny models from configurations."""

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from contracts.verifier import VerifierContract
from tiny.hpsv3 import write_base
from tiny.vlm import KINDS, QWEN_CHAT, WHOLE, WORDS, write_tiny_vlm
from verifiers import WeightsError
from verifiers.hpsv3 import HPSv3
from verifiers.inputs.vlm import is_resized, resized, smart_resize, target
from verifiers.vlm import PRESETS, QUESTION, VLM, Asked, combine, fill


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vlm")
    return {kind: write_tiny_vlm(root / kind, kind) for kind in KINDS + WHOLE}


class TestContract(VerifierContract):
    kind = "qwen3_vl"
    options: ClassVar[dict[str, Any]] = {"batch": 3}

    @pytest.fixture
    def verifier(self, folders):
        return VLM(folders[self.kind], **self.options)

    @pytest.fixture
    def in_bfloat16(self, folders):
        return VLM(folders[self.kind], **self.options, dtype="bfloat16")


class TestContractOfLlava(TestContract):
    kind = "llava"
    options: ClassVar[dict[str, Any]] = {"questions": ["Is there {}?", "Does this image show {}?"]}


class TestContractOfTiles(TestContract):
    kind = "llava_onevision"
    options: ClassVar[dict[str, Any]] = {"pixels": 64 * 64}


@torch.no_grad()
def first_logits(folder: Path, image: Tensor, question: str) -> tuple[Tensor, Any]:
    """Logits of the first generated token for one 8-bit image, by `generate`; the processor's resize isn't PIL's."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": question}]
    chat = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    picture = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    inputs = processor(text=[chat], images=[picture], return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True)
    return made.logits[0][0], processor.tokenizer


def log_odds(logits: Tensor, words: Any) -> float:
    chances = logits.double().softmax(-1)
    yes, no = words.convert_tokens_to_ids(["Yes", "yes"]), words.convert_tokens_to_ids(["No", "no"])
    return math.log(float(chances[yes].sum())) - math.log(float(chances[no].sum()))


SIZES = {"qwen2_5_vl": (56, 84), "qwen3_vl": (64, 96), "llava": (32, 32)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestAgainstGenerate:
    def test_log_odds(self, folders, kind, prompts):
        """Prompts of different lengths in one batch."""
        images = torch.rand(5, 3, *SIZES[kind], generator=torch.Generator().manual_seed(3))
        scores = VLM(folders[kind], batch=5)(images, prompts)
        expected = [
            log_odds(*first_logits(folders[kind], image, QUESTION.format(prompt)))
            for image, prompt in zip(images, prompts, strict=True)
        ]
        torch.testing.assert_close(scores, torch.tensor(expected), atol=2e-5, rtol=0)

    def test_right_padding_would_differ(self, folders, kind, prompts):
        images = torch.rand(5, 3, *SIZES[kind], generator=torch.Generator().manual_seed(3))
        right = VLM(folders[kind], batch=5)
        expected = right(images, prompts)
        right._processor.tokenizer.padding_side = "right"
        assert ((right(images, prompts) - expected).abs() > 1e-2).any()

    def test_vqascore_is_the_chance_of_yes(self, folders, kind):
        images = torch.rand(2, 3, *SIZES[kind], generator=torch.Generator().manual_seed(4))
        scores = VLM.vqascore(folders[kind])(images, ["a red circle"] * 2)
        for image, score in zip(images, scores, strict=True):
            logits, words = first_logits(folders[kind], image, 'Does this image show "a red circle"?')
            chance = logits.double().softmax(-1)[words.convert_tokens_to_ids("Yes")]
            torch.testing.assert_close(score.double(), chance, atol=1e-6, rtol=0)

    def test_gradient_reaches_every_image(self, folders, kind, images):
        images.requires_grad_()
        VLM(folders[kind])(images, ["a red circle"] * 5, grad=True).sum().backward()
        assert images.grad is not None
        assert (images.grad.flatten(1).abs().amax(1) > 0).all()


class TestQuestions:
    def test_mean_and_product(self, folders, images):
        templates = ["Is there {}?", "Does this image show {}?", "Is {} in this image?"]
        alone = torch.stack([VLM(folders["llava"], question=t)(images, ["a star"] * 5) for t in templates]).sigmoid()
        mean = VLM(folders["llava"], questions=templates)(images, ["a star"] * 5)
        product = VLM(folders["llava"], questions=templates, combine="product")(images, ["a star"] * 5)
        torch.testing.assert_close(mean, alone.mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(product, alone.prod(0), atol=1e-5, rtol=0)

    def test_different_numbers_per_prompt(self, folders, images):
        asked = {"a": ["Is there a circle?"], "b": ["Is there a star?", "Is there a square?"]}
        by_mapping = VLM(folders["llava"], questions=asked, batch=2)(images[:3], ["b", "a", "b"])
        by_function = VLM(folders["llava"], questions=asked.__getitem__)(images[:3], ["b", "a", "b"])
        torch.testing.assert_close(by_mapping, by_function, atol=1e-6, rtol=0)
        alone = [VLM(folders["llava"], questions=asked)(images[i : i + 1], [p]) for i, p in enumerate("bab")]
        torch.testing.assert_close(by_mapping, torch.cat(alone), atol=1e-5, rtol=0)

    def test_closed_form(self):
        odds = torch.tensor([0.0, math.log(3)])
        assert combine(odds, "mean").item() == pytest.approx((0.5 + 0.75) / 2)
        assert combine(odds, "product").item() == pytest.approx(0.5 * 0.75)

    def test_braces_of_a_prompt_stay(self):
        assert Asked(["Is there {}?"]).about("a {set}") == ["Is there a {set}?"]

    @pytest.mark.parametrize(
        ("questions", "error", "said"),
        [
            ("Is there {}?", TypeError, "single string"),
            ([], ValueError, "empty"),
            (["Is there a star?"], ValueError, "0 places"),
        ],
    )
    def test_refusals(self, questions, error, said):
        with pytest.raises(error, match=said):
            Asked(questions)

    def test_a_prompt_without_questions_is_named(self):
        with pytest.raises(KeyError, match="'c'"):
            Asked({"a": ["Is there a circle?"]}).about("c")
        with pytest.raises(ValueError, match="at least one"):
            Asked(lambda prompt: []).about("c")


class TestVersions:
    def test_what_changes_scores_changes_the_version(self, folders):
        options: list[dict[str, Any]] = [
            {},
            {"question": "Is there {}?"},
            {"questions": ["Is there {}?"]},
            {"questions": ["Is there {}?"], "combine": "product"},
            {"preset": "vqascore"},
            {"preset": "vqascore-3.1"},
            {"pixels": 1024},
            {"dtype": torch.bfloat16},
        ]
        assert len({VLM(folders["llava"], **each).version for each in options}) == len(options)

    def test_functions_differ_by_their_source(self):
        first = Asked(lambda prompt: [f"Is there {prompt}?"])
        second = Asked(lambda prompt: [f"Does this image show {prompt}?"])
        assert first.label != second.label

        class Questions:
            version = "v7"

            def __call__(self, prompt: str) -> list[str]:
                return [prompt]

        assert Asked(Questions()).label == "v7"

    def test_templates_of_vqascore(self):
        """As in `qwen2vl_model.py` and `qwen3vl_model.py` of linzhiqiu/t2v_metrics."""
        assert fill(PRESETS["vqascore"], "a {b}") == 'Does this image show "a {b}"?'
        assert fill(PRESETS["vqascore-3.1"], "a {b}") == 'Does this figure show "a {b}"? Please answer Yes or No.'


class TestImages:
    @pytest.mark.parametrize(
        ("size", "factor", "most", "tokens"),
        [(512, 28, 1_003_520, 324), (768, 28, 1_003_520, 729), (1024, 28, 1_003_520, 1225), (1024, 32, 2**24, 1024)],
    )
    def test_smart_resize(self, size, factor, most, tokens):
        rows, columns = smart_resize(size, size, factor, factor * factor, most)
        assert rows * columns == tokens * factor * factor

    @pytest.mark.parametrize("size", [(100, 300), (33, 47), (500, 60), (31, 20)])
    def test_the_processor_then_changes_no_size(self, folders, kind, size):
        processor = AutoProcessor.from_pretrained(folders[kind]).image_processor
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        once = resized(images, processor)
        torch.testing.assert_close(resized(once, processor), once)
        read = [processor(list(once), do_rescale=False, do_resize=do, return_tensors="pt") for do in (True, False)]
        torch.testing.assert_close(read[0]["pixel_values"], read[1]["pixel_values"], atol=1e-6, rtol=0)

    def test_a_budget_shrinks_images(self, folders, images):
        small = VLM(folders["qwen3_vl"], pixels=32 * 32)
        large = torch.nn.functional.interpolate(images, scale_factor=4)
        assert target(160, 192, small._processor.image_processor, 32 * 32) == (32, 32)
        assert not torch.allclose(small(large, ["a star"] * 5), VLM(folders["qwen3_vl"])(large, ["a star"] * 5))


class TestWholeImages:
    """Processors that tile or pad must see the original."""

    @pytest.mark.parametrize("kind", WHOLE)
    @pytest.mark.parametrize("size", [(40, 100), (90, 30), (200, 200)])
    def test_log_odds(self, folders, kind, size):
        images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(5))
        scores = VLM(folders[kind])(images, ["a star", "is there a red circle"])
        for image, prompt, score in zip(images, ["a star", "is there a red circle"], scores, strict=True):
            expected = log_odds(*first_logits(folders[kind], image, QUESTION.format(prompt)))
            assert score.item() == pytest.approx(expected, abs=2e-5)

    @pytest.mark.parametrize("kind", WHOLE)
    def test_inputs_are_the_processor_s_own(self, folders, kind):
        images = torch.rand(1, 3, 40, 100, generator=torch.Generator().manual_seed(6))
        verifier = VLM(folders[kind])
        pixels = resized(images, verifier._processor.image_processor).requires_grad_()
        made = verifier._inputs(pixels, ["a star"], verifier._network(torch.device("cpu")))["pixel_values"]
        direct = AutoProcessor.from_pretrained(folders[kind]).image_processor
        theirs = direct(list((images * 255).round().to(torch.uint8)), return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(made, theirs, atol=1e-5, rtol=0)
        assert made.requires_grad
        if kind == "llava_onevision":
            assert made.shape[:2] == (1, 4)  # the whole and three tiles
        else:
            mean, std = torch.tensor(direct.image_mean), torch.tensor(direct.image_std)
            corner = ((mean * 255).int() / 255 - mean) / std
            torch.testing.assert_close(made[0, :, 0, 0], corner, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("kind", WHOLE)
    def test_a_budget_shrinks_the_original(self, folders, kind):
        images = torch.rand(1, 3, 60, 150, generator=torch.Generator().manual_seed(7))
        verifier = VLM(folders[kind], pixels=60 * 150 // 4)
        processor = verifier._processor.image_processor
        assert resized(images, processor, verifier.pixels).shape[-2:] == (30, 75)
        assert resized(images, processor).shape[-2:] == (60, 150)
        assert verifier(images, ["a star"]) != VLM(folders[kind])(images, ["a star"])

    @pytest.mark.parametrize(
        "name",
        "LlavaNext GotOcr2 Cohere2Vision Llama4 PerceptionLM Mllama Janus DeepseekVL Lfm2Vl Idefics3".split(),
    )
    def test_originals_reach_every_other_processor(self, name):
        processor = getattr(transformers, f"{name}ImageProcessor")()
        images = torch.rand(1, 3, 50, 90, generator=torch.Generator().manual_seed(8))
        expected = (images * 255).round() / 255
        assert not is_resized(processor)
        torch.testing.assert_close(resized(images, processor), expected)

    @pytest.mark.parametrize(
        ("made", "known"),
        [
            (transformers.Gemma3ImageProcessor(), True),
            (transformers.Gemma3ImageProcessor(do_pan_and_scan=True), False),
            (transformers.LlavaImageProcessor(), True),
            (transformers.LlavaImageProcessor(do_pad=True), False),
            (transformers.SiglipImageProcessor(), True),
            (transformers.SiglipImageProcessor(resample=0), False),  # nearest
            (transformers.SiglipImageProcessor(do_resize=False), False),
            (transformers.CLIPImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}), False),
            (transformers.Qwen2VLImageProcessor(), True),
            (transformers.Qwen2VLImageProcessor(resample=0), False),
        ],
    )
    def test_options_decide_too(self, made, known):
        assert is_resized(made) == known

    @pytest.mark.parametrize("name", ["Blip", "CLIP", "Gemma3", "Llava", "Qwen2VL", "Siglip", "ViT"])
    @pytest.mark.parametrize("size", [(50, 90), (300, 230)])
    def test_a_resize_beforehand_equals_pil(self, name, size):
        # not noise: Pillow 13 may resize rows first, which then shows
        coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(9))
        image = (torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0] * 255).round().to(torch.uint8)
        processor = getattr(transformers, f"{name}ImageProcessor")()
        before = resized(image[None] / 255, processor)
        ours = processor(list(before), do_rescale=False, do_resize=False, return_tensors="pt")["pixel_values"]
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = getattr(transformers, f"{name}ImageProcessorPil")()(picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)  # one 8-bit step over the least std


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "options", "message"),
        [
            ("llava", {"words": WORDS.replace("Yes ", "")}, "'Yes' is not one token"),
            ("qwen3_vl", {"chat": QWEN_CHAT + "<think>\n"}, "thinks before"),
        ],
    )
    def test_answers_that_do_not_begin_with_yes_or_no(self, tmp_path, kind, options, message):
        with pytest.raises(WeightsError, match=message):
            VLM(write_tiny_vlm(tmp_path / "m", kind, **options)).load()

    def test_thinking_is_switched_off_where_it_can_be(self, tmp_path, images):
        off = "{% if enable_thinking is defined and not enable_thinking %}{% else %}<think>\n{% endif %}"
        folder = write_tiny_vlm(tmp_path / "m", "qwen3_vl", chat=QWEN_CHAT + off)
        assert VLM(folder)(images, ["a star"] * 5).isfinite().all()

    def test_a_control_token_in_the_prompt(self, folders, images):
        with pytest.raises(ValueError, match="<image>"):
            VLM(folders["llava"])(images[:1], ["an <image> of a star"])

    def test_added_tokens_that_are_not_special_are_text(self, tmp_path, images):
        """Some tokenizers hold runs of spaces or HTML tags among the added tokens."""
        folder = write_tiny_vlm(tmp_path / "m", "llava", added=["star", "circle"])
        assert "star" in VLM(folder)._processor.tokenizer.get_added_vocab()
        assert VLM(folder)(images[:1], ["a star above a circle"]).isfinite().all()

    def test_a_placeholder_is_refused_though_it_is_not_special(self, tmp_path, images):
        verifier = VLM(write_tiny_vlm(tmp_path / "m", "llava", added=["circle"]))
        verifier._processor.image_token = "circle"
        with pytest.raises(ValueError, match="'circle', a control token"):
            verifier(images[:1], ["a circle"])

    def test_hpsv3_refuses_special_tokens_only(self, tmp_path):
        verifier = HPSv3(tmp_path / "none.safetensors", base=write_base(tmp_path / "base"))
        verifier._processor.tokenizer.add_tokens(["circle"])
        verifier._check_control("a circle")
        for token in ("<|im_end|>", "<|Reward|>", "<|image_pad|>"):
            with pytest.raises(ValueError, match="a control token"):
                verifier._check_control(f"a {token} circle")

    @pytest.mark.parametrize(("kind", "least"), [("qwen3_vl", 1024), ("qwen2_5_vl", 784), ("llava", 1024)])
    def test_an_area_below_the_processor_s_least(self, folders, kind, least):
        VLM(folders[kind], pixels=least).load()
        with pytest.raises(ValueError, match=f"pixels is {least - 1};.* smaller than {least}"):
            VLM(folders[kind], pixels=least - 1).load()

    def test_an_encoder_decoder(self, folders, monkeypatch):
        verifier = VLM.vqascore(folders["llava"])
        network = verifier.source.model(torch.device("cpu"))
        monkeypatch.setattr(network.config, "is_encoder_decoder", True)
        with pytest.raises(WeightsError, match="encoder-decoder, and VQAScore of those is not built"):
            verifier.load()

    def test_a_processor_that_lets_no_gradient_through(self, folders, images):
        verifier = VLM(folders["llava"])
        inner = verifier._processor

        class Detached:
            def __getattr__(self, name: str) -> Any:
                return getattr(inner, name)

            def __call__(self, *, images: Any, **rest: Any) -> Any:
                return inner(images=[image.detach() for image in images], **rest)

        verifier.__dict__["_processor"] = Detached()
        with pytest.raises(ValueError, match="lets no gradient through"):
            verifier(images.requires_grad_(), ["a star"] * 5, grad=True)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"question": "Is it a star?"}, "0 places"),
            ({"question": "{}?", "preset": "vqascore"}, "one of them"),
            ({"preset": "clipscore"}, "vqascore"),
            ({"combine": "max"}, "product"),
            ({"batch": 0}, "at least 1"),
            ({"pixels": 0}, "at least 1"),
        ],
    )
    def test_options(self, options, said):
        with pytest.raises(ValueError, match=said):
            VLM("some/model", **options)

    def test_a_directory_that_is_not_there(self, tmp_path):
        with pytest.raises(WeightsError, match="does not exist"):
            VLM(tmp_path / "none").load()
