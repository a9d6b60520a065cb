"""Which constraints an image violates, in words that name the verifier and its value."""

from collections.abc import Mapping
from typing import Any


def constraints(described: Mapping[str, Any]) -> dict[str, str]:
    """Key and name of each constraint in the description of an aggregator."""
    members = described.get("verifiers", ())
    return {f"{one['name']}@{one['version']}": str(one["name"]) for one in members if one["kind"] == "constraint"}


def violation(name: str, value: float) -> str:
    """One violation in words."""
    return f"constraint {name!r} is violated ({value:.4g}, and 0 passes)"


def violations(described: Mapping[str, Any], scores: Mapping[str, float]) -> list[str]:
    """Those of one image, given its raw scores by key."""
    return [violation(name, scores[key]) for key, name in constraints(described).items() if scores.get(key, 0.0) < 0]
