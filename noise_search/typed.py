"""Options as people type them on a command line: NAME=VALUE."""

import json
from typing import Any

_WORDS = {"none": None, "null": None, "true": True, "false": False}


def assignment(text: str, example: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE: JSON, or true, false, none in any case, or the text itself.

    Raises:
        ValueError: a text without "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"option {text!r} has no value; write it as NAME=VALUE, such as {example}")
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def text_of(assigned: str) -> str:
    """The value of NAME=VALUE as it was typed."""
    return assigned.partition("=")[2]
