"""Loading open_clip models so that wrong or missing weights are errors.

open_clip itself only logs "initialized randomly" for a directory without weights, and only warns when
OpenAI's weights, trained with QuickGELU, meet a model with GELU.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from verifiers.base import WeightsError
from verifiers.loading import hub, notices
from verifiers.loading.hub import MissingFileError, first_line
from verifiers.loading.weights import SUFFIXES, check_file

LOCAL, HUB = "local-dir:", "hf-hub:"
SCHEMES = (LOCAL, HUB)
PRECISIONS = ("fp32", "bf16", "fp16", "pure_bf16", "pure_fp16")
CONFIG = "open_clip_config.json"

_TEXT_SUFFIXES = (".json", ".txt", ".model", ".gz")
_READ_SUFFIXES = (".safetensors", ".bin", ".pth")


def resolve(model: str | Path) -> tuple[str, Path | None]:
    """open_clip's name of a model, and its directory where it is a local one."""
    name = str(model)
    if name.startswith(LOCAL):
        directory = Path(name.removeprefix(LOCAL)).expanduser().resolve()
    elif isinstance(model, Path) or (not name.startswith(HUB) and Path(name).expanduser().is_dir()):
        directory = Path(model).expanduser().resolve()
    else:
        return name, None
    return f"{LOCAL}{directory}", directory


def check_precision(precision: str) -> None:
    """Raise ValueError unless open_clip knows the precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {PRECISIONS}")


def check_quickgelu(model: str, pretrained: str | None) -> None:
    """Raise ValueError for OpenAI's weights in a model with plain GELU."""
    if pretrained == "openai" and not model.endswith("-quickgelu"):
        raise _quickgelu_error(model, pretrained)


def directory_files(directory: Path) -> list[Path]:
    """The files of a local model that change its scores: weights, configuration, tokenizer.

    Raises:
        WeightsError: a missing directory, configuration or weight file.
    """
    if not directory.is_dir():
        raise WeightsError(f"model directory {str(directory)!r} does not exist; expected {CONFIG} and weights in it")
    if not (directory / CONFIG).is_file():
        raise WeightsError(f"{str(directory)!r} has no {CONFIG}; expected one with model_cfg and preprocess_cfg")
    files = sorted(path for path in directory.iterdir() if path.is_file())
    if not any(path.suffix in _READ_SUFFIXES for path in files):
        unread = [path.name for path in files if path.suffix in (".pt", ".ckpt", ".npz")]
        found = f"; {unread} is not read from a directory: convert it to .safetensors" if unread else ""
        raise WeightsError(f"{str(directory)!r} has no weights; expected open_clip_model.safetensors{found}")
    return [path for path in files if path.suffix in _READ_SUFFIXES + _TEXT_SUFFIXES]


def load(
    model: str, pretrained: str | None, revision: str | None, precision: str, device: torch.device
) -> tuple[Any, Any, torch.dtype]:
    """An open_clip model (eval mode, weights frozen), its tokenizer, and the dtype of its image input.

    Raises:
        WeightsError: weights, configuration or tokenizer that are missing or do not fit.
    """
    import open_clip

    told = _described(model, pretrained)
    notices.flag(f"{model} {pretrained or ''}")
    if model.startswith(HUB):
        model = f"{LOCAL}{snapshot(model.removeprefix(HUB), revision)}"
    preprocess: dict[str, Any] | None = None
    text: dict[str, Any] = {}
    words: Path | None = None
    if model.startswith(LOCAL):
        directory = Path(model.removeprefix(LOCAL))
        notices.loading(told, sum(file.stat().st_size for file in directory_files(directory)))
        _check_config(directory / CONFIG)
    else:
        _check_tag(model, pretrained)
        tag = open_clip.get_pretrained_cfg(model, pretrained)
        pretrained, preprocess = published(tag, pretrained, revision)
        text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
        words = tokenizer_directory(text.get("hf_tokenizer_name"), tag, revision)
    # Random initial values would otherwise move the caller's random stream.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        try:
            tower = open_clip.create_model(
                model,
                pretrained=pretrained,
                precision=precision,
                device=device,
                force_preprocess_cfg=preprocess,
                require_pretrained=True,
            )
            tokenizer = open_clip.get_tokenizer(model) if words is None else _tokenizer(text, words)
        except Exception as error:  # open_clip, torch, hub and tokenizer errors share no base class
            raise WeightsError(
                f"could not load {told}: {first_line(error)}; "
                "check the network or the files (a local directory needs fitting weights and tokenizer files)"
            ) from error
        tower.eval().requires_grad_(False)
    _check_vocabulary(model, tower, tokenizer)
    return tower, tokenizer, open_clip.get_input_dtype(precision) or torch.float32


def published(
    tag: Mapping[str, Any] | None, pretrained: str | None, revision: str | None
) -> tuple[str | None, dict[str, Any] | None]:
    """Weights and preprocessing of a tag whose file is on the hub, fetched at a commit.

    A pickle is taken only where the repository has no safetensors, not where these can't be got. open_clip would take
    whatever the branch holds, the pickle after any error, and says nothing while it downloads.

    Raises:
        WeightsError: weights that can't be reached, or whose contents are not what the hub declares.
    """
    if not tag or not tag.get("hf_hub"):
        return pretrained, None
    repository, _, name = str(tag["hf_hub"]).rpartition("/")
    commit = hub.commit(repository, revision)
    try:
        safe = f"{Path(name).stem}.safetensors" if name else "open_clip_model.safetensors"
        path = hub.fetch(repository, safe, commit)
    except MissingFileError:
        path = hub.fetch(repository, name or "open_clip_pytorch_model.bin", commit)
    check_file(path, f"{path.name} of {repository}@{commit[:8]}")
    return str(path), {key: tag[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in tag}


def tokenizer_directory(repository: str | None, tag: Mapping[str, Any] | None, revision: str | None) -> Path | None:
    """The directory of a model's tokenizer on the hub, at a commit; None where open_clip has its own.

    Args:
        repository: hub id of the tokenizer; None or "" for open_clip's own. A directory is left to open_clip.
        tag: of the weights; the revision is that of their repository, and the tokenizer's if it is the same one.
        revision: commit, tag or branch; None for the pinned commit.

    Raises:
        WeightsError: it is neither cached nor reachable.
    """
    if not repository or Path(repository).is_dir():
        return None
    same = tag is not None and str(tag.get("hf_hub", "")).rpartition("/")[0] == repository
    commit = hub.commit(repository, revision if same else None)
    known = ("tokenizer_config.json", "tokenizer.json")
    return hub.fetch_all(repository, _TEXT_SUFFIXES, commit, "the tokenizer of ", known)


def snapshot(repository: str, revision: str | None) -> Path:
    """A hub repository of open_clip's form at a commit, as a local directory; a pickle only where it has nothing else.

    Raises:
        WeightsError: it is neither cached nor reachable, or contents are not what the hub declares.
    """
    commit, kinds = hub.commit(repository, revision), (*_TEXT_SUFFIXES, ".safetensors")
    directory = hub.fetch_all(repository, kinds, commit, "", [CONFIG])
    if not list(directory.glob("*.safetensors")):
        directory = hub.fetch_all(repository, (*kinds, ".bin"), commit, "", [CONFIG])
    for path in sorted(directory.iterdir()):
        if path.suffix in SUFFIXES:
            check_file(path, f"{path.name} of {repository}@{commit[:8]}")
    return directory


def _tokenizer(text: Mapping[str, Any], directory: Path) -> Any:
    """The tokenizer that open_clip gives a text tower, from a directory: by itself it takes what the branch holds."""
    import open_clip

    return open_clip.tokenizer.HFTokenizer(
        str(directory),
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )


def _check_config(file: Path) -> None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{CONFIG} in {str(file.parent)!r} is no JSON ({first_line(error)})") from error
    if not isinstance(config, dict) or "model_cfg" not in config:
        raise WeightsError(f"{CONFIG} in {str(file.parent)!r} has no model_cfg; expected model_cfg and preprocess_cfg")


def _check_tag(model: str, pretrained: str | None) -> None:
    import open_clip

    known = open_clip.list_models()
    if model not in known:
        raise WeightsError(
            f"open_clip has no model {model!r}; {_nearest(model, known)}, {HUB}org/repository or {LOCAL}/path"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None:
        raise WeightsError(f"model {model!r} was given without pretrained weights; {_nearest('', tags)} or a file")
    if Path(pretrained).is_file():
        return
    tag = open_clip.get_pretrained_cfg(model, pretrained)
    if not tag:
        raise WeightsError(f"{pretrained!r} is neither weights of {model!r} nor a file; {_nearest(pretrained, tags)}")
    if tag.get("quick_gelu", False) and not open_clip.get_model_config(model).get("quick_gelu", False):
        raise _quickgelu_error(model, pretrained)


def _check_vocabulary(model: str, tower: Any, tokenizer: Any) -> None:
    rows = getattr(tower, "vocab_size", None) or getattr(getattr(tower, "text", None), "vocab_size", None)
    hub = getattr(tokenizer, "tokenizer", None)
    words = getattr(tokenizer, "vocab_size", None) if hub is None or not hasattr(hub, "__len__") else len(hub)
    if rows is not None and words is not None and words > rows:
        raise WeightsError(
            f"{_described(model, None)} embeds {rows} tokens but its tokenizer has {words}; "
            "put its tokenizer files beside the weights and set text_cfg.hf_tokenizer_name"
        )


def _quickgelu_error(model: str, pretrained: str) -> ValueError:
    return ValueError(
        f"weights {pretrained!r} were trained with QuickGELU, model {model!r} uses GELU and would score "
        f"wrongly; use model {model + '-quickgelu'!r}"
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3) or known[:8]
    return f"expected e.g. {', '.join(near)}" if near else "expected other weights"


def _described(model: str, pretrained: str | None) -> str:
    return repr(model) if pretrained is None else f"{model!r} with weights {pretrained!r}"
