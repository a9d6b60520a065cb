"""The embedded vision-language model: stock files, the CLIP's tower at its start, questions, and what it can tell."""

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

from noise_search.shapes import EMBEDDED_VERIFIERS, WEIGHTS
from noise_search.shapes.captions import captions, near_miss
from noise_search.shapes.oracle import judge
from noise_search.shapes.render import render
from noise_search.shapes.scenes import sample_scenes
from noise_search.shapes.train import vlm as stage
from noise_search.shapes.train.gates import auc
from noise_search.shapes.train.vlm import PRESENCE, TEMPLATES, questions
from verifiers.vlm import QUESTION, VLM

FOLDER = WEIGHTS / "vlm"


@pytest.fixture(scope="module")
def trainee():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return stage.Trainee(WEIGHTS / "clip")


def test_it_is_a_small_stock_model():
    model, info = AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32, output_loading_info=True)
    assert isinstance(model, LlavaForConditionalGeneration)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert {file.suffix for file in FOLDER.iterdir()} == {".json", ".jinja", ".safetensors"}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 5_000_000
    assert AutoProcessor.from_pretrained(FOLDER).tokenizer.get_vocab() == stage.tokenizer().get_vocab()


def test_its_tower_starts_as_the_embedded_clip(trainee):
    clip, _ = open_clip.create_model_from_pretrained(f"local-dir:{WEIGHTS / 'clip'}")
    images = render(sample_scenes(4, 5)) * 2 - 1
    with torch.no_grad():
        pooled = trainee.vlm.model.vision_tower(images).pooler_output @ clip.eval().visual.proj
        torch.testing.assert_close(pooled, clip.encode_image(images), atol=1e-5, rtol=0)


def test_questions_that_share_an_image_are_answered_as_alone(trainee):
    scenes = sample_scenes(2, 6)
    images, (asked, _) = render(scenes), questions(scenes, 1)
    processor = stage.processor()
    with torch.no_grad():
        together, _ = trainee(images, asked)
        for row, question in ((0, 0), (0, 5), (1, 3)):
            text = f"<image>{asked[row][question]}<answer>"
            given = {"images": [images[row]], "images_kwargs": {"do_rescale": False}, "return_tensors": "pt"}
            alone = trainee.vlm(**processor(text=[text], **given)).logits[0, -1]
            torch.testing.assert_close(together[row, question], alone, atol=1e-5, rtol=0)


def test_answers_to_questions_are_the_oracles():
    scenes = sample_scenes(60, 7)
    images, (asked, answers) = render(scenes), questions(scenes, 2)
    for row, texts in enumerate(asked):
        for question, answer in zip(texts[:-1], answers[row][:-1], strict=True):
            template = next(t for t in sorted(TEMPLATES, key=len, reverse=True) if _fits(t, question))
            before, after = template.split("{}")
            caption = question[len(before) : len(question) - len(after)]
            assert judge(images[row : row + 1], [caption])[0].strict == answer, caption
    assert 0.4 < answers.mean() < 0.6
    assert all(texts[-1].startswith(PRESENCE.split("{}")[0]) for texts in asked)


def _fits(template, question):
    before, after = template.split("{}")
    return question.startswith(before) and question.endswith(after)


def test_every_word_of_captions_and_questions_is_a_token():
    words = stage.tokenizer()
    texts = [template.format(text) for text in captions(sample_scenes(300, 8), 1) for template in TEMPLATES]
    assert all(words.unk_token_id not in words(text).input_ids for text in [*texts, PRESENCE.format("a ring")])
    assert QUESTION in TEMPLATES


def test_it_prefers_true_captions_to_near_misses():
    """All families mixed; a chance level model has 0.5."""
    scenes = sample_scenes(240, 20_000_009)
    images, true = render(scenes), captions(scenes, 1)
    wrong = [near_miss(text, row) for row, text in enumerate(true)]
    verifier = VLM(FOLDER, batch=120)
    scores = torch.cat([verifier(images, true), verifier(images, wrong)]).numpy()
    assert auc(scores, np.repeat([True, False], 240)) > 0.80


def test_models_of_the_world_find_it_by_its_short_name():
    assert EMBEDDED_VERIFIERS["shapes-vlm"]["model"] == str(FOLDER)


def test_its_file_is_half_precision():
    assert {tensor.dtype for tensor in load_file(FOLDER / "model.safetensors").values()} == {torch.float16}
