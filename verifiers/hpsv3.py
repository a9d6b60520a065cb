"""HPSv3: human preference as a vision-language model with a reward head reads it."""

import copy
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from verifiers.base import Verifier, WeightsError, check_images, check_prompts
from verifiers.card import Card
from verifiers.inputs.preprocess import Images, Pixels
from verifiers.inputs.tokens import control_tokens
from verifiers.inputs.vlm import resized
from verifiers.loading.devices import Shared, indexed
from verifiers.loading.hub import first_line
from verifiers.loading.pretrained import Pretrained, quiet
from verifiers.loading.weights import WeightFile, sha256

CARD = Card(
    measures="human preference (HPSv3: Qwen2-VL-7B with a reward head)",
    range="unbounded, usually -10 to 15, good generators about 10",
    reference="Ma et al. 2025, arXiv 2508.03789",
    size="16.6 GB",
    code_licence="MIT",
    weights_licence="Apache-2.0",
    prompt_limit="32 thousand tokens",
    weights="MizzenAI/HPSv3; tokenizer and configuration of Qwen/Qwen2-VL-7B-Instruct",
    agreement=60.2,
)

REWARD_TOKEN = "<|Reward|>"
PIXELS = 256 * 28 * 28
BATCH = 4
_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja")
_HEAD, _EMBEDDINGS, _UNUSED = "rm_head.", "language_model.embed_tokens.weight", "lm_head."


class HPSv3(Verifier):
    """Human Preference Score v3 of Ma et al. (2508.03789): the mean mu of a preference read by Qwen2-VL-7B.

    The user's turn is the image, the published instruction with the prompt in it, and a reward token, at whose last
    hidden state a head of three Linear layers gives mu and log sigma. Images are scaled to about 448 x 448 pixels.
    The score is mu; `distribution` gives sigma too. The network is loaded once, in bfloat16, straight onto its
    device; head and score are float32. Weights load at the first call, which raises WeightsError where they are
    missing or do not fit. A forward pass costs about 14 TFLOP per image.

    Example:
        >>> HPSv3()(images, ["a red circle"] * len(images))
        tensor([9.8124, 11.0312])
    """

    name = "hpsv3"
    family = "vlm"

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        base: str | Path = "Qwen/Qwen2-VL-7B-Instruct",
        revision: str | None = None,
        base_revision: str | None = None,
        dtype: torch.dtype | str = torch.bfloat16,
        device: torch.device | str | None = None,
        pixels: int = PIXELS,
        batch: int = BATCH,
    ) -> None:
        """Name the weights; nothing is loaded yet.

        Args:
            weights: a local copy of `HPSv3.safetensors`; default that of `MizzenAI/HPSv3`.
            base: hub id or directory of the base model; its configuration, tokenizer and image processor are read,
                never its weights.
            revision: commit, tag or branch of `MizzenAI/HPSv3`; default a pinned commit.
            base_revision: the same of the base model.
            dtype: of the network; its head is float32 always.
            device: where it runs; default where the images are.
            pixels: area to which images are scaled; only the default is the published score.
            batch: images per forward pass.

        Raises:
            ValueError: an area below one patch, a batch below one image, or an unknown dtype.
        """
        if pixels < 28 * 28:
            raise ValueError(f"pixels is {pixels}; expected an area of at least 784, the published one is {PIXELS}")
        if batch < 1:
            raise ValueError(f"batch is {batch}; expected at least 1")
        if weights is not None and revision is not None:
            raise ValueError(f"revision={revision!r} belongs to weights of the hub; {str(weights)!r} is a local file")
        published = WeightFile("HPSv3.safetensors", "MizzenAI/HPSv3", revision, size=16_600_000_000)
        self.weights = published if weights is None else WeightFile.local(weights)
        self.base = Pretrained(base, "Qwen2VLModel", revision=base_revision, dtype=dtype, device=device)
        self.pixels, self.batch = pixels, batch
        self._models: dict[torch.device, RewardModel] = {}

    @cached_property
    def version(self) -> str:  # type: ignore[override]  # hashing local files must not burden construction
        """Weights, base, dtype and area; reads local files once to hash them."""
        dtype = str(self.base.dtype).removeprefix("torch.")
        parts = [self.weights.label, self._base_label, dtype]
        return "/".join(parts + ([f"{self.pixels}px"] if self.pixels != PIXELS else []))

    def load(self, device: torch.device | str | None = None) -> None:
        """Load the processor and the network now."""
        self._model(torch.device(device or "cpu"))

    def score(
        self, images: Float[Tensor, "batch 3 height width"], prompts: Sequence[str], **needs: Any
    ) -> Float[Tensor, " batch"]:
        """The mean mu of each image's preference."""
        return self._outputs(images, prompts)[:, 0]

    def distribution(
        self, images: Tensor, prompts: Sequence[str]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """(mu, sigma) of each image's preference, sigma = exp(second output); no gradient, NaN as in the call.

        Raises:
            TypeError, ValueError: images or prompts as the verifier's call refuses them.
        """
        finite = check_images(images)
        check_prompts(prompts, len(images))
        if len(images) == 0:
            return torch.empty(0, device=images.device), torch.empty(0, device=images.device)
        with torch.no_grad():
            shown = torch.where(finite[:, None, None, None], images.float(), 0.5)
            mu, log_sigma = self._outputs(shown, prompts).to(images.device).unbind(1)
        return mu.masked_fill(~finite, torch.nan), log_sigma.exp().masked_fill(~finite, torch.nan)

    def _outputs(self, images: Images, prompts: Sequence[str]) -> Float[Tensor, "batch 2"]:
        model = self._model(images.device)
        prepared = resized(images, self._processor.image_processor)
        starts = range(0, len(prompts), self.batch)
        parts = [(prepared[at : at + self.batch], prompts[at : at + self.batch]) for at in starts]
        return torch.cat([model(self._inputs(part, texts, model)) for part, texts in parts])

    def _inputs(self, images: Pixels, prompts: Sequence[str], model: "RewardModel") -> Mapping[str, Tensor]:
        for prompt in prompts:
            self._check_control(prompt)
        device = next(model.parameters()).device
        texts = self._processor.apply_chat_template(
            [turn(prompt) for prompt in prompts], tokenize=False, add_generation_prompt=True
        )
        # Resized already, as PIL does it; a second pass would not leave every size as it is.
        unscaled = {"do_rescale": False, "do_resize": False}
        inputs: Mapping[str, Tensor] = self._processor(
            text=texts, images=list(images.to(device)), padding=True, return_tensors="pt", images_kwargs=unscaled
        ).to(device)
        return inputs

    def _check_control(self, prompt: str) -> None:
        for token in control_tokens(self._processor):
            if token in prompt:
                raise ValueError(
                    f"prompt {prompt!r} holds {token!r}, a control token of {self.base.model_id}: remove it"
                )

    def _model(self, device: torch.device) -> "RewardModel":
        where = indexed(self.base.device or device)
        if where not in self._models:
            # configuration and tokenizer first: they are small, and what is wrong with them is known before 16 GB load
            config, reward_id = self.base.config, self._processor.tokenizer.convert_tokens_to_ids(REWARD_TOKEN)
            key = (self.weights.label, self._base_label, self.base.dtype, where)
            self._models[where] = SHARED.get(
                key, lambda: _load(self.weights.path, config, reward_id, self.base.dtype, where)
            )
        return self._models[where]

    @cached_property
    def _processor(self) -> Any:
        from tokenizers import AddedToken

        processor = self.base.part("AutoProcessor")
        processor.image_processor.size = {"shortest_edge": self.pixels, "longest_edge": self.pixels}
        processor.tokenizer.padding_side = "right"  # as trained; the base model's own is left
        processor.tokenizer.add_tokens([AddedToken(REWARD_TOKEN, special=True, normalized=False)], special_tokens=True)
        return processor

    @cached_property
    def _base_label(self) -> str:
        directory = self.base.directory
        if directory is None:
            return f"{self.base.model_id}@{self.base.revision[:8]}"
        files = sorted(path for path in directory.glob("*") if path.suffix in _TEXT_SUFFIXES)
        if not files:
            raise WeightsError(f"no base model in {str(directory)!r}; expected a saved one, with config.json")
        return f"{directory.name}/{sha256(files)[:8]}"


def turn(prompt: str) -> list[dict[str, Any]]:
    """The conversation that is scored: the image, then the published instruction around the prompt."""
    published = json.loads(resources.files(__package__).joinpath("hpsv3_instruction.json").read_text(encoding="utf-8"))
    text = published["instruction"].format(text_prompt=prompt) + published["suffix"]
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


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
    return ids.shape[1] - 1 - (ids.flip(1) == token).int().argmax(1)


def _load(path: Path, config: Any, reward_id: int, dtype: torch.dtype, device: torch.device) -> RewardModel:
    """Read a file with the original's names straight onto the device: eval mode, frozen, never two copies of them.

    Only the backbone is of that dtype; as many embeddings as the file has replace the configuration's.

    Raises:
        WeightsError: not such a file, weights that are missing or do not fit, or no row for the reward token.
    """
    from transformers import Qwen2VLModel

    expected = "expected HPSv3.safetensors on Qwen2-VL-7B-Instruct"
    with torch.inference_mode(False):
        tensors, head = _read(path, dtype, device)
        config = _fitted(config, tensors, reward_id, path)
        try:
            with quiet(), torch.random.fork_rng(devices=[]):
                options = {"config": config, "state_dict": tensors, "dtype": dtype, "device_map": {"": device}}
                backbone, info = Qwen2VLModel.from_pretrained(None, **options, output_loading_info=True)
        except Exception as error:  # shapes that differ and configurations that don't fit share no base class
            raise WeightsError(
                f"{path.name!r} does not fit the base model's configuration ({first_line(error)}); {expected}"
            ) from error
        if wrong := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
            raise WeightsError(
                f"{path.name!r} lacks, or has beyond Qwen2-VL, {len(wrong)} weights such as {wrong[0]!r}; {expected}"
            )
        return RewardModel(backbone, head.to(device), reward_id).eval().requires_grad_(False)


def _ours(name: str) -> str:
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
                if name.startswith(_HEAD):
                    head[name.removeprefix(_HEAD)] = file.get_tensor(name).float()
                elif not name.startswith(_UNUSED):
                    tensors[_ours(name)] = file.get_tensor(name).to(dtype)
    except Exception as error:  # safetensors' and file errors share no base class
        raise WeightsError(f"could not read {path.name!r} ({first_line(error)}); download it again") from error
    return tensors, _head(head, path)


def _head(weights: Mapping[str, Tensor], path: Path) -> nn.Sequential:
    expected = {f"{layer}.{part}" for layer in (0, 3, 5) for part in ("weight", "bias")}
    if set(weights) != expected or weights["5.bias"].shape != (2,):
        raise WeightsError(
            f"{path.name!r} has the head {sorted(_HEAD + name for name in weights)}; expected "
            f"{_HEAD}{{0,3,5}}.{{weight,bias}} that end in two outputs, as in HPSv3.safetensors"
        )
    with torch.device("meta"):
        first, second, third = (nn.Linear(*weights[f"{layer}.weight"].shape[::-1]) for layer in (0, 3, 5))
    head = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.05), second, nn.ReLU(), third)
    head.load_state_dict(weights, assign=True)
    return head


def _fitted(config: Any, tensors: Mapping[str, Tensor], reward_id: int, path: Path) -> Any:
    if getattr(config, "model_type", None) != "qwen2_vl":
        raise WeightsError(f"the base model is a {getattr(config, 'model_type', None)!r}; HPSv3 needs a 'qwen2_vl'")
    if _EMBEDDINGS not in tensors:
        raise WeightsError(f"{path.name!r} has no 'model.embed_tokens.weight'; expected HPSv3.safetensors")
    rows = len(tensors[_EMBEDDINGS])
    if reward_id >= rows:
        raise WeightsError(
            f"{path.name!r} embeds {rows} tokens, but the reward token has id {reward_id} in the base model's "
            "tokenizer; use the tokenizer of Qwen2-VL-7B-Instruct"
        )
    config = copy.deepcopy(config)
    config.text_config.vocab_size = rows  # the original shrank its embeddings to the tokenizer's length
    return config
