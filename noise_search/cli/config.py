"""`--config` and `--print-config`: options of a command in a file, or those with which a run was made."""

import inspect
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from noise_search.cli.options import Command, Said, shaped

_EITHER = (("nfe", "candidates"), ("prompt", "prompts"))
"""Options of which one takes the place of the other."""

Config = Annotated[
    Path | None, typer.Option(help="TOML file of options, or a run's directory; options on the line go before it.")
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Print all options as such a file, and do nothing.")]


def configured(command: Command) -> Command:
    """The command with its options from a file, where one is given."""
    own = list(inspect.signature(command).parameters.values())

    def run(ctx: typer.Context, config: Path | None, print_config: bool, **given: Any) -> Said:
        if config is not None:
            typed = {name for name in given if str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")}
            typed |= {other for pair in _EITHER if typed & {*pair} for other in pair}
            given |= {name: one for name, one in _read(config, own).items() if name not in typed}
        return Said(as_toml(given)) if print_config else command(**given)

    kind = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("config", kind, default=None, annotation=Config),
        inspect.Parameter("print_config", kind, default=False, annotation=PrintConfig),
    ]
    return shaped(run, [inspect.Parameter("ctx", kind, annotation=typer.Context), *own, *added], command)


def as_toml(options: Mapping[str, Any]) -> str:
    """Options as TOML, those that aren't given as comments."""
    lines = []
    for name, value in options.items():
        spelt = name.replace("_", "-")
        lines.append(f"# {spelt} =" if value is None or value == [] else f"{spelt} = {_toml(value)}")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool | int | float) and not isinstance(value, Enum):
        return repr(value).lower()
    text = value.value if isinstance(value, Enum) else str(value)
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # the one that JSON takes and TOML doesn't


def _read(config: Path, known: list[inspect.Parameter]) -> dict[str, Any]:
    """Options of a file or a run, by name, each of the kind that the command takes."""
    from noise_search.words import unknown

    kinds = {one.name: one.annotation for one in known}
    if config.is_dir():
        content = _of_run(config)
        content = {name: value for name, value in content.items() if name in kinds}
    else:
        content = _of_file(config)
    found = {}
    for given, value in content.items():
        name = given.replace("-", "_")
        if name not in kinds:
            raise unknown(f"option in {str(config)!r}", given, [one.replace("_", "-") for one in kinds])
        found[name] = _as(kinds[name], value, f"{given} in {str(config)!r}")
    return found


def _of_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"no options at {str(file)!r}: expected a TOML file or the directory of a run") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(file)!r} is no TOML: {error}") from error


_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str, int, float), "a text"),
    Path: ((str,), "a path"),
}


def _as(annotation: Any, value: Any, named: str) -> Any:
    """A value of a file as what an option of such a type takes.

    Raises:
        ValueError: it is of another kind.
    """
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        [annotation] = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) is list:
        [kind] = get_args(annotation)
        return [_as(kind, one, named) for one in (value if isinstance(value, list) else [value])]
    if issubclass(annotation, Enum):
        if value not in [one.value for one in annotation]:
            raise ValueError(f"{named} is {value!r}; expected {' or '.join(one.value for one in annotation)}")
        return annotation(value)
    if annotation is str and isinstance(value, list):  # what the command takes with commas between
        value = ",".join(map(str, value))
    types, said = _KINDS[annotation]
    if not isinstance(value, types) or (isinstance(value, bool) and annotation is not bool):
        raise ValueError(f"{named} is {value!r}; expected {said}")
    return annotation(value)


def _of_run(run: Path) -> dict[str, Any]:
    """The options of `generate` that ask for the same search as a run's manifest.

    Raises:
        ValueError: it is no run, or was searched with what no option can say.
    """
    import torch

    from noise_search.disk.run import RunFiles
    from noise_search.engine.manifest import read, recorded

    manifest = RunFiles(run).manifest()
    if not manifest:
        raise ValueError(f"{str(run)!r} holds no run (it has no run.json): expected a TOML file or a run's directory")
    asked, prompts = recorded(manifest), manifest["prompts"]
    if len(prompts) > 1:  # to the command these are searches apart, in a run each
        raise ValueError(f"{str(run)!r} is one search of {len(prompts)} prompts, which no options say: use load()")
    if (share := asked.get("share", "equal")) != "equal":
        raise ValueError(f"{str(run)!r} was searched with share={share!r}, which no option says: use load()")
    found: dict[str, Any] = {"prompt": prompts, "seed": manifest["seeds"][0], "nfe": manifest["nfe"]}
    for name, written in asked.items():
        try:
            value = read(written)
        except ValueError as error:
            raise ValueError(f"{str(run)!r} was searched with {name} (a {error}), which no option says") from error
        if name == "algorithm":
            found |= _of_algorithm(value)
        elif name in ("verifier", "judges"):
            names, assigned = _of_verifiers(value)
            found["judge" if name == "judges" else name] = names or "none"
            found.setdefault("verifier_option", []).extend(assigned)
        elif name == "model_options":
            found["model_option"] = [f"{option}={json.dumps(one)}" for option, one in value.items()]
        elif isinstance(value, torch.dtype):
            found[name] = str(value).removeprefix("torch.")
        elif name == "compile" and value is True:
            found[name] = "whole"
        elif name not in ("seed", "share"):
            found[name] = value
    return found


def _of_algorithm(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"algorithm": value}
    given = [(one.name, getattr(value, one.name), one.default) for one in fields(value) if one.init]
    assigned = [f"{name}={json.dumps(one)}" for name, one, default in given if one != default]
    return {"algorithm": value.name, "option": assigned}


def _of_verifiers(value: Any) -> tuple[str, list[str]]:
    members = list(value) if isinstance(value, list | tuple) else [value]
    names = [one if isinstance(one, str) else one.name for one in members]
    assigned = [
        f"{one.name}.{option}={json.dumps(given)}"
        for one in members
        if not isinstance(one, str)
        for option, given in one.options.items()
    ]
    return ",".join(names), assigned
