"""What people type and what they are told: options that commands share, and NAME=VALUE for algorithms and verifiers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from noise_search.algorithms.base import SearchAlgorithm
    from noise_search.resolve import Named

FAILED, INTERRUPTED = 1, 130


@dataclass(frozen=True)
class Said:
    """How a command ends: what it prints, text or what JSON shows; lines for standard error; the exit code."""

    content: str | Mapping[str, Any]
    notes: Sequence[str] = ()
    code: int = 0


class Format(StrEnum):
    """How a command prints."""

    human = "human"
    json = "json"


Printed = Annotated[Format, typer.Option("--format", help="Text for people, or JSON on standard output.")]
Model = Annotated[str, typer.Option(help="Embedded model, saved pipeline's directory, or hub id.")]
VerifierOptions = Annotated[
    list[str] | None,
    typer.Option(help="Option of a verifier or judge, such as clip.output=cosine; may be repeated."),
]
Ensemble = Annotated[str, typer.Option(help="How several verifiers are combined: mean-rank, mean-z or min-z.")]
Judges = Annotated[
    str | None, typer.Option(help="Held-out judges with commas, or 'none'; the model's oracle by default.")
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of a trajectory.")]
DraftSteps = Annotated[int | None, typer.Option(help="Search with so many steps, render the best in full.")]
DraftRenders = Annotated[int | None, typer.Option(help="Noises to render in full after the drafts.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale.")]
Height = Annotated[int | None, typer.Option(help="Height in pixels.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels.")]
BatchSize = Annotated[int | None, typer.Option(help="Candidates per micro-batch.")]
Device = Annotated[str | None, typer.Option(help="Device to load the model on.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]


def names(text: str) -> list[str]:
    """What stands between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


_SUCH = {"budgets": "80,320", "candidates": "4,16", "seeds": "3, how many, or 0,1000"}


def numbers(text: str | None, name: str) -> list[int] | None:
    """Whole numbers with commas between, None for None.

    Raises:
        ValueError: something else.
    """
    if text is None:
        return None
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise ValueError(f"{name} {text!r} must be whole numbers with commas between, such as {_SUCH[name]}") from None


def seeds(text: str) -> int | list[int]:
    """How many seeds, or several of them with commas between.

    Raises:
        ValueError: something else.
    """
    found = numbers(text, "seeds") or []
    return found[0] if len(found) == 1 and "," not in text else found


def judge_names(asked: str | None, model: str, searched: Sequence[str]) -> list[str]:
    """Judges with commas between; by default an embedded model's oracle, unless it is searched by; none of others."""
    from noise_search.shapes import EMBEDDED_MODELS

    if asked is None:
        return ["oracle"] if model in EMBEDDED_MODELS and not {"oracle", "shapes-oracle"} & {*searched} else []
    return [] if asked == "none" else names(asked)


def dtype_named(name: str | None) -> "torch.dtype | None":
    """A dtype that models are loaded in, by its name.

    Raises:
        ValueError: another name.
    """
    import torch

    from noise_search.words import unknown

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name is not None and name not in known:
        raise unknown("dtype", name, known)
    return None if name is None else known[name]


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


def configured_algorithm(name: str, assignments: Sequence[str]) -> "SearchAlgorithm":
    """The algorithm of that name with options given as NAME=VALUE: a number, true, false or none.

    Raises:
        ValueError: an unknown algorithm or option, a text without "=", or a value that the algorithm refuses.
        TypeError: a value of the wrong kind.
    """
    from noise_search.algorithms import ALGORITHMS
    from noise_search.words import unknown

    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    kind = ALGORITHMS[name]
    known = [field.name for field in fields(kind)]
    options: dict[str, Any] = {}
    for text in assignments:
        option, value = assignment(text, "neighbours=8")
        if not known:
            raise ValueError(f"algorithm {name!r} takes no options, got {text!r}")
        if option not in known:
            raise unknown(f"option of algorithm {name!r}:", option, known)
        options[option] = value
    return kind(**options)


def configured_algorithms(asked: Sequence[str], assignments: Sequence[str]) -> "list[SearchAlgorithm]":
    """Algorithms by name, with options given as NAME.OPTION=VALUE.

    The name may be left out where one algorithm is asked for beside random search.

    Raises:
        ValueError: an unknown algorithm or option, or an option of an algorithm that isn't asked for.
    """
    alone = [name for name in asked if name != "random"]
    given = _by_owner(assignments, "algorithm", asked, alone)
    return [configured_algorithm(name, given[name]) for name in asked]


def configured_verifiers(assignments: Sequence[str], *groups: Sequence[str]) -> "list[list[Named]]":
    """Groups of verifiers, such as those searched by and the judges, with options given as NAME.OPTION=VALUE.

    The name may be left out where the first group is one verifier. What an option takes as text stays as it is typed:
    `hps.version=2.0`, and a commit that reads as a number.

    Raises:
        ValueError: a text without "=", or an option of a verifier that isn't asked for.
    """
    from noise_search.resolve import Named

    for text in assignments:
        assignment(text, "clip.output=cosine")
    asked = list(dict.fromkeys(name for group in groups for name in group))
    given = _by_owner(assignments, "verifier", asked, groups[0])
    options = {name: dict(_verifier_option(name, text) for text in given[name]) for name in asked}
    return [[Named(name, options[name]) for name in group] for group in groups]


def _by_owner(
    assignments: Sequence[str], what: str, asked: Sequence[str], alone: Sequence[str]
) -> dict[str, list[str]]:
    """OPTION=VALUE for each name that was asked for, of NAME.OPTION=VALUE; without a name it is of the one `alone`."""
    from noise_search.words import unknown

    given: dict[str, list[str]] = {name: [] for name in asked}
    for text in assignments:
        path, equals, value = text.partition("=")
        owner, dot, option = path.partition(".")
        if not dot:
            if len(alone) != 1:
                raise ValueError(f"option {text!r} doesn't say of which {what}; write it as NAME.{text}")
            owner, option = alone[0], path
        if owner not in given:
            raise unknown(f"{what} in option", owner, asked)
        given[owner].append(f"{option}{equals}{value}")
    return given


def _verifier_option(name: str, text: str) -> tuple[str, Any]:
    """Name and value; as typed, where a verifier of this name takes texts and none like the value that was read."""
    import verifiers
    from noise_search.shapes import EMBEDDED_VERIFIERS
    from verifiers.arguments import takes_text
    from verifiers.catalogue import verifier_class

    option, value = assignment(text, "output=cosine")
    kind = EMBEDDED_VERIFIERS.get(name, {}).get("kind", name)
    if kind in verifiers.available() and takes_text(verifier_class(kind), option, value):
        return option, text.partition("=")[2]
    return option, value
