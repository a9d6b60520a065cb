"""What a pipeline is asked for: text, class labels, or nothing but a number of images."""

import difflib
from typing import Any

from samplers import denoisers
from samplers.view import parameters

ASKING = ("prompt", "class_labels", "batch_size")
CLASS_COUNTS = ("num_embeds_ada_norm", "num_class_embeds")


def asking(pipe: Any) -> str | None:
    """The argument by which a pipeline is asked for rows; None for one that gives one row per call.

    A pipeline that takes labels for some models, and has one without classes, is asked for a number of rows.
    """
    taken = [name for name in ASKING if name in parameters(pipe)]
    if taken == ["class_labels", "batch_size"] and classes(pipe) is None:
        return "batch_size"
    return next(iter(taken), None)


def asked(pipe: Any, prompts: list[str]) -> dict[str, Any]:
    """The call options that ask for one row per prompt."""
    argument = asking(pipe)
    if argument == "prompt":
        return {"prompt": list(prompts)}
    if argument == "class_labels":
        counted = {"batch_size": len(prompts)} if "batch_size" in parameters(pipe) else {}
        return counted | {"class_labels": [label_id(pipe, prompt) for prompt in prompts]}
    return {} if argument is None else {"batch_size": len(prompts)}


def classes(pipe: Any) -> int | None:
    """How many classes the denoiser embeds; None where it embeds none, or does not say."""
    configs = [getattr(module, "config", None) for module in denoisers.find(pipe).values()]
    counts = [getattr(config, name, None) for name in CLASS_COUNTS for config in configs]
    return next((count for count in counts if count is not None), None)


def any_prompt(pipe: Any) -> str:
    """A prompt that will do where nothing is generated."""
    return "0" if asking(pipe) == "class_labels" else ""


def check_prompt(pipe: Any, prompt: str) -> None:
    """Raise TypeError for what is no text, ValueError for a class label that the pipeline does not have."""
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be a str, got {type(prompt).__name__}: {prompt!r:.80}")
    if asking(pipe) == "class_labels":
        label_id(pipe, prompt)


def label_id(pipe: Any, prompt: str) -> int:
    """The class of a label's name ("golden retriever"), or of its number as text ("207").

    Raises ValueError for a class that the model does not have, with the nearest names.
    """
    labels: dict[str, int] = getattr(pipe, "labels", None) or {}
    text = prompt.strip()
    if text in labels:
        return labels[text]
    count = classes(pipe)
    if text.isdecimal() and (count is None or int(text) < count):
        return int(text)
    folded = {name.casefold(): number for name, number in labels.items()}
    if text.casefold() in folded:
        return folded[text.casefold()]
    near = difflib.get_close_matches(text.casefold(), folded, n=3, cutoff=0.5)
    known = f"a name such as {', '.join(near or list(labels)[:3])}, or " if labels else ""
    below = "" if count is None else f" below {count}"
    raise ValueError(f"prompt {prompt!r} is no class of this pipeline: expected {known}a class number{below}")
