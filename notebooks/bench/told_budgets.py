"""What the page on shared budgets says, from `results/shares.csv` and `foretold.csv`: see `notebooks/measured.py`."""

import csv
from functools import cache

from notebooks.bench.told import DDIM, FLOW, RESULTS, named
from notebooks.wording import Told, clear, listed, number, paragraph, table, told


@cache
def shares() -> dict[tuple[str, str, str, int, str], dict[str, Told]]:
    """What sharing brings: of a model, a verifier, a target's quantile, so many candidates and a way to share."""
    with (RESULTS / "shares.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], row["verifier"], row["target"], int(row["candidates"]), row["share"]): {
                name: (float(row[name] or "nan"), float(row[low] or "nan"), float(row[high] or "nan"))
                for name, low, high in (
                    ("rate", "low", "high"),
                    *((one, f"{one}_low", f"{one}_high") for one in ("more", "beyond", "saved")),
                )
            }
            for row in csv.DictReader(file)
        }


TARGETS = {"0.6": "40 %", "0.75": "25 %", "0.9": "10 %"}
"""How many of all candidates reach a target, by its quantile."""
SHARED = [(verifier, model) for verifier in ("vlm", "clip", "aesthetic") for model in (FLOW, DDIM)]


def _saved(share: str, target: str, count: int | None = None) -> list[float]:
    """What a way to share saves, of all models and verifiers."""
    return [
        found["saved"][0]
        for (_, _, quantile, candidates, rule), found in shares().items()
        if (quantile, rule) == (target, share) and count in (None, candidates)
    ]


def _ends(values: list[float]) -> str:
    return f"{100 * min(values):.0f} to {100 * max(values):.0f} %"


def shares_saved() -> str:
    """The NFE that an equal pass rate doesn't need."""
    rows = {
        f"{named((verifier, model))}, {share}": [
            told(shares()[model, verifier, target, 16, share]["saved"], 2) for target in TARGETS
        ]
        for verifier, model in SHARED
        for share in ("threshold", "difficulty")
    }
    more = [f"{_ends(_saved('threshold', target))} where {share} reach it" for target, share in TARGETS.items()]
    return "\n\n".join(
        (
            "The share of NFE that isn't needed for the pass rate of 16 candidates for each prompt, without a stop:",
            table(["by", *(f"reached by {one}" for one in TARGETS.values())], rows),
            paragraph(
                "Stopping at the target is what saves: equal budgets that stop there save as much as `threshold`,",
                f"which spends it on the others. From 4 to 32 candidates it is {listed(more)}. `difficulty` can't",
                "save in its first 4 candidates, and is no better than `threshold` but by `aesthetic`, of whose rare",
                "targets a prompt's first scores tell something. By `vlm` they mislead:",
                f"`{FLOW}` loses where 10 % reach the target.",
            ),
        )
    )


def shares_rates() -> str:
    """Pass rates at equal NFE."""
    rows = {}
    for verifier, model in SHARED:
        cells = []
        for target in TARGETS:
            of = {rule: shares()[model, verifier, target, 16, rule] for rule in ("equal", "threshold", "difficulty")}
            told_of = told(of["threshold"]["more"], 2, "+"), told(of["difficulty"]["beyond"], 2, "+")
            cells.append(f"{number(of['equal']['rate'][0], 2)}, {told_of[0]}, {told_of[1]}")
        rows[named((verifier, model))] = cells
    return "\n\n".join(
        (
            table(["16 candidates", *(f"reached by {one}" for one in TARGETS.values())], rows),
            paragraph(
                "First the share of prompts that reach the target with equal budgets, then by how much `threshold`",
                "raises it, then by how much `difficulty` is above `threshold`.",
            ),
        )
    )


def shares_raised() -> str:
    """What difficulty brings without a target."""
    counts = (8, 16, 32)
    rows = {
        named((verifier, model)): [
            told(shares()[model, verifier, "", count, "difficulty"]["more"], 2, "+") for count in counts
        ]
        for verifier, model in SHARED
    }
    return "\n\n".join(
        (
            table(["mean best score less that of equal budgets, in sd", *counts], rows),
            paragraph(
                "So it isn't for raising means: by `vlm` it helps at 8 candidates and costs at 32, else it hardly",
                "counts.",
            ),
        )
    )


@cache
def foretolds() -> dict[tuple[str, str, str, str], dict[str, float]]:
    """How budgets hold that were foretold: of a model, a verifier, a target's quantile and a way to foretell."""
    with (RESULTS / "foretold.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], row["verifier"], row["target"], row["by"]): {
                name: float(row[name] or "nan") for name in ("told", "candidates", "reached", "low", "high")
            }
            for row in csv.DictReader(file)
        }


def _reached(by: str, *targets: str) -> list[float]:
    return [
        one["reached"]
        for (_, _, target, way), one in foretolds().items()
        if way == by and target in targets and one["told"]
    ]


def foretold() -> str:
    """How often a target is reached by what a calibration foretold."""
    targets = {"0.5": "50 %", **TARGETS}
    rows = {}
    for verifier, model in SHARED:
        found = [foretolds()[model, verifier, target, "scores"] for target in targets]
        rows[named((verifier, model))] = [
            f"{one['candidates']:g}: {told((one['reached'], one['low'], one['high']), 2)}" for one in found
        ]
    often, rare = _reached("scores", "0.5", "0.6", "0.75"), _reached("scores", "0.9")
    normal = _reached("normal", "0.5", "0.6", "0.75")
    return "\n\n".join(
        (
            table(["candidates: share that reached it", *(f"reached by {one}" for one in targets.values())], rows),
            paragraph(
                "Asked for is 0.80. Where a quarter of all candidates or more reach a target, it is",
                f"{number(min(often), 2)} to {number(max(often), 2)}; where one in ten does,",
                f"{number(min(rare), 2)} to {number(max(rare), 2)}: 24 prompts don't tell how many of others never",
                "get there. Had scores been taken for normal, with a normal's differences between prompts, it would be",
                f"{number(min(normal), 2)} to {number(max(normal), 2)} even for the former.",
            ),
        )
    )


def claims() -> dict[str, bool]:
    """What the words above say beyond their numbers, and whether it follows."""
    beyond = {names: found["beyond"] for names, found in shares().items() if names[3:] == (16, "difficulty")}
    raised = {names: found["more"] for names, found in shares().items() if names[2] == ""}
    return {
        "threshold saves a quarter where 40 or 25 % reach the target, and from 16 candidates on where 10 % do": all(
            found["saved"][0] > 0.25
            for (*_, target, count, rule), found in shares().items()
            if rule == "threshold" and (target != "0.9" or count >= 16)
        ),
        "difficulty is clearly above threshold by aesthetic alone, and clearly below by vlm on shapes-flow alone": (
            {names[1] for names, one in beyond.items() if one[1] > 0} == {"aesthetic"}
            and {names[:3] for names, one in beyond.items() if one[2] < 0} == {(FLOW, "vlm", "0.9")}
        ),
        "without a target difficulty helps by vlm at 8 candidates, costs at 32, and hardly counts else": all(
            one[1] > 0 if names[3] == 8 else one[2] < 0 if names[3] == 32 else not clear(one)
            for names, one in raised.items()
            if names[1] == "vlm" and names[3] > 4
        )
        and all(abs(one[0]) < 0.05 for names, one in raised.items() if names[1] != "vlm"),
        "budgets foretold from scores hold better than those from a normal": (
            min(_reached("scores", "0.5", "0.6", "0.75")) > 0.75
            and min(_reached("normal", "0.5", "0.6", "0.75")) < 0.55
        ),
    }


BLOCKS = (shares_saved, shares_rates, shares_raised, foretold)
