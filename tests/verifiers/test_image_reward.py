"""ImageReward against plain torch on the original's key names."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from contracts.verifier import VerifierContract, refused
from tiny.rewards import reward_tensors, write_bert_tokenizer
from verifiers.image_reward import CARD, PUBLISHED, TOKENS, ImageReward
from verifiers.inputs.preprocess import clip_input
from verifiers.loading import blip
from verifiers.loading.hub import commit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image_reward")
    save_file(reward_tensors(), folder / "reward.safetensors")
    write_bert_tokenizer(folder / "bert")
    return folder


@pytest.fixture(scope="module")
def reward(folder):
    return ImageReward(folder / "reward.safetensors", tokenizer=folder / "bert")


class TestImageReward(VerifierContract):
    longest = (" ".join(f"word{i}" for i in range(TOKENS - 2)), TOKENS)

    @pytest.fixture
    def verifier(self, reward):
        return reward

    @pytest.fixture
    def in_bfloat16(self, folder):
        return ImageReward(folder / "reward.safetensors", tokenizer=folder / "bert", dtype="bfloat16")


def plain(t: dict[str, Tensor], x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The published score in plain torch: pre-LN ViT, post-LN BERT with cross-attention, MLP, normalisation."""

    def linear(name: str, h: Tensor) -> Tensor:
        return h @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(name: str, h: Tensor, eps: float) -> Tensor:
        centred = h - h.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
        heads = [h.unflatten(-1, (-1, 64)).transpose(1, 2) for h in (q, k, v)]
        weights = (heads[0] @ heads[1].transpose(-1, -2) / 8 + bias).softmax(-1)
        return (weights @ heads[2]).transpose(1, 2).flatten(2)

    def count(prefix: str) -> int:
        return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in t if name.startswith(prefix))

    image = "blip.visual_encoder"
    patch = t[f"{image}.patch_embed.proj.weight"]
    h = F.conv2d(x, patch, t[f"{image}.patch_embed.proj.bias"], stride=patch.shape[-1]).flatten(2).transpose(1, 2)
    h = torch.cat([t[f"{image}.cls_token"].expand(len(h), -1, -1), h], 1) + t[f"{image}.pos_embed"]
    for i in range(count(f"{image}.blocks.")):
        block = f"{image}.blocks.{i}"
        q, k, v = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", h, 1e-6)).chunk(3, -1)
        h = h + linear(f"{block}.attn.proj", attend(q, k, v))
        wide = linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", h, 1e-6))
        h = h + linear(f"{block}.mlp.fc2", wide * 0.5 * (1 + torch.erf(wide / 2**0.5)))
    tokens = norm(f"{image}.norm", h, 1e-6)

    text = "blip.text_encoder"
    h = t[f"{text}.embeddings.word_embeddings.weight"][ids]
    h = h + t[f"{text}.embeddings.position_embeddings.weight"][: ids.shape[1]]
    h = norm(f"{text}.embeddings.LayerNorm", h, 1e-12)
    hidden = torch.zeros(mask.shape).masked_fill(mask == 0, -torch.inf)[:, None, None]
    for i in range(count(f"{text}.encoder.layer.")):
        layer = f"{text}.encoder.layer.{i}"
        for name, other, bias in (("attention", None, hidden), ("crossattention", tokens, 0.0)):
            source = h if other is None else other
            q = linear(f"{layer}.{name}.self.query", h)
            k, v = (linear(f"{layer}.{name}.self.{part}", source) for part in ("key", "value"))
            out = linear(f"{layer}.{name}.output.dense", attend(q, k, v, bias))
            h = norm(f"{layer}.{name}.output.LayerNorm", out + h, 1e-12)
        wide = linear(f"{layer}.intermediate.dense", h)
        wide = linear(f"{layer}.output.dense", wide * 0.5 * (1 + torch.erf(wide / 2**0.5)))
        h = norm(f"{layer}.output.LayerNorm", wide + h, 1e-12)
    h = h[:, 0]
    for i in (0, 2, 4, 6, 7):
        h = linear(f"mlp.layers.{i}", h)
    return (h[:, 0] - 0.16717362830052426) / 1.0333394966054072


@pytest.mark.parametrize(
    "sizes", [{}, {"width": 64, "hidden": 192, "layers": 3, "side": 3, "patch": 6, "mlp": 3, "seed": 2}]
)
def test_scores_are_the_originals_in_plain_torch(tmp_path, folder, images, prompts, sizes):
    tensors, side = reward_tensors(**sizes), sizes.get("side", 4) * sizes.get("patch", 8)
    torch.save(tensors, tmp_path / "reward.pt")
    reward = ImageReward(tmp_path / "reward.pt", tokenizer=folder / "bert")
    tokens = reward.tokenizer.loaded(prompts, padding="longest", return_tensors="pt")
    assert tokens.input_ids[0, 0] == reward.tokenizer.loaded.cls_token_id
    assert (tokens.attention_mask == 0).any()
    expected = plain(tensors, clip_input(side, crop="round")(images), tokens.input_ids, tokens.attention_mask)
    assert expected.std() > 0.1
    torch.testing.assert_close(reward(images, prompts), expected, atol=1e-5, rtol=0)


def test_every_weight_arrives_under_its_name():
    tensors = reward_tensors()
    model = blip.build(tensors)
    state = model.state_dict()
    named = {name: blip.ours(name) for name in tensors if not name.startswith("mlp.")}
    projections = {f"blip.{tower}_proj.{part}" for tower in ("vision", "text") for part in ("weight", "bias")}
    unused = {name for name, own in named.items() if own is None}
    assert unused == projections | {"blip.text_encoder.embeddings.position_ids"}
    kept = {own: tensors[name] for name, own in named.items() if own is not None}
    assert kept.keys() == state.keys() - {"weight", "bias"}
    for name, value in kept.items():
        assert torch.equal(state[name], value), name
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())


def test_published_names_and_sizes_give_the_published_architecture():
    full = {"width": 1024, "hidden": 768, "layers": 1, "side": 14, "patch": 16, "mlp": 4}
    with torch.device("meta"):
        tensors = reward_tensors(**full, vocabulary=30524)
        towers = blip._towers({own: value for name, value in tensors.items() if (own := blip.ours(name)) is not None})
    vision, text = (tower.config for tower in towers)
    assert (vision.image_size, vision.patch_size) == (224, 16)
    assert (vision.num_attention_heads, vision.intermediate_size) == (16, 4096)
    assert (text.num_attention_heads, text.intermediate_size) == (12, 3072)
    assert (text.encoder_hidden_size, text.vocab_size) == (1024, 30524)
    assert (vision.layer_norm_eps, text.layer_norm_eps) == (1e-6, 1e-12)


def test_padding_changes_nothing(reward):
    model = reward._model("cpu")
    tokens = model.image(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    ids = torch.tensor([[2, 7, 9, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        padded = model.fuse(tokens, ids, mask)
        torch.testing.assert_close(padded, model.fuse(tokens, ids[:, :4], mask[:, :4]), atol=1e-6, rtol=0)
        ids[0, 4:] = 11
        torch.testing.assert_close(padded, model.fuse(tokens, ids, mask), atol=1e-6, rtol=0)
        ids[0, 3] = 11  # a later token reaches the first one: not causal
        assert (padded - model.fuse(tokens, ids, mask)).abs() > 1e-4


def test_equal_images_are_encoded_once(folder, images, prompts):
    reward = ImageReward(folder / "reward.safetensors", tokenizer=folder / "bert")
    repeated = images[[2, 0, 2, 2, 0]]
    scores = reward(repeated, prompts)
    assert reward.images_encoded == 2
    alone = torch.cat([reward(repeated[i : i + 1], [prompts[i]]) for i in range(5)])
    torch.testing.assert_close(scores, alone, atol=1e-5, rtol=0)


def test_half_precision_is_that_of_the_towers(folder):
    single = ImageReward(folder / "reward.safetensors", tokenizer=folder / "bert")
    half = ImageReward(folder / "reward.safetensors", tokenizer=folder / "bert", dtype=torch.bfloat16)
    assert half.version == f"{single.version}/bfloat16"
    assert next(half._model("cpu").vision.parameters()).dtype == torch.bfloat16
    assert half._model("cpu").weight.dtype == torch.float32


def test_equal_verifiers_share_one_model(folder, tmp_path):
    first, second = (ImageReward(folder / "reward.safetensors", tokenizer=folder / "bert") for _ in range(2))
    assert first._model("cpu") is second._model("cpu")
    assert first.version == second.version
    write_bert_tokenizer(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("[PAD]\n")
    other = ImageReward(folder / "reward.safetensors", tokenizer=tmp_path / "bert")
    assert other.version != first.version


LAYER = "blip.text_encoder.encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({LAYER: None}, r"lacks 1 weights, such as 'text.encoder.layer.1.output.dense.weight'"),
        ({"mlp.layers.7.bias": None}, r"lacks 1 weights, such as 'mlp.layers.7.bias'"),
        ({"blip.visual_encoder.pos_embed": None}, "lacks 1 weights, such as 'vision.embeddings.position_embedding'"),
        ({"blip.text_decoder.x": torch.zeros(1)}, "has, beyond the model, 1 weights, such as 'blip.text_decoder.x'"),
        ({LAYER: torch.zeros(3, 3)}, r"has shape \(3, 3\), expected \(128, 256\)"),
        ({"mlp.layers.7.weight": torch.zeros(1, 9)}, "expected a chain"),
        (reward_tensors(width=80), "80 wide; expected a multiple of 64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_checkpoints_are_refused(change, message):
    tensors = {name: value for name, value in (reward_tensors() | change).items() if value is not None}
    with refused(message):
        blip.build(tensors)


def test_wrong_files_are_refused(tmp_path, folder):
    with refused("is no file"):
        ImageReward(tmp_path / "none.pt", tokenizer=folder / "bert").load()
    save_file(reward_tensors(vocabulary=100), tmp_path / "small.safetensors")
    with refused(r"knows \d+ tokens, the weights 100"):
        ImageReward(tmp_path / "small.safetensors", tokenizer=folder / "bert").load()
    (tmp_path / "empty").mkdir()
    with refused("no tokenizer in"):
        _ = ImageReward(folder / "reward.safetensors", tokenizer=tmp_path / "empty").version


def test_published_weights_are_pinned_and_their_absence_is_one_line():
    assert PUBLISHED.sha256 is not None and len(commit("THUDM/ImageReward")) == 40
    published = ImageReward()
    assert published.version == "ImageReward.pt/d71dc8d4/google-bert/bert-base-uncased@86b5e093"
    with refused("could not get ImageReward.pt of THUDM/ImageReward"):
        published.load()
    assert "@" in ImageReward(revision="main").version
    assert CARD.prompt_limit == f"{TOKENS} tokens"
