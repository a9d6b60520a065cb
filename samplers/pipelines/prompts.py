"""`PromptMemo`: each distinct prompt is encoded once, as one row, and batches are gathered from the rows."""

import difflib
import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samplers.pipelines import denoisers
from samplers.pipelines.view import parameters

PROMPT = re.compile(r"(negative_)?prompt(_\d+)?")
EMBEDDED = re.compile(r"(negative_)?(pooled_)?prompt_(embeds|attention_mask|mask)\w*|negative_pooled_prompt_embeds\w*")
"""Options that stand for prompts: encoded by the user, one row for all candidates."""

PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


class UnequalPrompts(BaseException):
    """Rows whose encodings cannot share a batch; carries the groups of row indices that can.

    A BaseException, so that no `except Exception` of a pipeline swallows it; it never leaves this package.
    """

    def __init__(self, groups: list[list[int]]) -> None:
        super().__init__(groups)
        self.groups = groups


class _Encoding(NamedTuple):
    """What `encode_prompt` returned for one row, on which axis its tensors have rows, and what may share a batch."""

    value: Any
    axes: Any
    kind: str


class PromptMemo:
    """A memo over a pipeline's `encode_prompt`, whatever it takes and returns.

    Tensors with a batch row (first axis 1) are concatenated, lists joined, tensors without one (FLUX's
    `text_ids`) shared. Where a tensor's row isn't on its first axis (HiDream's layers come first), a prompt that is
    encoded twice shows where. Prompts share a batch only where all their tensors have equal shapes.
    """

    def __init__(self) -> None:
        self._rows: dict[str, _Encoding] = {}
        self.encoded: list[Any] = []

    def clear(self) -> None:
        """Forget the encodings, as text encoders may change between searches."""
        self._rows.clear()

    def install(self, view: Any) -> None:
        """Shadow `encode_prompt` on the view; pipelines without one are left alone."""
        method = getattr(view, "encode_prompt", None)
        if method is not None:
            vars(view)["encode_prompt"] = lambda *args, **kwargs: self._encode(method, args, kwargs)

    def _encode(self, method: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        bound = inspect.signature(method).bind(*args, **kwargs)
        bound.apply_defaults()
        batch = bound.arguments.get("prompt")
        if isinstance(batch, list) and all(isinstance(p, str) for p in batch):
            rows = [_row(bound.arguments, i, len(batch)) for i in range(len(batch))]
        elif isinstance(batch, str):
            rows = [dict(bound.arguments)]
        else:
            return method(*args, **kwargs)
        if not all(_plain(row) for row in rows):
            return method(*args, **kwargs)  # tensors or images among the arguments: nothing to key by
        encodings = [self._row_encoding(method, bound, row) for row in rows]
        return _gather(encodings)

    def _row_encoding(
        self, method: Callable[..., Any], bound: inspect.BoundArguments, row: dict[str, Any]
    ) -> _Encoding:
        texts = {k: v[0] if isinstance(v, list) else v for k, v in row.items() if PROMPT.fullmatch(k) and v}
        key = repr(sorted((row | texts).items()))
        if key not in self._rows:
            alone = inspect.BoundArguments(bound.signature, type(bound.arguments)(row))
            prompt = texts.get("prompt", "")  # before the call: Z-Image writes its chat template into the list
            value = method(*alone.args, **alone.kwargs)
            self.encoded.append(prompt)
            twice = value
            if _hides_rows(value):
                doubled = row | {k: [v] * 2 for k, v in texts.items()} | {"prompt": [prompt] * 2}
                doubled |= {k: 2 for k in row if k == "batch_size"}
                both = inspect.BoundArguments(bound.signature, type(bound.arguments)(doubled))
                twice = method(*both.args, **both.kwargs)
            axes = _axes(value, twice)
            self._rows[key] = _Encoding(value, axes, _kind(value, axes))
        return self._rows[key]


def _row(arguments: dict[str, Any], index: int, rows: int) -> dict[str, Any]:
    """The arguments of one row: prompts, of which there is one per row, are cut to it.

    By name: other lists of strings (Sana's `complex_human_instruction`) may happen to be as long.
    """

    def cut(name: str, value: Any) -> Any:
        if name == "batch_size":  # of prompts: HunyuanImage and HunyuanVideo 1.5 are told besides
            return 1
        texts = isinstance(value, list) and len(value) == rows and all(isinstance(v, str) for v in value)
        return [value[index]] if texts and PROMPT.fullmatch(name) else value

    return {name: cut(name, value) for name, value in arguments.items()}


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(_plain(v) for v in value)
    return isinstance(value, PLAIN)


def _hides_rows(value: Any) -> bool:
    """Whether a tensor may have its rows on another axis than the first; one of tokens and features has none."""
    if isinstance(value, tuple):
        return any(map(_hides_rows, value))
    return isinstance(value, Tensor) and value.ndim > 2 and len(value) != 1


def _axes(value: Any, twice: Any) -> Any:
    """The axis on which each tensor has its rows, which is longer where a prompt was encoded `twice`; None for none."""
    if isinstance(value, tuple):
        return tuple(_axes(*pair) for pair in zip(value, twice, strict=True))
    if not isinstance(value, Tensor):
        return None
    if value.ndim > 1 and len(value) == 1:
        return 0
    grown = [at for at, (one, two) in enumerate(zip(value.shape, twice.shape, strict=True)) if two == 2 * one]
    return grown[0] if len(grown) == 1 else None


def _kind(value: Any, axes: Any) -> str:
    """A text that is equal for encodings that may share a batch."""
    if isinstance(value, Tensor):
        if axes is not None:
            return f"rows{tuple(value.shape)}{value.dtype}"
        return f"shared{tuple(value.shape)}{hashlib.sha256(value.float().cpu().numpy().tobytes()).hexdigest()}"
    if isinstance(value, tuple):
        return f"({','.join(_kind(*pair) for pair in zip(value, axes, strict=True))})"
    return f"list{len(value)}" if isinstance(value, list) else repr(value)


def _gather(encodings: list[_Encoding]) -> Any:
    kinds = list(dict.fromkeys(e.kind for e in encodings))
    if len(kinds) > 1:
        raise UnequalPrompts([[i for i, e in enumerate(encodings) if e.kind == kind] for kind in kinds])
    return _join([e.value for e in encodings], encodings[0].axes)


def _join(values: list[Any], axes: Any) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return first if axes is None else torch.cat(values, axes)
    if isinstance(first, tuple):
        return tuple(_join(list(column), axis) for column, axis in zip(zip(*values, strict=True), axes, strict=True))
    if isinstance(first, list):
        return [item for value in values for item in value]
    return first


PER_PROMPT = ("num_images_per_prompt", "num_videos_per_prompt")
ASKING = ("prompt", "class_labels", "batch_size", *PER_PROMPT)
CLASS_COUNTS = ("num_embeds_ada_norm", "num_class_embeds")


def asking(pipe: Any) -> str | None:
    """The argument by which a pipeline is asked for rows; None for one that gives one row per call.

    A pipeline that takes labels for some models, and has one without classes, is asked for a number of rows.
    """
    taken = [name for name in ASKING if name in parameters(pipe)]
    if taken == ["class_labels", "batch_size"] and classes(pipe) is None:
        return "batch_size"
    return next(iter(taken), None)


def asked(pipe: Any, prompts: list[str], options: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The call options that ask for one row per prompt, with one row per prompt of what `options` have encoded."""
    argument = asking(pipe)
    given = {k: _repeated(v, len(prompts)) for k, v in options.items() if EMBEDDED.fullmatch(k) and v is not None}
    if argument == "prompt":
        if "prompt_embeds" in given:
            return given
        return given | {"prompt": list(prompts) if len(prompts) > 1 else prompts[0]}
    if argument == "class_labels":
        counted = {"batch_size": len(prompts)} if "batch_size" in parameters(pipe) else {}
        return counted | {"class_labels": [label_id(pipe, prompt) for prompt in prompts]}
    return {} if argument is None else given | {argument: len(prompts)}


def check_embedded(options: Mapping[str, Any]) -> None:
    """Raise ValueError for prompts encoded for more candidates than one."""
    for name, given in options.items():
        if EMBEDDED.fullmatch(name) and given is not None and _rows_of(given) != 1:
            raise ValueError(f"{name} has {_rows_of(given)} rows; expected 1, which every candidate gets")


def _row_axis(given: Any) -> int:
    return 1 if isinstance(given, Tensor) and given.ndim > 3 else 0  # HiDream's layers come first


def _rows_of(given: Any) -> int:
    return int(given.shape[_row_axis(given)]) if isinstance(given, Tensor) else len(given)


def _repeated(given: Any, count: int) -> Any:
    return given.repeat_interleave(count, _row_axis(given)) if isinstance(given, Tensor) else list(given) * count


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
