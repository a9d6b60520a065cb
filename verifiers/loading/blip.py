"""ImageReward's network: BLIP's image and fusion towers as transformers has them, under the original's key names."""

import re
from collections.abc import Iterable, Mapping
from math import isqrt
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from verifiers.base import WeightsError
from verifiers.loading.devices import Shared
from verifiers.loading.pretrained import quiet
from verifiers.loading.weights import Head, WeightFile, collapsed_head

HEAD_WIDTH = 64
"""Width of an attention head in ViT-L/16 and BERT-base; no shape in a checkpoint tells it."""

MLP = "mlp.layers."
"""Where the checkpoint keeps the reward's layers, which have no activations between them."""

_MLP_LAYERS = (0, 2, 4, 6, 7)
_DROPPED = r"blip\.(text_encoder\.embeddings\.position_ids$|(vision|text)_proj\.)"
_RENAMED = (
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision.encoder.layers.\1.layer_norm\2."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision.encoder.layers.\1.self_attn.qkv."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision.encoder.layers.\1.self_attn.projection."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision.encoder.layers.\1.mlp."),
    (r"^blip\.text_encoder\.", "text."),
)


class BlipReward(nn.Module):
    """Image tower, fusion with a text, and one affine map of the fused first token; the map is in float32."""

    def __init__(self, vision: Any, text: Any, head: Head) -> None:
        """Take a `BlipVisionModel`, a `BlipTextModel` with cross-attention, and the collapsed head."""
        super().__init__()
        self.vision, self.text = vision, text
        self.weight, self.bias = nn.Parameter(head.weight), nn.Parameter(head.bias)
        self.size = int(vision.config.image_size)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.bias.device

    def image(self, inputs: Float[Tensor, "batch 3 rows columns"]) -> Float[Tensor, "batch patches width"]:
        """All tokens of preprocessed images, the final norm applied, in the towers' dtype."""
        tokens: Tensor = self.vision(pixel_values=inputs).last_hidden_state
        return tokens

    def fuse(
        self,
        tokens: Float[Tensor, "batch patches width"],
        ids: Int[Tensor, "batch length"],
        mask: Int[Tensor, "batch length"],
    ) -> Float[Tensor, " batch"]:
        """The reward, not yet normalised, of each image's tokens with its text; padding has mask 0."""
        # As an encoder: the text attends to both sides, not causally. Without a mask every image token is attended to.
        states = self.text(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=tokens, is_decoder=False
        ).last_hidden_state
        rewards: Tensor = states[:, 0].float() @ self.weight + self.bias
        return rewards


SHARED: Shared[BlipReward] = Shared(kept=1)


def shared(file: WeightFile, dtype: torch.dtype, device: torch.device) -> BlipReward:
    """The network of a weight file, loaded once for equal files."""

    def load() -> BlipReward:
        with torch.inference_mode(False):  # weights made or moved in inference mode could serve no gradient later
            return build(file.tensors(), dtype).to(device)

    return SHARED.get((file.path.resolve(), file.label, dtype, device), load)


def ours(name: str) -> str | None:
    """The name here of a weight of the original, None for one that the reward doesn't use."""
    if re.match(_DROPPED, name):
        return None
    return next((re.sub(old, new, name) for old, new in _RENAMED if re.search(old, name)), name)


def build(tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> BlipReward:
    """The network of a checkpoint with the original's key names: eval mode, weights frozen, sizes read from shapes.

    Args:
        tensors: the checkpoint.
        dtype: of both towers; the head is float32 always.

    Raises:
        WeightsError: weights that are missing, unknown, or of shapes that don't belong together.
    """
    head = {f"{MLP}{i}.{part}" for i in _MLP_LAYERS for part in ("weight", "bias")}
    _refuse(head - tensors.keys(), "lacks")
    named = {ours(name): value for name, value in tensors.items() if name not in head}
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), quiet():
        weights = {name: value.to(dtype) for name, value in named.items() if name is not None}
        vision, text = _towers(weights)
        _fill(vision, "vision.", weights)
        _fill(text, "text.", weights)
        _refuse((name for name in weights if not name.startswith(("vision.", "text."))), "has, beyond the model,")
        reward = BlipReward(vision, text, collapsed_head({name: tensors[name] for name in head}))
    if len(reward.weight) != text.config.hidden_size:
        raise WeightsError(f"the head takes width {len(reward.weight)}, the text tower has {text.config.hidden_size}")
    return reward.eval().requires_grad_(False)


def _towers(weights: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """Both towers without memory for weights, as large as the checkpoint's."""
    from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    def shape(name: str) -> tuple[int, ...]:
        if name not in weights:
            _refuse([name], "lacks")
        return tuple(weights[name].shape)

    patch = shape("vision.embeddings.patch_embedding.weight")[-1]
    _, positions, width = shape("vision.embeddings.position_embedding")
    vocabulary, hidden = shape("text.embeddings.word_embeddings.weight")
    for what, value in (("image", width), ("text", hidden)):
        if value % HEAD_WIDTH:
            raise WeightsError(f"the {what} tower is {value} wide; expected a multiple of {HEAD_WIDTH}, its head width")
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=shape("vision.encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=_layers(weights, "vision.encoder.layers."),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=isqrt(positions - 1) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    text = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        encoder_hidden_size=shape("text.encoder.layer.0.crossattention.self.key.weight")[1],
        intermediate_size=shape("text.encoder.layer.0.intermediate.dense.weight")[0],
        num_hidden_layers=_layers(weights, "text.encoder.layer."),
        num_attention_heads=hidden // HEAD_WIDTH,
        max_position_embeddings=shape("text.embeddings.position_embeddings.weight")[0],
        layer_norm_eps=1e-12,
        is_decoder=True,  # makes the cross-attention; the text isn't read as a decoder would
    )
    with torch.device("meta"):
        return BlipVisionModel(vision), BlipTextModel(text, add_pooling_layer=False)


def _fill(tower: Any, prefix: str, weights: Mapping[str, Tensor]) -> None:
    own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    expected = tower.state_dict()
    _refuse((prefix + name for name in expected.keys() - own.keys()), "lacks")
    _refuse((prefix + name for name in own.keys() - expected.keys()), "has, beyond the model,")
    for name, value in expected.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(own[name].shape)}, expected {tuple(value.shape)}"
            raise WeightsError(f"weight {prefix + name!r} of the checkpoint has shape {shapes}; is it ImageReward.pt?")
    tower.load_state_dict(own, assign=True)
    for module in tower.modules():
        if "position_ids" in module._buffers:  # in no checkpoint, and without values on the meta device
            module.position_ids = torch.arange(tower.config.max_position_embeddings)[None]


def _layers(weights: Iterable[str], prefix: str) -> int:
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix))


def _refuse(names: Iterable[str], how: str) -> None:
    if wrong := sorted(names):
        raise WeightsError(
            f"the checkpoint {how} {len(wrong)} weights, such as {wrong[0]!r}; expected ImageReward.pt's: nothing is "
            "ever left at random values"
        )
