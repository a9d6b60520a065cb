"""Prompts where they are shown: any text can be a prompt, and not every text can be printed."""


def printable(text: str, longest: int | None = None) -> str:
    """The text without NUL and lone surrogates, which neither files nor terminals take, cut to a length."""
    shown = text if longest is None or len(text) <= longest else text[:longest] + "..."
    return shown.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
