"""What a text encoder does not read: token limits, counted with its own tokenizer."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any


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

    def check(self, prompt: str) -> None:
        """Warn if the prompt is too long and was not warned about before."""
        length = self.length(prompt)
        if length <= self.limit or prompt in self._warned:
            return
        self._warned.add(prompt)
        warnings.warn(
            f"prompt has {length} tokens, the verifier reads {self.limit}; it does not see "
            f"{self.dropped(prompt)!r}: shorten the prompt, or give the verifier a shorter one",
            stacklevel=2,
        )
