"""The site's pages that nobody runs: the reference has every public name, and the commands of docs/claims.md parse."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import typer.main

from noise_search.cli.app import app

ROOT = Path(__file__).parents[1]
CLAIMS = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"\| `([^`]+)` \|$", CLAIMS, re.MULTILINE)


@pytest.mark.parametrize("package", ["noise_search", "samplers", "verifiers"])
def test_the_reference_has_every_public_name_once(package):
    text = (ROOT / "docs" / "reference" / f"{package}.md").read_text(encoding="utf-8")
    assert sorted(re.findall(rf"^::: {package}\.(\w+)$", text, re.MULTILINE)) == sorted(import_module(package).__all__)


def test_every_claim_has_a_command():
    rows = [line for line in CLAIMS.splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    assert len(rows) == len(COMMANDS) > 40


def sources(file: Path) -> str:
    """A script with those beside it, from which it takes its options."""
    return "".join(one.read_text(encoding="utf-8") for one in file.parent.glob("*.py"))


def parse(words: list[str]) -> None:
    """Raises where the command can't be what it says."""
    command = typer.main.get_command(app)
    context = command.make_context("noise-search", words, resilient_parsing=True)
    name, chosen, rest = command.resolve_command(context, words)
    chosen.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_of_a_claim_parses(line):
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "noise-search":
        parse(words[1:])
    elif words[:3] == ["python", "-m", "pytest"]:
        place = ROOT / next(word for word in words if word.startswith("tests/"))
        tests = "".join(
            file.read_text(encoding="utf-8")
            for file in (place, *(ROOT / "tests/contracts").glob("*.py"))
            if file.is_file()
        )
        assert place.exists() and (
            "-k" not in words or re.search(rf"def test_\w*{words[words.index('-k') + 1]}", tests)
        )
    else:
        module = ROOT / words[2].replace(".", "/") if words[1] == "-m" else ROOT / words[1]
        script = next(file for file in (module, module.with_suffix(".py"), module / "__main__.py") if file.is_file())
        asked = [word for word in words[2 + (words[1] == "-m") :] if re.fullmatch(r"--[\w-]+|[a-z-]+", word)]
        assert [word for word in asked if f'"{word}"' not in sources(script)] == []
