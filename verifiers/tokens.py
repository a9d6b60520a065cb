"""What a text tower does not read: token limits, counted with the tower's own tokenizer."""

import warnings
from typing import Any


class TokenLimit:
    """Warns once per prompt that is longer than the tower reads.

    The tower cuts it as the reference implementation does, since only that is the published score.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Take one of open_clip's tokenizers."""
        self._tokenizer = tokenizer
        self._warned: set[str] = set()
        self.limit = int(tokenizer.context_length)

    def length(self, prompt: str) -> int:
        """Tokens of the whole prompt, start and end tokens included."""
        return len(self._tokens(prompt)) + self._special

    def dropped(self, prompt: str) -> str:
        """The end of the prompt that the tower does not read, "" when it reads all."""
        rest = self._tokens(prompt)[max(0, self.limit - self._special) :]
        return str((self._hub or self._tokenizer).decode(rest)).strip() if rest else ""

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

    @property
    def _hub(self) -> Any:
        """The transformers tokenizer inside open_clip's wrapper, where there is one."""
        return getattr(self._tokenizer, "tokenizer", None)

    @property
    def _special(self) -> int:
        if self._hub is None or not hasattr(self._hub, "num_special_tokens_to_add"):
            return 2
        # open_clip's "clips" mode adds three tokens of its own
        return 3 if self._tokenizer.tokenizer_mode == "clips" else int(self._hub.num_special_tokens_to_add())

    def _tokens(self, prompt: str) -> list[int]:
        if self._hub is None:
            return list(self._tokenizer.encode(prompt))
        text = self._tokenizer.clean_fn(prompt)
        # verbose=False: transformers' own notice would repeat ours
        return list(self._hub(text, add_special_tokens=False, truncation=False, verbose=False).input_ids)
