"""How a comparison was made: its settings in short, and the call that makes it again."""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

import verifiers
from noise_search.algorithms import ALGORITHMS
from noise_search.comparison.data import ComparisonData
from noise_search.resolve import resolve_algorithm
from noise_search.shapes import EMBEDDED_MODELS, EMBEDDED_VERIFIERS
from noise_search.words import one_line
from verifiers.code import UNTOLD


def settings(comparison: ComparisonData) -> list[tuple[str, object]]:
    """What was compared, in short: names and values."""
    known = comparison.settings
    model = known.get("model", {})
    short = [
        ("model", model.get("name")),
        ("pipeline", model.get("pipeline")),
        ("weights", model.get("fingerprint")),
        ("scheduler", model.get("scheduler")),
        ("steps", known.get("steps")),
        ("options", _pairs(model.get("options", {}))),
        ("device and precision", _joined([model.get("device"), model.get("dtype")])),
        ("searched by", _joined(_named(known.get("verifier", {}).get("verifiers", [])))),
        ("judged by", _joined(_named(known.get("judges", [])))),
        *((f"algorithm {name}", one) for name, one in known.get("algorithms", {}).items()),
        ("drafts", _pairs(known.get("drafts", {}))),
        ("budgets", f"{_joined(comparison.budgets)} NFE"),
        ("seeds", _joined(comparison.seeds)),
        ("prompts", len(comparison.prompts)),
        ("families", _joined(dict.fromkeys(one.family for one in comparison.records if one.family))),
        ("records", len(comparison.records)),
    ]
    return [(name, value) for name, value in short if value not in (None, "")]


def call(comparison: ComparisonData) -> str:
    """Python that makes the comparison again, from its records and settings.

    What it can't name, as it was an object of the user's own, stands in comments before the call.
    """
    known = comparison.settings
    recorded = {name: repr(name) for name in comparison.algorithms} | dict(known.get("algorithms", {}))
    algorithms = {name: one for name, one in recorded.items() if _is_known(name, one)}
    plain = all(_is_default(name, one) for name, one in algorithms.items())
    named = repr(list(algorithms)) if plain else "{" + ", ".join(f"{n!r}: {one}" for n, one in algorithms.items()) + "}"
    searched, own_verifiers = _by_name(known.get("verifier", {}).get("verifiers", []), comparison.verifiers)
    judged, own_judges = _by_name(known.get("judges", []), comparison.judges)
    arguments = {
        "model": repr(known.get("model", {}).get("name", "")),
        "algorithms": named,
        "budgets": repr(list(comparison.budgets)),
        "verifier": repr(searched),
        "judges": repr(judged),
        "seeds": repr(list(comparison.seeds)),
        **({} if (grown := _grown(comparison)) == 1 else {"pool_limit": repr(grown)}),
        **({"steps": repr(known["steps"])} if "steps" in known else {}),
        **{f"draft_{name}": repr(value) for name, value in known.get("drafts", {}).items() if value is not None},
        # A dtype was recorded by its name.
        **{name: one if str(one).startswith("torch.") else repr(one) for name, one in known.get("asked", {}).items()},
    }
    own = {
        "algorithms": [f"{name!r}: {one}" for name, one in recorded.items() if name not in algorithms],
        "verifier": map(repr, own_verifiers),
        "judges": map(repr, own_judges),
    }
    given = "".join(f"    {name}={value},\n" for name, value in arguments.items())
    kinds = sorted({one.partition("(")[0] for one in algorithms.values() if not one.startswith(("'", '"'))})
    imports = "import torch\n\n" if any(one.startswith("torch.") for one in arguments.values()) else ""
    imports += "import noise_search\n" + ("" if plain else f"from noise_search.algorithms import {', '.join(kinds)}\n")
    families = {one.prompt: one.family for one in comparison.records}
    prompts = [{"prompt": one, "family": of} if any(families.values()) else one for one, of in families.items()]
    rows = "".join(f"    {one!r},\n" for one in prompts)
    comments = _comments(comparison, own)
    return f"{imports}\nprompts = [\n{rows}]\n{comments}table = noise_search.compare(\n    prompts,\n{given})\n"


def _grown(comparison: ComparisonData) -> int:
    """How many times the largest budget random search's candidates took, from 1 on."""
    most = max((len(pool) * pool.nfe for pool in comparison.pools), default=0)
    return max(1, -(-most // max(comparison.budgets)))


def _comments(comparison: ComparisonData, own: Mapping[str, Iterable[str]]) -> str:
    """Lines about what the call can't say: objects of the user's own, and searches that weren't made."""
    lines = [f"{name} had one of your own, {one}: add it below" for name, found in own.items() for one in found]
    model = str(comparison.settings.get("model", {}).get("name", ""))
    if model not in EMBEDDED_MODELS and "/" not in model:
        lines.insert(0, f"the model was an object, of {model!r}: pass it as model=")
    if not comparison.coverage.is_whole:
        searched, wanted = comparison.coverage.searched, comparison.coverage.wanted
        lines.append(f"this searches all {wanted} combinations, of which {searched} had been searched")
    return "".join(f"# {one_line(line, 300)}\n" for line in lines)


def _by_name(recorded: Iterable[Mapping[str, Any]], names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names that give verifiers again, constraints among them, and those of objects of the user's own."""
    known = {*verifiers.available(), *EMBEDDED_VERIFIERS, "oracle"}
    versions = {str(one.get("name")): str(one.get("version", "")) for one in recorded} or dict.fromkeys(names, "")
    # A function has the hash of its code for a version.
    of_code = rf"[0-9a-f]{{8}}(-py[\d.]+)?|{UNTOLD}"
    ours = [name for name, version in versions.items() if name in known and not re.fullmatch(of_code, version)]
    return ours, [name for name in versions if name not in ours]


def _is_known(name: str, settings: str) -> bool:
    """Whether the label alone gives this algorithm, or what was recorded is Python that makes one of ours."""
    return _is_default(name, settings) or _kind(settings) in {kind.__name__ for kind in ALGORITHMS.values()}


def _kind(settings: str) -> str:
    """The class that a recorded call makes an instance of; "" where it isn't one with plain values."""
    try:
        made = ast.parse(settings, mode="eval").body
    except (SyntaxError, ValueError):
        return ""
    if not (isinstance(made, ast.Call) and isinstance(made.func, ast.Name)):
        return ""
    named = [one for part in (*made.args, *made.keywords) for one in ast.walk(part) if isinstance(one, ast.Name)]
    return "" if named else made.func.id


def _is_default(name: str, settings: str) -> bool:
    """Whether the label alone gives this algorithm."""
    try:
        return settings == repr(name) or repr(resolve_algorithm(name)) == settings
    except (ValueError, TypeError):
        return False


def _named(described: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{one.get('name')}" + (f" ({one['version']})" if one.get("version") else "") for one in described]


def _joined(values: Iterable[object]) -> str:
    return ", ".join(str(one) for one in values if one is not None)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, ""))
