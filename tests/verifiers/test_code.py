"""What tells a function, or an object, from another of its name."""

import functools
import re
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from verifiers import FunctionVerifier
from verifiers.code import UNTOLD, version_of, why_untold

FACTOR = 2.0
KINDS = {"red", "green", "blue"}
NET = torch.nn.Linear(3, 1)


def closing(value):
    def scored(images, prompts):
        return images.mean((1, 2, 3)) * value

    return scored


def calling(inner):
    return lambda images, prompts: inner(images, prompts) + 1


def by_default(value):
    def scored(images, prompts, factor=value):
        return images.mean((1, 2, 3)) * factor

    return scored


def undifferentiated(value):
    @torch.no_grad()
    def scored(images, prompts):
        return images.mean((1, 2, 3)) * value

    return scored


@dataclass(frozen=True)
class Scored:
    factor: float

    def __call__(self, images, prompts):
        return images.mean((1, 2, 3)) * self.factor

    def scored(self, images, prompts):
        return self(images, prompts)


def by_net(images, prompts):
    return NET(images.mean((2, 3)))[:, 0]


def by_factor(images, prompts):
    return images.mean((1, 2, 3)) * FACTOR


def by_kinds(images, prompts):
    return images.mean((1, 2, 3)) * len(KINDS) * sum(word in {"two", "three", "four"} for word in prompts)


def plus(images, prompts, added):
    return images.mean((1, 2, 3)) + added


@pytest.mark.parametrize(
    "made",
    [
        closing,
        by_default,
        undifferentiated,
        lambda value: calling(closing(value)),
        lambda value: functools.partial(plus, added=value),
        lambda value: Scored(value),
        lambda value: Scored(value).scored,
        lambda value: closing({"of": [value]}),
        lambda value: closing(np.full(3, value)),
        lambda value: closing(torch.full((3,), value)),
    ],
    ids=["closure", "default", "decorated", "closure of a closure", "partial", "object", "method", "container", "array",
         "tensor"],
)  # fmt: skip
def test_values_that_a_function_uses_tell_it_apart(made):
    one, same, other = (version_of(made(value)) for value in (1.0, 1.0, 2.0))
    assert one == same != other and UNTOLD not in (one, other)
    assert one.endswith(f"-py{sys.version_info.major}.{sys.version_info.minor}"), "bytecode is a Python's own"


def test_code_and_globals_tell_a_function_apart(monkeypatch):
    first, second = lambda images, prompts: images.mean((1, 2, 3)), lambda images, prompts: images.amax((1, 2, 3))
    assert version_of(first) != version_of(second), "two lambdas on one line"
    before = [version_of(one) for one in (by_factor, by_net, calling(by_factor))]
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    with torch.no_grad():
        NET.weight.add_(1)
    assert not {*before} & {version_of(one) for one in (by_factor, by_net, calling(by_factor))}


def test_a_declared_version_counts_for_all_the_rest():
    one, other = closing(1.0), closing(2.0)
    one.version = other.version = "2024-05"
    assert version_of(one) == version_of(other) == FunctionVerifier(one).version == "2024-05"
    assert version_of(calling(one)) == version_of(calling(other)) != version_of(calling(closing(1.0)))


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (np.random.default_rng(0), "it uses value, a Generator, whose state doesn't show"),
        ({"log": sys.stderr}, "a .*, whose state doesn't show"),
        ({(1, 2), Scored(1.0)}, "a set of objects, whose order isn't fixed"),
    ],
    ids=["generator", "stream", "set"],
)
def test_what_has_no_stable_form_is_said(held, why):
    found = FunctionVerifier(closing(held), "mine")
    assert found.version == UNTOLD and found.key == f"mine@{UNTOLD}"
    assert re.search(why, why_untold(closing(held))) and re.search(why, found.describe()["untold"])
    assert "untold" not in FunctionVerifier(closing(1.0)).describe()


def test_another_process_finds_the_same():
    told = "from test_code import by_kinds, by_factor; from verifiers.code import version_of; "
    told += "print(version_of(by_kinds), version_of(by_factor))"
    paths = [str(p) for p in sys.path if p]
    given = {"PYTHONPATH": ":".join([*paths, __file__.rpartition("/")[0]]), "PYTHONHASHSEED": "7", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, env=given)
    assert done.stdout.split() == [version_of(by_kinds), version_of(by_factor)]
