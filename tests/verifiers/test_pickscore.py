"""PickScore against transformers' own logits and PIL preprocessing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from contracts.verifier import VerifierContract, refused
from tiny.rewards import write_clip_tokenizer, write_pickscore
from verifiers.loading.hub import commit
from verifiers.pickscore import CARD, MODEL, PickScore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pickscore(tmp_path_factory.mktemp("models") / "pickscore")


@pytest.fixture(scope="module")
def pickscore(folder):
    return PickScore(folder)


class TestPickScore(VerifierContract):
    longest = (" ".join(f"word{i}" for i in range(14)), 16)

    @pytest.fixture
    def verifier(self, pickscore):
        return pickscore

    @pytest.fixture
    def in_bfloat16(self, folder):
        return PickScore(folder, dtype="bfloat16")


def published(folder: Path, images: Tensor, prompts: list[str], padding: bool | str = True) -> Tensor:
    """The score as its authors compute it: PIL images, transformers' processor, diagonal of the logits."""
    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    pil = [Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    pixels = processor(pil, return_tensors="pt").pixel_values
    words = AutoTokenizer.from_pretrained(folder)
    tokens = words(prompts, padding=padding, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        logits = model(pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    return logits.logits_per_image.diagonal()


def test_scores_are_the_diagonal_of_the_logits(pickscore, folder, images, prompts):
    # Squares of the tower's size: whole and exact through PIL; a resize may differ from it by 1/255.
    exact = torch.nn.functional.interpolate(images, (32, 32))
    expected = published(folder, exact, prompts)
    torch.testing.assert_close(pickscore(exact, prompts), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pickscore(images, prompts), published(folder, images, prompts), atol=0.05, rtol=0)
    cosines = PickScore(folder, output="cosine")(exact, prompts)
    scale = pickscore.source.model().logit_scale.exp()
    torch.testing.assert_close(cosines * scale, expected, atol=1e-5, rtol=0)
    assert cosines.abs().max() <= 1


def test_the_crop_rounds_down(pickscore, folder, prompts):
    tall = torch.rand(5, 3, 35, 32, generator=torch.Generator().manual_seed(4))  # 3 rows too many: 1 goes above
    expected = published(folder, tall, prompts)
    torch.testing.assert_close(pickscore(tall, prompts), expected, atol=1e-5, rtol=0)
    shifted = published(folder, tall[:, :, 1:].contiguous(), prompts)
    assert (expected - shifted).abs().max() > 1e-3


def test_padding_changes_nothing(folder, pickscore, images, prompts):
    longest, whole = (published(folder, images, prompts, padding) for padding in (True, "max_length"))
    torch.testing.assert_close(longest, whole, atol=1e-5, rtol=0)


def test_old_configurations_pool_at_the_first_end(tmp_path, images, prompts):
    # eos_token_id=2 is what old files say; the end is then found as the highest id, the first of the padded ones
    old = write_pickscore(tmp_path / "old", eos_token_id=2)
    new = write_pickscore(tmp_path / "new")
    assert load_file(old / "model.safetensors").keys() == load_file(new / "model.safetensors").keys()
    torch.testing.assert_close(PickScore(old)(images, prompts), PickScore(new)(images, prompts), atol=1e-5, rtol=0)


def test_each_prompt_is_encoded_once_and_the_cache_is_bounded(folder, images, prompts):
    pickscore = PickScore(folder)
    pickscore(images, prompts)
    pickscore(images.flip(0), prompts)
    assert pickscore.texts_encoded == 4
    (texts,) = pickscore._texts.values()
    texts.most = 3
    for i in range(5):
        pickscore(images[:1], [f"word{i}"])
    assert len(texts.kept) == 3


def test_the_scale_keeps_its_precision(folder):
    single, half = PickScore(folder).source.model(), PickScore(folder, dtype=torch.bfloat16).source.model()
    assert half.visual_projection.weight.dtype == torch.bfloat16
    assert torch.equal(half.logit_scale, single.logit_scale)  # 1 % off if it were rounded


def test_versions_tell_what_changes_scores(folder, tmp_path):
    write_clip_tokenizer(tmp_path / "words")
    options = ({}, {"output": "cosine"}, {"tokenizer": tmp_path / "words"})
    assert len({PickScore(folder, **one).version for one in options}) == 3
    assert PickScore().version == f"yuvalkirstain/PickScore_v1@{commit(MODEL)[:8]}/scaled"
    assert PickScore(revision="main").version == "yuvalkirstain/PickScore_v1@main/scaled"
    assert CARD.weights_licence == "not stated"


def test_missing_and_wrong_weights_are_one_line(folder, tmp_path):
    write_pickscore(tmp_path / "incomplete")
    tensors = load_file(tmp_path / "incomplete" / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, tmp_path / "incomplete" / "model.safetensors", metadata={"format": "pt"})
    for wrong, message in [
        (PickScore(), r"could not load .* yuvalkirstain/PickScore_v1@a4e4367c"),
        (PickScore(tmp_path / "nowhere"), "does not exist"),
        (PickScore(tmp_path / "incomplete"), "1 missing keys .*visual_projection.weight"),
    ]:
        with refused(message):
            wrong.load()
