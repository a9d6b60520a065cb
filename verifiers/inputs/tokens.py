"""Texts on their way into an encoder: what it leaves unread, by its own tokenizer, and what it has read before."""

import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_WARNED = 10_000
"""Prompts that are remembered as warned about."""


class TokenLimit:
    """Warns once per prompt that is longer than the encoder reads.

    It is cut there as the reference implementation does, since only that is the published score.

    Attributes:
        limit: tokens that are read, special ones included.
        special: how many of them are special tokens.
    """

    def __init__(
        self, encode: Callable[[str], list[int]], decode: Callable[[Sequence[int]], str], limit: int, special: int
    ) -> None:
        """Take how a text becomes tokens (special ones excluded) and back, and the limit."""
        self._encode, self._decode = encode, decode
        self._warned: set[str] = set()
        self.limit, self.special = limit, special

    @classmethod
    def of(cls, tokenizer: Any, limit: int, clean: Callable[[str], str] = str) -> "TokenLimit":
        """For one of transformers' tokenizers; `clean` is what happens to a text before it."""

        def encode(text: str) -> list[int]:
            # verbose=False: transformers' own notice would repeat ours
            return list(tokenizer(clean(text), add_special_tokens=False, truncation=False, verbose=False).input_ids)

        return cls(encode, tokenizer.decode, limit, int(tokenizer.num_special_tokens_to_add()))

    @classmethod
    def of_open_clip(cls, tokenizer: Any) -> "TokenLimit":
        """For one of open_clip's tokenizers, of its own kind or around one of transformers'."""
        inner = getattr(tokenizer, "tokenizer", None)
        limit = int(tokenizer.context_length)
        if inner is None:
            return cls(lambda text: list(tokenizer.encode(text)), tokenizer.decode, limit, 2)
        found = cls.of(inner, limit, getattr(tokenizer, "clean_fn", str))
        if getattr(tokenizer, "tokenizer_mode", "") == "clips":
            found.special = 3  # that mode adds three tokens of its own
        return found

    def length(self, prompt: str) -> int:
        """Tokens of the whole prompt, special ones included."""
        return len(self._encode(prompt)) + self.special

    def dropped(self, prompt: str) -> str:
        """The end of the prompt that is not read, "" when all is."""
        rest = self._encode(prompt)[max(0, self.limit - self.special) :]
        return str(self._decode(rest)).strip() if rest else ""

    def chunks(self, prompt: str) -> list[str]:
        """The prompt in parts that are read whole, cut at the ends of sentences, else at commas, else between words."""
        if self.length(prompt) <= self.limit:
            return [prompt]
        for boundary in (r"(?<=[.!?;])\s+", r"(?<=,)\s+", r"\s+"):
            pieces = [piece for piece in re.split(boundary, prompt.strip()) if piece]
            if all(self.length(piece) <= self.limit for piece in pieces):
                return self._packed(pieces)
        return [prompt]  # one word longer than the limit: cut as ever

    def _packed(self, pieces: Sequence[str]) -> list[str]:
        """Neighbouring pieces joined as far as they fit together."""
        packed: list[str] = []
        for piece in pieces:
            joined = f"{packed[-1]} {piece}" if packed else piece
            if packed and self.length(joined) <= self.limit:
                packed[-1] = joined
            else:
                packed.append(piece)
        return packed

    def check(self, prompt: str, reader: str = "the verifier") -> None:
        """Warn if the prompt is too long and was not warned about before; `reader` is who reads it."""
        length = self.length(prompt)
        if length <= self.limit or prompt in self._warned:
            return
        if len(self._warned) < _WARNED:
            self._warned.add(prompt)
        warnings.warn(
            f"prompt has {length} tokens, {reader} reads {self.limit}; it does not see "
            f"{self.dropped(prompt)!r}: shorten the prompt, or use a verifier that reads more",
            stacklevel=2,
        )


class TextCache:
    """Embeddings of texts: each distinct one is encoded once and kept, until `most` others came after it."""

    def __init__(self, most: int = 4096) -> None:
        """Take how many are kept."""
        self.most = most
        self.kept: dict[str, Tensor] = {}

    def get(
        self, texts: Sequence[str], encode: Callable[[list[str]], Float[Tensor, "batch dim"]], batch: int
    ) -> Float[Tensor, "batch dim"]:
        """Embeddings of the texts; those that are not kept are encoded, at most `batch` at once."""
        kept = {text: self.kept.get(text) for text in texts}  # one read each: other threads evict
        found = {text: embedding for text, embedding in kept.items() if embedding is not None}
        new = [text for text in kept if text not in found]
        for start in range(0, len(new), batch):
            part = new[start : start + batch]
            found.update(zip(part, encode(part).unbind(), strict=True))
        self.kept.update((text, found[text]) for text in new)
        for text in list(self.kept)[: max(0, len(self.kept) - self.most)]:
            self.kept.pop(text, None)
        return torch.stack([found[text] for text in texts])


def control_tokens(processor: Any) -> tuple[str, ...]:
    """The tokenizer's special added tokens, and the placeholders where the processor puts what isn't text.

    Added tokens that are not special, such as runs of spaces or HTML tags, are ordinary text.

    Args:
        processor: a processor of transformers with a tokenizer.
    """
    found = {token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special}
    # a placeholder is expanded in the text wherever it stands, special or not
    found |= {str(getattr(processor, f"{kind}_token", None) or "") for kind in ("image", "video", "audio")}
    return tuple(sorted(found - {""}))
