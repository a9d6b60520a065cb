"""CLIPScore against open_clip's own forward pass, token limits, half precision, shared towers."""

import gc
import warnings

import numpy as np
import pytest
import torch

from tiny.clip import CONTEXT, SIDE, WIDTH, published_head, save_head, write_tiny_clip
from verifiers import Aesthetic, CLIPScore
from verifiers.inputs.tokens import TokenLimit
from verifiers.loading import tower as towers

PROMPTS = ["a red circle", "a blue square", "the star on the left", "photo of a circle", ""]


def test_equals_open_clip_forward(clip_directory):
    import open_clip
    from PIL import Image

    name = f"local-dir:{clip_directory}"
    model, transform = open_clip.create_model_from_pretrained(name)
    tokens = open_clip.get_tokenizer(name)(PROMPTS)
    pixels = torch.randint(0, 256, (5, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0))
    inputs = torch.stack([transform(Image.fromarray(image.to(torch.uint8).numpy())) for image in pixels])
    with torch.no_grad():
        image, text, _ = model.eval()(inputs, tokens)
    cosine = (image.double().numpy() * text.double().numpy()).sum(1)
    images = pixels.permute(0, 3, 1, 2) / 255
    np.testing.assert_allclose(CLIPScore(clip_directory, output="cosine")(images, PROMPTS), cosine, atol=1e-6)
    scores = CLIPScore(clip_directory)(images, PROMPTS)
    np.testing.assert_allclose(scores, 2.5 * np.maximum(cosine, 0), atol=2.5e-6)
    assert (cosine < 0).any() and (cosine > 0).any()  # else the clamp was not tried


def test_other_weights_of_openai_need_quickgelu_too():
    with pytest.raises(ValueError, match="use model 'ViT-B-32-quickgelu'"):
        CLIPScore("ViT-B-32", "laion400m_e32").load()


def test_quickgelu_of_the_configuration_is_used(clip_directory, tmp_path):
    quick = CLIPScore(write_tiny_clip(tmp_path / "quick", quick_gelu=True), output="cosine")
    activation = quick.source.tower().model.visual.transformer.resblocks[0].mlp.gelu
    x = torch.linspace(-4, 4, 33)
    torch.testing.assert_close(activation(x), x * torch.sigmoid(1.702 * x), atol=1e-6, rtol=0)
    plain = CLIPScore(clip_directory, output="cosine")
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert quick.key != plain.key
    assert not torch.allclose(quick(images, PROMPTS[:2]), plain(images, PROMPTS[:2]), atol=1e-6)


def test_a_tower_is_shared_and_encodes_each_batch_once(clip_directory, tmp_path, images):
    head = save_head(published_head(WIDTH), tmp_path / "head.safetensors")
    clip = CLIPScore(clip_directory, output="cosine")
    tower = clip.source.tower()
    before, texts = tower.images_encoded, tower.texts_encoded
    prompts = ["the only yellow star"] * 5
    first = clip(images, prompts)
    Aesthetic(head, model=clip_directory)(images.clone(), prompts)
    CLIPScore(f"local-dir:{clip_directory}")(images, prompts)
    assert (tower.images_encoded - before, tower.texts_encoded - texts) == (5, 1)
    images.numpy()[0] = 0.25  # past torch's version counter
    changed = clip(images, prompts)
    assert tower.images_encoded - before == 10
    assert changed[0] != first[0]


def test_large_batches_are_split_and_not_kept(clip_directory, monkeypatch):
    clip = CLIPScore(clip_directory, output="cosine")
    images = torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = [f"word{i}" for i in range(7)]
    whole = clip(images, prompts)
    monkeypatch.setattr(towers, "MICRO_BATCH", 3)
    monkeypatch.setattr(towers, "MEMO_ROWS", 4)
    tower = towers.Tower(clip.source.tower().model, clip.source.tower().tokenizer)
    tower.texts.most = 2
    parts = (tower.image(images) * tower.text(prompts)).sum(-1)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    tower.image(images)
    tower.text(prompts[-2:])
    assert (tower.images_encoded, tower.texts_encoded) == (14, 7)  # nothing kept of 7 images, two texts kept
    tower.text(prompts[:1])
    assert tower.texts_encoded == 8


def test_a_forgotten_tower_does_not_stay_for_ever(clip_directory, tmp_path):
    for i in range(3):
        CLIPScore(write_tiny_clip(tmp_path / f"model{i}")).load()
    gc.collect()
    assert sum(label.startswith("model") for _, label, _ in towers.SHARED.models) <= 2


def test_a_user_sees_frozen_weights_in_eval_mode(clip_directory):
    model = CLIPScore(clip_directory).source.tower().model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_half_tower(clip_directory, images):
    half = CLIPScore(clip_directory, output="cosine", precision="bf16")
    assert "bf16" in half.version
    torch.testing.assert_close(half.source.tower().image(images).norm(dim=1), torch.ones(5), atol=1e-6, rtol=0)


def test_a_prompt_is_warned_about_once_whoever_reads_it(clip_directory, images):
    long = " ".join(f"word{i}" for i in range(CONTEXT - 1)) + " star"
    with pytest.warns(UserWarning, match=r"has 18 tokens, clip reads 16.*'word14 star'"):
        CLIPScore(clip_directory, output="cosine")(images[:1], [long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CLIPScore(clip_directory)(images[:1], [long])


def test_token_counts_of_the_published_tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    limit = TokenLimit.of_open_clip(tokenizer)
    assert limit.limit == 77
    for text in ["", "a cat", "🦊 in the snow", "word " * 75]:
        used = int((tokenizer([text])[0] != 0).sum())
        assert limit.length(text) == used
        assert limit.dropped(text) == ""
    seventy_six = "cat " * 75 + "dog"
    assert limit.length(seventy_six) == 78
    with pytest.warns(UserWarning, match="has 78 tokens, the verifier reads 77.*'dog'"):
        limit.check(seventy_six)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limit.check(seventy_six)


def test_siglip_logits_are_those_of_open_clip(tmp_path, images):
    import open_clip

    directory = write_tiny_clip(tmp_path / "siglip", init_logit_bias=-10.0, custom_text=True)
    siglip = CLIPScore(directory, output="logit")
    scores = siglip(images, PROMPTS)
    theirs = siglip.source.tower().model
    with torch.no_grad():
        pixels = siglip.source.tower().preprocess(images)
        tokens = open_clip.get_tokenizer(f"local-dir:{directory}")(PROMPTS)
        logits, _ = theirs.get_logits(pixels, tokens)
    torch.testing.assert_close(scores, logits.diagonal(), atol=1e-4, rtol=0)
    assert (scores < 0).all()  # the bias is in it
    plain = CLIPScore(tmp_path / "siglip", output="cosine")(images, PROMPTS)
    scale = float(theirs.logit_scale.exp())
    torch.testing.assert_close(scores, scale * plain + float(theirs.logit_bias), atol=1e-4, rtol=0)


def test_clip_logits_have_no_bias(clip_directory, images):
    logit = CLIPScore(clip_directory, output="logit")
    scale, bias = logit.source.tower().logit
    assert bias == 0
    cosine = CLIPScore(clip_directory, output="cosine")(images, PROMPTS)
    torch.testing.assert_close(logit(images, PROMPTS), scale * cosine, atol=1e-5, rtol=0)


def test_chunks_average_the_cosines_of_parts(clip_directory, images):
    long = "a red circle above a blue square on. the green star and a yellow square of a photo, the red star"
    clip = CLIPScore(clip_directory, output="cosine", chunks=True)
    parts = clip.source.tower().limit.chunks(long)
    assert len(parts) > 1 and " ".join(parts) == long
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is dropped, so nothing is warned about
        scores = clip(images, [long] * 5)
    plain = CLIPScore(clip_directory, output="cosine")
    by_part = torch.stack([plain(images, [part] * 5) for part in parts])
    torch.testing.assert_close(scores, by_part.mean(0), atol=1e-6, rtol=0)
    short = ["a red circle"] * 5
    assert torch.equal(clip(images, short), plain(images, short))
    assert clip.key == f"{plain.key}/chunks"


def test_chunks_are_cut_at_sentences_then_commas_then_words():
    limit = TokenLimit(
        lambda text: [len(word) for word in text.split()], lambda ids: str(list(ids)), limit=6, special=2
    )
    assert limit.chunks("one two three four") == ["one two three four"]
    assert limit.chunks("One two. Three. Four five six.") == ["One two. Three.", "Four five six."]
    assert limit.chunks("one two three, four five, six") == ["one two three,", "four five, six"]
    assert limit.chunks("a b c d e f g h i") == ["a b c d", "e f g h", "i"]
    one_word = TokenLimit(list, str, limit=6, special=2)  # type: ignore[arg-type]
    assert one_word.chunks("incomprehensible") == ["incomprehensible"]
