"""HPSv3 against Qwen2's own text model, transformers' PIL processor, and its head in plain torch."""

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from contracts.verifier import VerifierContract
from tiny.hpsv3 import HIDDEN, original_weights, tokens, write_base, write_weights
from verifiers import WeightsError, load
from verifiers.hpsv3 import CARD, PIXELS, REWARD_TOKEN, HPSv3, last, turn
from verifiers.inputs.vlm import resized, target
from verifiers.loading import hub as pins

SMALL = 112 * 112
CPU = torch.device("cpu")


class Files(NamedTuple):
    base: Path
    weights: Path
    original: dict[str, Tensor]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("hpsv3")
    base = write_base(directory / "base")
    original = original_weights(base, len(tokens(base)))
    return Files(base, write_weights(directory / "HPSv3.safetensors", original), original)


@pytest.fixture
def tiny(files: Files) -> HPSv3:
    return HPSv3(files.weights, base=files.base, dtype=torch.float32, pixels=SMALL)


class TestHPSv3(VerifierContract):
    @pytest.fixture
    def verifier(self, tiny):
        return tiny

    @pytest.fixture
    def in_bfloat16(self, files):
        return HPSv3(files.weights, base=files.base, pixels=SMALL)


def inputs_of(verifier: HPSv3, images: Tensor, prompts: list[str]) -> dict[str, Tensor]:
    pixels = resized(images, verifier._processor.image_processor)
    return dict(verifier._inputs(pixels, prompts, verifier._model(CPU)))


def test_equals_qwen2_with_plain_positions_and_the_head_by_hand(files, tiny, images, prompts):
    from transformers import Qwen2Config, Qwen2Model

    text = json.loads((files.base / "config.json").read_text())["text_config"]
    wanted = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    wanted += ("rms_norm_eps",)
    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = Qwen2Config(**{k: text[k] for k in wanted}, vocab_size=len(tokens(files.base)), rope_parameters=rope)
    language = Qwen2Model(config).eval()
    language.load_state_dict(
        {k.removeprefix("model."): v for k, v in files.original.items() if k.startswith("model.")}, strict=True
    )
    backbone = tiny._model(CPU).backbone
    expected = []
    for image, prompt in zip(images, prompts, strict=True):  # one by one: no padding at all
        inputs = inputs_of(tiny, image[None], [prompt])
        ids = inputs["input_ids"]
        with torch.no_grad():
            seen = backbone.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
            embeds = files.original["model.embed_tokens.weight"][ids]
            embeds[ids == tokens(files.base).convert_tokens_to_ids("<|image_pad|>")] = seen
            x = language(inputs_embeds=embeds).last_hidden_state
        x = x[ids == tokens(files.base).convert_tokens_to_ids("<|Reward|>")]
        for layer in (0, 3, 5):
            x = x @ files.original[f"rm_head.{layer}.weight"].T + files.original[f"rm_head.{layer}.bias"]
            x = x if layer == 5 else x.clamp(min=0)
        expected.append(x[0])
    mu, log_sigma = torch.stack(expected).unbind(1)
    torch.testing.assert_close(tiny(images, prompts), mu, atol=1e-5, rtol=0)
    found = tiny.distribution(images, prompts)
    torch.testing.assert_close(found[0], mu, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], log_sigma.exp(), atol=1e-5, rtol=0)


def test_the_base_models_own_positions_give_another_score(tiny, images, prompts):
    model, inputs = tiny._model(CPU), inputs_of(tiny, images, prompts)
    with torch.no_grad():
        hidden = model.backbone(**inputs).last_hidden_state  # three-dimensional positions
        at = last(inputs["input_ids"], model.reward_id)
        other = model.head(hidden[torch.arange(5), at])[:, 0]
    assert (other - tiny(images, prompts)).abs().max() > 1e-3


def test_pads_on_the_right_where_the_base_pads_on_the_left(files, tiny, images, prompts):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(files.base).padding_side == "left"
    mask = inputs_of(tiny, images, prompts)["attention_mask"]
    assert (mask[:, 0] == 1).all()
    assert (mask[:, -1] == 0).any()
    assert torch.equal(mask, mask.sort(dim=1, descending=True).values)


def test_batches_are_split(files, tiny, images, prompts):
    split = HPSv3(files.weights, base=files.base, dtype=torch.float32, pixels=SMALL, batch=2)
    torch.testing.assert_close(split(images, prompts), tiny(images, prompts), atol=1e-5, rtol=0)
    assert split._model(CPU) is tiny._model(CPU)  # one network, however many verifiers


@pytest.mark.parametrize("size", [(512, 512), (471, 471), (301, 517), (832, 1216)])
def test_pixels_equal_the_pil_processor(files, size):
    from PIL import Image
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    pixels = torch.randint(0, 256, (*size, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    area = {"shortest_edge": PIXELS, "longest_edge": PIXELS}
    theirs = Qwen2VLImageProcessorPil()(Image.fromarray(pixels.numpy()), size=area, return_tensors="pt")
    verifier = HPSv3(files.weights, base=files.base, dtype=torch.float32)
    ours = inputs_of(verifier, pixels.permute(2, 0, 1)[None] / 255, ["a"])
    assert torch.equal(ours["image_grid_thw"], theirs["image_grid_thw"])
    difference = (ours["pixel_values"] - theirs["pixel_values"]).abs()
    assert difference.max() < 0.016
    assert difference.mean() < 3e-5  # noise: one pixel in a thousand differs by 1/255


def test_sizes_equal_transformers(tiny):
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    sides = [15, 27, 28, 42, 64, 300, 447, 448, 449, 832, 999, 1024, 1216, 2000]
    squares = [(side, side) for side in range(1, 2049)]  # among them those where floating point decides
    for height, width in [*itertools.product(sides, sides), *squares]:
        expected = smart_resize(height, width, 28, SMALL, SMALL)
        assert target(height, width, tiny._processor.image_processor) == expected


def test_the_instruction_is_the_published_one_to_the_byte():
    image, text = turn("{a} red 'circle'")[0]["content"]
    assert image == {"type": "image"}
    assert text["text"].count("{a} red 'circle'") == 1
    published = text["text"].replace("{a} red 'circle'", "{text_prompt}")
    digest = "f6ee57479d4e9eee76b49c00dc962e1e696a5a2b3cc32cebd9b1fa76fe27502c"
    assert hashlib.sha256(published.encode()).hexdigest() == digest
    assert published.endswith("Please provide the overall ratings of this image: <|Reward|>\n\nEND\n")


def test_a_half_network_has_a_float32_head(files):
    half = HPSv3(files.weights, base=files.base, pixels=SMALL)
    model = half._model(CPU)
    assert {p.dtype for p in model.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.head.parameters()} == {torch.float32}
    assert {b.dtype for b in model.backbone.buffers()} == {torch.float32}  # rotary frequencies
    assert not any(p.requires_grad or p.is_meta for p in model.parameters())
    assert not any(module.training for module in model.modules())
    assert half.version.endswith(f"/bfloat16/{SMALL}px")
    assert HPSv3(files.weights, base=files.base).version.endswith("/bfloat16")


def test_dtype_by_name(files, tiny):
    assert load("hpsv3", weights=files.weights, base=files.base, dtype="float32", pixels=SMALL).version == tiny.version


def test_names_of_newer_files_load_too(files, tiny, tmp_path, images):
    def newer(name: str) -> str:
        if name.startswith(("visual.", "rm_head.", "lm_head.")):
            return f"model.{name}" if name.startswith("visual.") else name
        return name.replace("model.", "model.language_model.", 1)

    weights = write_weights(tmp_path / "new.safetensors", {newer(k): v for k, v in files.original.items()})
    again = HPSv3(weights, base=files.base, dtype=torch.float32, pixels=SMALL)
    assert torch.equal(again(images[:1], ["a"]), tiny(images[:1], ["a"]))


def test_embeddings_are_as_many_as_in_the_file(files, tiny):
    rows = len(files.original["model.embed_tokens.weight"])
    assert json.loads((files.base / "config.json").read_text())["text_config"]["vocab_size"] > rows
    embeddings = tiny._model(CPU).backbone.language_model.embed_tokens
    assert embeddings.weight.shape == (rows, HIDDEN)
    assert tiny._model(CPU).reward_id == rows - 1


def test_control_tokens_in_a_prompt_are_refused(tiny, images):
    for token in (REWARD_TOKEN, "<|image_pad|>"):
        with pytest.raises(ValueError, match=rf"holds {re.escape(repr(token))}, a control token of .*: remove it"):
            tiny(images[:2], ["a dog", f"a cat {token}"])


def test_distributions_keep_nan_in_its_row(tiny, images, prompts):
    expected = torch.stack(tiny.distribution(images, prompts))
    images[2, 0, 0, 0] = torch.nan
    found = torch.stack(tiny.distribution(images, prompts))
    assert found[:, 2].isnan().all()
    rest = [0, 1, 3, 4]
    torch.testing.assert_close(found[:, rest], expected[:, rest], atol=1e-5, rtol=0)
    assert torch.stack(tiny.distribution(images[:0], [])).shape == (2, 0)


def test_defaults_load_from_the_hub_at_the_pinned_commits(hub, files, images, prompts):
    repositories = {
        "MizzenAI/HPSv3": {"HPSv3.safetensors": files.weights},
        "Qwen/Qwen2-VL-7B-Instruct": {path.name: path for path in files.base.iterdir()},
    }
    for repository, contents in repositories.items():
        assert re.fullmatch("[0-9a-f]{40}", pins.commit(repository))
        assert repository in CARD.weights
        hub.add(repository, contents, pins.commit(repository))
    published = HPSv3(dtype=torch.float32)
    expected = HPSv3(files.weights, base=files.base, dtype=torch.float32)
    assert torch.equal(published(images[:2], prompts[:2]), expected(images[:2], prompts[:2]))
    weights, base = (f"{name}@{pins.commit(name)[:8]}" for name in repositories)
    assert published.version == f"{weights.replace('@', '/HPSv3.safetensors@')}/{base}/float32"
    another = HPSv3(revision="main", base_revision="other")
    assert another.version == "MizzenAI/HPSv3/HPSv3.safetensors@main/Qwen/Qwen2-VL-7B-Instruct@other/bfloat16"


def without(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key != name}


def test_files_that_do_not_fit_are_one_line(files, tmp_path):
    first = "model.layers.0.mlp.up_proj.weight"
    changes: list[tuple[dict[str, Tensor], str]] = [
        (without(files.original, "model.norm.weight"), "1 weights such as 'language_model.norm.weight'"),
        ({**files.original, "visual.more": torch.ones(1)}, "1 weights such as 'visual.more'"),
        ({**files.original, first: torch.ones(3, 3)}, "does not fit the base model's configuration"),
        (without(files.original, "rm_head.3.bias"), r"expected rm_head.\{0,3,5\}"),
        (without(files.original, "model.embed_tokens.weight"), "has no 'model.embed_tokens.weight'"),
        ({**files.original, "model.embed_tokens.weight": torch.ones(9, HIDDEN)}, "embeds 9 tokens, but the reward"),
    ]
    for i, (weights, message) in enumerate(changes):
        path = write_weights(tmp_path / f"{i}.safetensors", weights)
        with pytest.raises(WeightsError, match=message) as caught:
            HPSv3(path, base=files.base).load()
        assert "\n" not in str(caught.value)


def test_what_is_missing_is_said_in_one_line(hub, files, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    arguments: list[tuple[dict[str, Any], str]] = [
        ({"base": files.base}, r"could not get HPSv3.safetensors of MizzenAI/HPSv3.*check the network"),
        ({}, r"could not load the AutoConfig of Qwen/Qwen2-VL-7B-Instruct.*check the network"),
        ({"base": files.base, "weights": tmp_path / "none.safetensors"}, "is no file"),
        ({"base": files.base, "weights": tmp_path / "broken.safetensors"}, "could not read 'broken.safetensors'"),
        ({"base": tmp_path / "none", "weights": files.weights}, "does not exist"),
    ]
    for options, message in arguments:
        with pytest.raises(WeightsError, match=message) as caught:
            HPSv3(**options).load()
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"no base model in .*none"):
        assert HPSv3(files.weights, base=tmp_path / "none").version
    for wrong, message in [
        ({"pixels": 100}, "pixels is 100; expected an area of at least 784"),
        ({"batch": 0}, "batch is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            HPSv3(**wrong)
