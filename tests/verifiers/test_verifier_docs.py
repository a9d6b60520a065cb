"""The page about verifiers says what their cards say, and its examples are made of what there is."""

import ast
import re
from pathlib import Path

import pytest

import verifiers
from verifiers import Card, available
from verifiers.catalogue import verifier_class

PAGE = Path(verifiers.__file__).parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def row(name: str, card: Card) -> str:
    weights = "none" if card.size == "none" else f"{card.size}; {card.weights_licence}"
    gradient = "yes" if card.differentiable else "no"
    reads = "all" if name.startswith("judge") else card.prompt_limit
    reads = "nothing" if verifier_class(name).prompt_agnostic is True else reads  # not where an option decides
    return f"| `{name}` | {card.measures} | {card.range} | {reads} | {gradient} | {weights} |"


def test_the_table_is_the_cards():
    table = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| `[a-z0-9-]+` \| ", line)]
    assert table[: len(available())] == [row(name, card) for name, card in available().items()]


def loads() -> list[str]:
    """Every `load(...)` and class call in the examples that names a verifier."""
    found = []
    for block in BLOCKS:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "load",
                "RubricJudge",
                "EditJudge",
                "CLIPDirection",
                "WeightedSum",
            ):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("call", loads())
def test_what_the_examples_load_can_be_named(call, tmp_path):
    made = eval(call.replace("local-dir:my-clip", f"local-dir:{tmp_path}"), vars(verifiers) | {"folder": tmp_path})
    assert isinstance(made, verifiers.Verifier | verifiers.Aggregator)


def test_the_examples_are_python():
    assert BLOCKS
    for block in BLOCKS:
        compile(block, "README.md", "exec")
