"""An image-text model of transformers on this machine as a judge."""

import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from verifiers.arguments import as_string, as_whole
from verifiers.judge.endpoint import Answer, Content, Endpoint, JudgeError
from verifiers.loading.pretrained import Pretrained

DEFAULT_MODEL = "Qwen/Qwen3-VL-4B-Instruct"


class LocalEndpoint(Endpoint):
    """Any instruction-tuned `AutoModelForImageTextToText`, answering greedily, one image at a time."""

    provider = "local"
    concurrent = False
    paid = False
    repeatable = False  # greedy: the same answer every time

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.bfloat16,
        device: torch.device | str | None = None,
        max_tokens: int = 1024,
    ) -> None:
        """Name the model; nothing is loaded.

        Args:
            model: hub id, or the directory of a saved model; default `Qwen/Qwen3-VL-4B-Instruct`.
            revision: commit, tag or branch of the hub repository; None for the pinned commit.
            dtype: of the weights.
            device: where it runs; default where the images are.
            max_tokens: most tokens of an answer.

        Raises:
            ValueError: an unknown dtype or device, or a number below its least.
            TypeError: an argument of another type.
        """
        model = model or DEFAULT_MODEL
        if not isinstance(model, Path):
            as_string("model", model)
        self.source = Pretrained(model, "AutoModelForImageTextToText", revision=revision, dtype=dtype, device=device)
        self.model = self.source.model_id if self.source.directory is None else self.source.directory.name
        self.max_tokens: int = as_whole("max_tokens", max_tokens, 1)
        self._device: torch.device | str | None = None

    @property
    def label(self) -> str:
        """Provider, weights and dtype; hashes a local directory."""
        return f"{self.provider}/{self.source.label}"

    def settings(self) -> dict[str, Any]:
        """The limit of the answer."""
        return {"max_tokens": self.max_tokens}

    def ready(self, device: torch.device | str | None = None) -> None:
        """Load the model and its processor."""
        self._device = device
        self.source.model(device)
        if not getattr(self._processor, "chat_template", None):
            raise JudgeError(
                f"{self.model!r} has no chat template; a judge needs an instruction-tuned image-text model"
            )

    def ask(self, content: Content, schema: Mapping[str, Any], seed: int | None) -> Answer:
        """Generate one answer; the schema is in the text, and nothing enforces it."""
        from PIL import Image

        model = self.source.model(self._device)
        parts = [
            {"type": "image", "image": Image.open(io.BytesIO(one))}
            if isinstance(one, bytes)
            else {"type": "text", "text": one}
            for one in content
        ]
        inputs = self._processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(model.device)
        inputs = {
            name: value.to(model.dtype) if torch.is_floating_point(value) else value for name, value in inputs.items()
        }
        greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
        with torch.no_grad():
            tokens = model.generate(**inputs, **greedy, max_new_tokens=self.max_tokens)
        asked = inputs["input_ids"].shape[1]
        written = tokens.shape[1] - asked
        answer = self._processor.batch_decode(tokens[:, asked:], skip_special_tokens=True)[0]
        return Answer(answer, asked, written, note=self.cut if written >= self.max_tokens else "")

    @cached_property
    def _processor(self) -> Any:
        return self.source.part("AutoProcessor")
