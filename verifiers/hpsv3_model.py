"""HPSv3's network: Qwen2-VL without its language head, and a head of three Linear layers at the reward token."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from verifiers.base import WeightsError
from verifiers.loading.devices import Shared
from verifiers.loading.hub import first_line
from verifiers.loading.pretrained import quiet

HEAD = "rm_head."
EMBEDDINGS = "language_model.embed_tokens.weight"
_UNUSED = "lm_head."


class RewardModel(nn.Module):
    """(mu, log sigma) of a sequence: the head on the hidden state of its last reward token, in float32."""

    def __init__(self, backbone: Any, head: nn.Sequential, reward_id: int) -> None:
        """Take a `Qwen2VLModel`, the head, and the id of the reward token."""
        super().__init__()
        self.backbone, self.head, self.reward_id = backbone, head, reward_id

    def forward(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "batch 2"]:
        """Score what the processor made, padded on the right, one reward token or more in each row."""
        ids = inputs["input_ids"]
        # The original never passes Qwen2-VL's three-dimensional positions on, so its weights know plain ones only.
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
        hidden = self.backbone(**inputs, position_ids=positions, use_cache=False).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        scores: Tensor = self.head(hidden[rows, last(ids, self.reward_id)].float())
        return scores


SHARED: Shared[RewardModel] = Shared(kept=1)


def last(ids: Int[Tensor, "batch length"], token: int) -> Int[Tensor, " batch"]:
    """Where each row has the token for the last time."""
    length = ids.shape[1]
    return length - 1 - (ids.flip(1) == token).int().argmax(1)


def shared(
    key: tuple[Any, ...], path: Path, config: Any, reward_id: int, dtype: torch.dtype, device: torch.device
) -> RewardModel:
    """The network of a weight file, loaded once for equal keys."""
    return SHARED.get(key, lambda: load(path, config, reward_id, dtype, device))


def load(path: Path, config: Any, reward_id: int, dtype: torch.dtype, device: torch.device) -> RewardModel:
    """Read the published file straight onto the device: eval mode, weights frozen, never two copies of them.

    Args:
        path: a `.safetensors` file with the original's names.
        config: the base model's configuration; the number of embeddings is the file's.
        reward_id: id of the reward token.
        dtype: of the backbone; the head is float32 always.
        device: where it runs.

    Raises:
        WeightsError: not such a file, weights that are missing or do not fit, or no row for the reward token.
    """
    from transformers import Qwen2VLModel

    with torch.inference_mode(False):
        tensors, head = _read(path, dtype, device)
        config = _fitted(config, tensors, reward_id, path)
        try:
            with quiet(), torch.random.fork_rng(devices=[]):
                backbone, info = Qwen2VLModel.from_pretrained(
                    None,
                    config=config,
                    state_dict=tensors,
                    dtype=dtype,
                    device_map={"": device},
                    output_loading_info=True,
                )
        except Exception as error:  # shapes that differ and configurations that don't fit share no base class
            raise WeightsError(
                f"{path.name!r} does not fit the base model's configuration ({first_line(error)}); "
                "expected HPSv3.safetensors on Qwen2-VL-7B-Instruct"
            ) from error
        if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
            raise WeightsError(
                f"{path.name!r} lacks, or has beyond Qwen2-VL, {len(wrong)} weights such as {wrong[0]!r}; "
                "expected HPSv3.safetensors on Qwen2-VL-7B-Instruct"
            )
        return RewardModel(backbone, head.to(device), reward_id).eval().requires_grad_(False)


def ours(name: str) -> str:
    """The name in `Qwen2VLModel` of a weight of the file: what precedes transformers 4.52, or follows it."""
    if name.startswith(("model.visual.", "model.language_model.")):
        return name.removeprefix("model.")
    return f"language_model.{name.removeprefix('model.')}" if name.startswith("model.") else name


def _read(path: Path, dtype: torch.dtype, device: torch.device) -> tuple[dict[str, Tensor], nn.Sequential]:
    from safetensors import safe_open

    if path.suffix != ".safetensors":
        raise WeightsError(f"weights {path.name!r} has suffix {path.suffix!r}; expected HPSv3's .safetensors file")
    tensors: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            for name in file.keys():
                if name.startswith(HEAD):
                    head[name.removeprefix(HEAD)] = file.get_tensor(name).float()
                elif not name.startswith(_UNUSED):
                    tensors[ours(name)] = file.get_tensor(name).to(dtype)
    except Exception as error:  # safetensors' and file errors share no base class
        raise WeightsError(f"could not read {path.name!r} ({first_line(error)}); download it again") from error
    return tensors, _head(head, path)


def _head(weights: Mapping[str, Tensor], path: Path) -> nn.Sequential:
    expected = {f"{layer}.{part}" for layer in (0, 3, 5) for part in ("weight", "bias")}
    if set(weights) != expected or weights["5.bias"].shape != (2,):
        raise WeightsError(
            f"{path.name!r} has the head {sorted(HEAD + name for name in weights)}; expected {HEAD}{{0,3,5}}.{{weight,"
            "bias}} that end in two outputs, as in HPSv3.safetensors"
        )
    with torch.device("meta"):
        first, second, third = (
            nn.Linear(weights[f"{i}.weight"].shape[1], weights[f"{i}.weight"].shape[0]) for i in (0, 3, 5)
        )
    head = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.05), second, nn.ReLU(), third)
    head.load_state_dict(weights, assign=True)
    return head


def _fitted(config: Any, tensors: Mapping[str, Tensor], reward_id: int, path: Path) -> Any:
    if getattr(config, "model_type", None) != "qwen2_vl":
        raise WeightsError(f"the base model is a {getattr(config, 'model_type', None)!r}; HPSv3 needs a 'qwen2_vl'")
    if EMBEDDINGS not in tensors:
        raise WeightsError(f"{path.name!r} has no 'model.embed_tokens.weight'; expected HPSv3.safetensors")
    rows = len(tensors[EMBEDDINGS])
    if reward_id >= rows:
        raise WeightsError(
            f"{path.name!r} embeds {rows} tokens, but the reward token has id {reward_id} in the base model's "
            "tokenizer; use the tokenizer of Qwen2-VL-7B-Instruct"
        )
    config = copy.deepcopy(config)
    config.text_config.vocab_size = rows  # the original shrank its embeddings to the tokenizer's length
    return config
