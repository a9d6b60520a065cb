"""How a comparison was made: its settings and versions, and the call that makes it again."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from noise_search.comparison.report_page import code, definitions, folded, paragraph
from noise_search.resolve import resolve_algorithm

if TYPE_CHECKING:
    from noise_search.comparison.comparison import Comparison


def settings(comparison: "Comparison") -> str:
    """What was compared, in short, and everything that was recorded."""
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
    everything = json.dumps(known, indent=2, ensure_ascii=False, default=str)
    return definitions((name, value) for name, value in short if value not in (None, "")) + folded(
        "All settings", code(everything)
    )


def versions(comparison: "Comparison") -> str:
    """Versions and hardware."""
    known = comparison.settings.get("environment", {})
    if not known:
        return paragraph("No versions were recorded.")
    return definitions((name.replace("_", " "), value) for name, value in known.items())


def reproduction(comparison: "Comparison") -> str:
    """The command that was given, where one was, and the call that makes the comparison again."""
    command = comparison.settings.get("command")
    given = [code(command)] if command else []
    return "".join([*given, code(call(comparison))])


def call(comparison: "Comparison") -> str:
    """Python that makes the comparison again, from its records and settings."""
    known = comparison.settings
    algorithms = {name: repr(name) for name in comparison.algorithms} | dict(known.get("algorithms", {}))
    plain = all(_is_default(name, one) for name, one in algorithms.items())
    named = repr(list(algorithms)) if plain else "{" + ", ".join(f"{n!r}: {one}" for n, one in algorithms.items()) + "}"
    drafts = known.get("drafts", {})
    arguments = {
        "model": repr(known.get("model", {}).get("name", "")),
        "algorithms": named,
        "budgets": repr(list(comparison.budgets)),
        "verifier": repr(list(comparison.verifiers)),
        "judges": repr(list(comparison.judges)),
        "seeds": repr(list(comparison.seeds)),
        **({"steps": repr(known["steps"])} if "steps" in known else {}),
        **{f"draft_{name}": repr(value) for name, value in drafts.items() if value is not None},
        **{name: _literal(value) for name, value in known.get("asked", {}).items()},
    }
    prompts = "".join(f"    {prompt!r},\n" for prompt in comparison.prompts)
    given = "".join(f"    {name}={value},\n" for name, value in arguments.items())
    kinds = sorted({one.partition("(")[0] for one in algorithms.values() if one.partition("(")[0].isidentifier()})
    imports = "import torch\n\n" if any(one.startswith("torch.") for one in arguments.values()) else ""
    imports += "import noise_search\n" + ("" if plain else f"from noise_search.algorithms import {', '.join(kinds)}\n")
    return f"{imports}\nprompts = [\n{prompts}]\ntable = noise_search.compare(\n    prompts,\n{given})\n"


def _literal(value: Any) -> str:
    """As Python; a dtype was recorded by its name."""
    return value if isinstance(value, str) and value.startswith("torch.") else repr(value)


def _is_default(name: str, settings: str) -> bool:
    """Whether the label alone gives this algorithm."""
    try:
        return settings == repr(name) or repr(resolve_algorithm(name)) == settings
    except (ValueError, TypeError):
        return False


def _named(described: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        f"{one.get('name')} ({one['version']})" if one.get("version") else f"{one.get('name')}" for one in described
    ]


def _joined(values: Iterable[object]) -> str:
    return ", ".join(str(one) for one in values if one is not None)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, ""))
