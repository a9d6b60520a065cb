"""What a search is asked for, as fields of a page have it, and the refusals of a field."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from noise_search.algorithms import ALGORITHMS
from noise_search.studio.board import Refused
from verifiers import HumanVerifier

ME = "me"
"""The verifier that is whoever sits at the page."""
MOST = 1024
"""Whole images of a budget."""
_LONGEST = 4096


@dataclass(frozen=True)
class Asked:
    """What a search is asked for, as a page has it.

    Attributes:
        prompt, model, verifier, algorithm, seed, steps, guidance: as in `search()`; the verifier may be "me".
        candidates: the budget in whole images.
    """

    prompt: str
    model: str = "shapes-flow"
    verifier: str = "clip"
    algorithm: str = "auto"
    candidates: int = 16
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None

    @classmethod
    def of(cls, **given: Any) -> "Asked":
        """From what fields hold, numbers as texts or floats among them.

        Raises:
            Refused: by the field that it is about.
        """
        prompt = given.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise Refused("prompt", "say what the image should show")
        if len(prompt) > _LONGEST:
            raise Refused("prompt", f"the prompt has {len(prompt)} characters; at most {_LONGEST} are taken")
        if given.get("algorithm", "auto") not in ALGORITHMS:
            raise Refused("algorithm", f"unknown algorithm {given['algorithm']!r:.40}; take {', '.join(ALGORITHMS)}")
        steps, guidance = given.get("steps"), given.get("guidance")
        return cls(
            prompt=prompt.strip(),
            model=str(given.get("model", cls.model) or "").strip(),
            verifier=str(given.get("verifier", cls.verifier) or "").strip(),
            algorithm=given.get("algorithm", "auto"),
            candidates=whole("candidates", given.get("candidates", 16), 1, MOST),
            seed=whole("seed", given.get("seed", 0), 0, 2**32 - 1),
            steps=None if steps in (None, "") else whole("steps", steps, 1, 1000),
            guidance=None if guidance in (None, "") else number("guidance", guidance, 0, 100),
        )


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number within bounds; Refused by its name where it isn't one."""
    found = number(name, value, least, most)
    if found != int(found):
        raise Refused(name, f"{name} is {value!r:.20}; expected a whole number")
    return int(found)


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number within bounds; Refused by its name where it isn't one."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if not least <= found <= most:
        raise Refused(name, f"{name} is {value!r:.20}; expected a number from {least:g} to {most:g}")
    return found


@contextmanager
def about(field: str) -> Iterator[None]:
    """Errors in words are refusals of a field."""
    try:
        yield
    except Refused:
        raise
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise Refused(field, f"{error}") from error


def told(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's manifest says was asked for, as far as fields have it."""
    call = manifest["call"]
    verifier, algorithm = call.get("verifier", "clip"), call.get("algorithm", "auto")
    if isinstance(verifier, Mapping):
        verifier = ME if verifier.get("name") == HumanVerifier.__name__ else ""
    if isinstance(algorithm, Mapping):
        algorithm = algorithm.get("name")
    candidates = int(manifest["nfe"]) // int(manifest["settings"]["model"].get("steps") or 1)
    return {
        "prompt": manifest["prompts"][0],
        "model": call.get("model") if isinstance(call.get("model"), str) else "",
        "verifier": verifier if isinstance(verifier, str) else "",
        "algorithm": algorithm if algorithm in ALGORITHMS else "auto",
        "candidates": min(max(candidates, 1), MOST),
        "seed": manifest["seeds"][0],
        "steps": call.get("steps"),
        "guidance": call.get("guidance"),
    }
