"""Strings that a chat model's processor reads as control tokens, which a user's text must not hold."""

from typing import Any


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
