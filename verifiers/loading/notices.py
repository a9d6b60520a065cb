"""What is said, once each, when weights load: what they are, how large, and what their licence forbids.

Said by the logger `verifiers.loading` at level INFO. Where logging is not set up to show that level, notices go to
standard error all the same: a download of gigabytes must not look like a program that hangs.
"""

import logging
import re
import sys
from collections.abc import Iterator

log = logging.getLogger("verifiers.loading")

QUIET_BELOW = 50_000_000
"""Bytes below which loading a file that is here is told at debug level only."""

_said: set[str] = set()

_FREE = re.compile(r"apache-2\.0|mit(-0)?|bsd(-\w+)*|isc|cc0-1\.0|cc-by-[\d.]+|unlicense|zlib|bsl-1\.0|wtfpl")
"""Licences, as the hub names them, that set no terms of use for what is made."""

_NON_COMMERCIAL = re.compile(r"non-?commercial|\bnc\b|research")

_RESEARCH_ONLY = "licensed for research only, no commercial use"
_TERMS: tuple[tuple[str, str], ...] = (
    (r"mobileclip|dfn[25]b|apple/", f"Apple's weights are {_RESEARCH_ONLY}; see their model card"),
    (r"metaclip", f"MetaCLIP's weights are {_RESEARCH_ONLY} (CC-BY-NC-4.0)"),
    (r"nllb-clip", f"NLLB-CLIP's weights are {_RESEARCH_ONLY} (CC-BY-NC-4.0)"),
    (r"qwen2\.5-vl-3b", f"these weights are {_RESEARCH_ONLY} (Qwen research licence)"),
    (
        r"qwen2(\.5)?-vl-72b",
        "these weights are under the Qwen licence, which sets terms for commercial use; see their model card",
    ),
    (
        r"llama-3\.2-\d+b-vision",
        "gated weights under the Llama 3.2 licence; read on their model card whom its terms leave out, and accept them",
    ),
    (r"paligemma|gemma-?3", "gated weights under the Gemma terms of use; read and accept them on their model card"),
    (r"facebook/dinov3|dinov3-", "gated weights under the DINOv3 licence; accept its terms on their model card"),
    (r"stable-diffusion-safety-checker", "CreativeML OpenRAIL-M: its use restrictions apply"),
    (r"inception_v3_google", "no licence is stated for these weights; ask before commercial use"),
    (r"pickscore_v1", "no licence is stated for these weights; ask their authors before commercial use"),
    (
        r"ddpo-aesthetic-predictor|improved-aesthetic-predictor|linearmse",
        "no licence file was found for this head; ask its author before commercial use",
    ),
    (r"^re-n-y/", "no licence is stated for these weights; commercial use isn't allowed without one"),
)
"""Licences of well-known weights that forbid commercial use, set terms, or are not stated at all.

Read from the model cards and licence files of the repositories named; as they may change, the notice tells where to
look. Weights that are not listed here are MIT, Apache-2.0, or unknown to us.
"""


def loading(what: str, size: int | None = None, *, download: bool = False) -> None:
    """Say once that weights are being loaded or downloaded, and their size in bytes where it is known."""
    told = f"{'downloading' if download else 'loading'} {what}" + (f", {in_bytes(size)}" if size else "")
    if told in _said:
        return
    _said.add(told)
    if not download and size is not None and size < QUIET_BELOW:
        log.debug(told)
    elif _shown(logging.INFO):
        log.info(told)
    else:
        print(told, file=sys.stderr, flush=True)


def unchecked(what: str) -> None:
    """Warn once that the contents of a pickle couldn't be checked before it was read."""
    _warn(what, "a pickle whose sha256 nobody states, so it is not checked; it is read with weights_only=True")


def terms(weights: str) -> str | None:
    """What the licence of weights, named by hub id, tag or file name, forbids or leaves open; None where nothing is."""
    return next((said for pattern, said in _TERMS if re.search(pattern, weights.lower())), None)


def flag(weights: str) -> None:
    """Warn once about weights that a user may not use for everything."""
    if found := terms(weights):
        _warn(weights, found)


def licensed(weights: str, licence: str | None) -> None:
    """Warn once about weights whose licence, as the hub names it, restricts their use; None says nothing."""
    if licence is None or _FREE.fullmatch(licence.lower()):
        return
    terms = "forbids commercial use" if _NON_COMMERCIAL.search(licence.lower()) else "sets terms of use"
    _warn(weights, f"its licence, {licence}, {terms}; read it on the model card")


def in_bytes(size: int) -> str:
    """A size for people: 1.8 GB, 340 MB, 12 kB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            value = size / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _warn(what: str, why: str) -> None:
    told = f"{what}: {why}"
    if told not in _said:
        _said.add(told)
        log.warning(told)


def _shown(level: int) -> bool:
    """Whether a record of this level reaches a handler that does something with it."""
    return log.isEnabledFor(level) and any(handler.level <= level for handler in _handlers())


def _handlers() -> Iterator[logging.Handler]:
    """The handlers that records of our logger reach."""
    logger: logging.Logger | None = log
    while logger is not None:
        yield from (one for one in logger.handlers if not isinstance(one, logging.NullHandler))
        logger = logger.parent if logger.propagate else None
