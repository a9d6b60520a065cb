"""What the pages say of the bench, from `results/`, and from the shipped candidates: see `notebooks/measured.py`."""

import csv
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np

from noise_search import Comparison
from noise_search.arguments import first_seed
from noise_search.comparison.records import Record
from noise_search.comparison.standard_pools import StandardPools
from noise_search.comparison.statistics.multiplier import Multiplier
from noise_search.order_statistics import expected_best
from notebooks.bench.gains import interval as student
from notebooks.wording import Told, clear, listed, number, paragraph, table, told

RESULTS = Path(__file__).parent / "results"
FLOW, DDIM = "shapes-flow", "shapes-ddim"


@cache
def gains() -> dict[tuple[str, str, str], Told]:
    """What random search gains on the evaluation prompts: of a model, a verifier and a statistic of `gains.csv`."""
    with (RESULTS / "gains.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], row["verifier"], row["what"]): tuple(
                float(row[end] or "nan") for end in ("value", "low", "high")
            )
            for row in csv.DictReader(file)
            if row["split"] == "evaluation"
        }


EVERY, BINS = "all", ("hard", "medium", "easy")
"""All prompts, and thirds of them by the mean score of the random candidates."""


@cache
def comparisons(
    file: str = "bench.csv", split: str = "evaluation", which: str = EVERY
) -> tuple[tuple[str, str, Comparison], ...]:
    """The comparison of each model and verifier that was run, on all prompts or a third of them."""
    found = []
    with (RESULTS / file).open(encoding="utf-8", newline="") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: (row["model"] != FLOW, row["verifier"]))
    for (model, verifier), some in groupby(rows, lambda row: (row["model"], row["verifier"])):
        pools = StandardPools.load(model, split)
        means = dict(zip(pools.prompts, pools.scores[verifier].mean(1), strict=True))
        mine = list(some)
        ordered = sorted({row["prompt"] for row in mine}, key=lambda text: means[text])
        part = len(ordered) / len(BINS)
        thirds = {name: ordered[round(part * at) : round(part * (at + 1))] for at, name in enumerate(BINS)}
        asked = ordered if which == EVERY else thirds[which]
        run = [
            Record(
                row["prompt"],
                pools.families[pools.prompts.index(row["prompt"])],
                row["algorithm"],
                int(row["candidates"]) * pools.steps,
                0,
                nfe=int(row["nfe"]),
                rows=0,
                seconds=float(row["seconds"]),
                scores={verifier: float(row["score"])},
                judges={"oracle": float(row["oracle"])},
                offset=first_seed(row["prompt"]),
            )
            for row in mine
            if row["prompt"] in asked
        ]
        budgets = sorted({one.budget for one in run})
        prompts = list(dict.fromkeys(one.prompt for one in run))
        known = pools.records(prompts, budgets, verifier, ["oracle"], float("nan"))
        records = [one for one in known if isinstance(one, Record)]
        shipped = [one for one in known if not isinstance(one, Record)]
        found.append((model, verifier, Comparison((*records, *run), tuple(shipped), {})))
    return tuple(found)


@cache
def worths(
    file: str = "bench.csv", split: str = "evaluation", which: str = EVERY
) -> dict[tuple[str, str, str], dict[int, Multiplier]]:
    """What a search is worth in random candidates: of a model, a verifier and an algorithm, by candidates."""
    found: dict[tuple[str, str, str], dict[int, Multiplier]] = {}
    for model, verifier, comparison in comparisons(file, split, which):
        for one in comparison.multipliers():
            if one.algorithm != "random":
                found.setdefault((model, verifier, one.algorithm), {})[one.bought] = one
    return found


@cache
def truths(file: str = "bench.csv") -> dict[tuple[str, str, str], list[Told]]:
    """By how much a search's images are right more often than random search's, in the order of budgets."""
    found: dict[tuple[str, str, str], list[Told]] = {}
    for model, verifier, comparison in comparisons(file):
        for one in comparison.differences("oracle"):
            by = one.difference
            found.setdefault((model, verifier, one.algorithm), []).append((by.value, by.low, by.high))
    return found


def worth(found: Multiplier) -> str:
    """How many random candidates one of the search's is worth, with the interval; bounds are said as such."""
    if found.saturated:
        return "saturated"
    marks = {"≥ ": found.times.at_least, "≤ ": found.times.at_most}
    ends = {end: f"{getattr(found.times, end):.2f}" for end in ("value", "low", "high")}
    for mark, bounded in marks.items():
        ends |= {end: mark + ends[end] for end in bounded}
    return f"{ends['value']} [{ends['low']}, {ends['high']}]"


def named(names: tuple[str, ...]) -> str:
    """As code, by commas."""
    return ", ".join(f"`{name}`" for name in names)


def _counts() -> list[int]:
    return list(next(iter(worths().values())))


def _below(algorithm: str, verifier: str = "vlm") -> list[str]:
    """Where an algorithm is clearly worth less than what it costs, a text for each model."""
    counts: dict[str, list[str]] = {}
    for names, cells in worths().items():
        for count, one in cells.items():
            if names[1:] == (verifier, algorithm) and one.times.high < 1:
                counts.setdefault(names[0], []).append(str(count))
    return [f"at {listed(some)} candidates on `{model}`" for model, some in counts.items()]


def _right(model: str, verifier: str, n: int) -> str:
    return number(gains()[model, verifier, f"right, best of {n}"][0], 2)


@cache
def recorded() -> dict[tuple[str, str, str, str, int], dict[str, float]]:
    """What halving and auto are worth: of a task, a model, a verifier, an algorithm and so many candidates."""
    with (RESULTS / "recorded.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["task"], row["model"], row["verifier"], row["algorithm"], int(row["candidates"])): {
                name: float(value or "nan") for name, value in row.items() if name in NUMBERS
            }
            for row in csv.DictReader(file)
        }


NUMBERS = ("worth", "low", "high", "saturated", "score", "random", "nfe", "looks", "oracle", "oracle_random")
NUMBERS += ("oracle_difference", "oracle_low", "oracle_high")
HARD, EASY = "shapes-hard", "shapes"
SEARCHED = ("vlm", "clip", "aesthetic", "clip+aesthetic")
COUNTS = (4, 8, 16)


def _auto(task: str, model: str, verifier: str, count: int) -> dict[str, float]:
    return recorded().get((task, model, verifier, "auto", count), {})


def _worth(found: dict[str, float]) -> str:
    """Of a row of `recorded`; nothing is told where it wasn't run, and no number where the score saturates."""
    if not found:
        return "-"
    if found["low"] == found["high"]:  # by definition
        return "random"
    if found["saturated"]:
        return "saturated"
    return told((found["worth"], found["low"], found["high"]), 2)


def _truth(found: dict[str, float]) -> str:
    if found and found["low"] == found["high"]:
        return "random"
    return told((found["oracle_difference"], found["oracle_low"], found["oracle_high"]), 2, "+") if found else "-"


def _by_auto(task: str) -> str:
    rows = {}
    for verifier in SEARCHED:
        for model in (FLOW, DDIM):
            found = [_auto(task, model, verifier, count) for count in COUNTS]
            right = [f"{number(found[1]['oracle_random'], 2)}, {_truth(found[1])}"]
            rows[named((model, verifier))] = [*map(_worth, found), *right]
    return table(["model, verifier", *(f"{count} candidates" for count in COUNTS), "right, of 8"], rows)


def bench_in_short() -> str:
    """What auto is worth on the hard prompts, and how often its winners are right."""
    return _by_auto(HARD)


def bench_in_words() -> str:
    """What that means, as the README says it."""
    worths = [_auto(HARD, model, "vlm", count)["worth"] for model in (FLOW, DDIM) for count in (8, 16)]
    low, high = number(min(worths), 1), number(max(worths), 1)
    right = _auto(HARD, FLOW, "vlm", 8)
    return paragraph(
        f"With 8 or 16 candidates, the default finds by `vlm` what random search finds with {low} to {high}",
        "times as many.",
        f"Of single samples of `{FLOW}`, {_right(FLOW, 'vlm', 1)} are right by the oracle, which reads from the image",
        "whether everything asked for is there and nothing else, and which no search sees; of the best of 8 random",
        f"candidates {number(right['oracle_random'], 2)}, and by the default {_truth(right)} more. Search",
        "pays where the verifier reads the prompt. One that is searched too hard finds images that please it and are",
        f"wrong: {told(gains()[FLOW, 'vlm', OVERSEARCHED], 2, '+')} from 48 to 256 candidates.",
        "`aesthetic` looks at composition alone; searching by it makes images wrong.",
    )


def bench_auto() -> str:
    """All of what halving and auto were measured to be worth."""
    counts = sorted({names[4] for names in recorded()})
    parts = []
    for task in (EASY, HARD):
        rows = {
            named((model, verifier)): [_worth(_auto(task, model, verifier, count)) for count in counts]
            for verifier in SEARCHED
            for model in (FLOW, DDIM)
        }
        right = {
            named((model, verifier)): [_truth(_auto(task, model, verifier, count)) for count in counts]
            for verifier in SEARCHED
            for model in (FLOW, DDIM)
        }
        parts += [
            f'On the prompts of `"{task}"`:',
            table(["worth", *counts], rows),
            table(["oracle less random's", *counts], right),
        ]
    return "\n\n".join(parts)


@cache
def priors() -> dict[tuple[str, str, str, str], list[dict[str, str]]]:
    """What priors are worth, by candidates or prompts learned from: of a model, a verifier, a kind and an algorithm."""
    found: dict[tuple[str, str, str, str], list[dict[str, str]]] = {}
    with (RESULTS / "priors.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["model"], row["verifier"], row["kind"], row["algorithm"]), []).append(row)
    return found


def _primed(row: dict[str, str]) -> str:
    marks = {">": "≥ ", "<": "≤ "}
    ends = {end: marks.get(row["bounds"].partition(end)[2][:1], "") + f"{float(row[end]):.2f}" for end in ENDS}
    return f"{ends['worth']} [{ends['low']}, {ends['high']}]"


def _primed_truth(row: dict[str, str]) -> str:
    by, low, high = (float(row[f"oracle_{end}"]) for end in ("difference", "low", "high"))
    return told((by, low, high), 2, "+")


def _primed_gain(row: dict[str, str]) -> str:
    return told((float(row["gain"]), float(row["gain_low"]), float(row["gain_high"])), 2, "+")


ENDS = ("worth", "low", "high")
WAYS = {
    "random, with it": ("prior", "random"),
    "halving": ("plain", "halving"),
    "halving, with it": ("prior", "halving"),
}
LOVED = "aesthetic"


def bench_priors() -> str:
    """What a prior is worth by aesthetic, from how many prompts it is learned, and why other verifiers have none."""
    known, worths, more, right, few = priors(), {}, {}, {}, {}
    models = tuple(dict.fromkeys(names[0] for names in known))
    for model in models:
        for way, names in WAYS.items():
            rows = known[model, LOVED, *names]
            worths[f"`{model}`, {way}"] = list(map(_primed, rows))
            right[f"`{model}`, {way}"] = list(map(_primed_truth, rows))
            if "prior" in names:
                more[f"`{model}`, {way}"] = list(map(_primed_gain, rows))
        for algorithm in ("random", "halving"):
            rows = known[model, LOVED, "few", algorithm]
            few[f"`{model}`, {algorithm}, worth"] = [
                number(float(row["worth"]), 2) if float(row["trusted"]) else "not used" for row in rows
            ]
        few[f"`{model}`, reliability"] = [number(float(row["reliability"]), 2) for row in rows]
    return "\n\n".join(
        (
            "By `aesthetic`, by candidates:",
            table(["worth", *(row["candidates"] for row in known[models[0], LOVED, "prior", "random"])], worths),
            "How much more the same algorithm scores than without the prior:",
            table(["score", *(row["candidates"] for row in known[models[0], LOVED, "prior", "random"])], more),
            "The share of images that the oracle finds right, less random search's at the same budget:",
            table(["oracle less random's", *(row["candidates"] for row in known[models[0], LOVED, *names])], right),
            "With a prior of fewer prompts, at 8 candidates:",
            table(["prompts", *(row["learned"] for row in rows)], few),
            *map(_of_prior, models),
        )
    )


def _of_prior(model: str) -> str:
    def row(verifier: str, kind: str) -> dict[str, str]:
        return next(one for one in priors()[model, verifier, kind, "halving"] if one["candidates"] == "8")

    def forced(verifier: str) -> str:
        without = _primed(row(verifier, "plain"))
        return f"{_primed(row(verifier, 'forced'))} by `{verifier}`, and {without} without"

    rows = {LOVED: row(LOVED, "prior"), "clip": row("clip", "forced"), "vlm": row("vlm", "forced")}
    reliable = [f"{number(float(one['reliability']), 2)} by `{name}`" for name, one in rows.items()]
    plain = priors()[model, LOVED, "plain", "halving"]
    reached = [float(one["worth"]) * int(one["candidates"]) for one in plain]
    equal = np.interp(float(rows[LOVED]["worth"]) * 8, reached, [float(one["candidates"]) for one in plain])
    return paragraph(
        f"On `{model}` the reliability is {listed(reliable)}. Where it is below 0.4 no prior is used, and a search is",
        f"what it is without. Used all the same, halving at 8 candidates would be worth {forced('clip')}, and",
        f"{forced('vlm')}. The prior of 30 prompts and 64 seeds costs 1920 candidates. With halving at 8 candidates it",
        f"saves them, for the same score by `{LOVED}`, after {float(rows[LOVED]['repaid']):.0f} prompts over random",
        f"search, and after {1920 / (equal - 8):.0f} over halving without it, which reaches that score with",
        f"{equal:.1f} candidates. That halving gains by it isn't shown by these prompts and noises.",
    )


OVERSEARCHED = "right, best of 256 less best of 48"


def bench_one_sample() -> str:
    """How hard the prompts are."""
    return paragraph(
        '`"shapes-hard"` has prompts of four families that one sample rarely gets right',
        f"({_right(DDIM, 'vlm', 1)} with `{DDIM}`, {_right(FLOW, 'vlm', 1)} with `{FLOW}`):",
    )


def bench_gains() -> str:
    """What random search gains by twice as many candidates."""
    doublings = ("16 to 32", "32 to 64", "128 to 256")
    rows = {}
    for model in (FLOW, DDIM):
        for verifier in ("vlm", "aesthetic", "clip"):
            cells = [told(gains()[model, verifier, f"gain {one}"], 2) for one in doublings]
            needed = gains()[model, verifier, "prompts that tell twice 48 from 48"][0]
            rows[named((model, verifier))] = [*cells, number(needed, 0)]
    return table(["", *doublings, "prompts that tell 96 from 48"], rows)


def bench_right() -> str:
    """How often the best of n is right."""
    counts = (1, 8, 16, 48, 96, 256)
    rows = {
        named((model, verifier)): [_right(model, verifier, n) for n in counts]
        for model in (FLOW, DDIM)
        for verifier in ("vlm", "aesthetic", "clip")
    }
    return "\n\n".join(
        (
            table(["", *counts], rows),
            paragraph(
                "So `vlm` is an honest verifier up to about 48 candidates. Beyond, it is exploited on",
                f"`{FLOW}`: the best of 256 less the best of 48 is",
                f"{told(gains()[FLOW, 'vlm', OVERSEARCHED], 2, '+')}, on `{DDIM}`",
                f"{told(gains()[DDIM, 'vlm', OVERSEARCHED], 2, '+')}. `aesthetic` knows nothing of the prompt. A",
                "search that scores higher isn't better for that: read the oracle's column.",
            ),
        )
    )


def bench_worths() -> str:
    """What the shipped algorithms are worth, and whether their images are right more often."""
    counts = [f"{count} candidates" for count in _counts()]
    by_score = {named(names): [worth(one) for one in cells.values()] for names, cells in worths().items()}
    by_oracle = {named(names): [told(one, 2, "+") for one in cells] for names, cells in truths().items()}
    ends = [(one.times.low / one.times.value, one.times.high / one.times.value) for one in _all_worths()]
    low, high = number(min(one for one, _ in ends), 1), number(max(one for _, one in ends), 1)
    return "\n\n".join(
        (
            table(["worth", *counts], by_score),
            "The share of images that the oracle finds right, less random search's at the same budget:",
            table(["oracle less random's", *counts], by_oracle),
            paragraph(
                "`zero-order` is worth less than the random candidates that it costs: by `vlm` clearly",
                f"{listed(_below('zero-order'))}. `paths` can't be told from random search. That is what 60 prompts",
                f"of one search can tell: intervals reach from {low} to {high} times the value at most. By",
                f"`aesthetic`, `{DDIM}` wasn't run to its end.",
            ),
        )
    )


CLIMBED = "climb.csv"


def bench_climb() -> str:
    """What climbing is worth, and whether its images are right more often."""
    counts = sorted({count for cells in worths(CLIMBED).values() for count in cells})
    by_score, by_oracle = {}, {}
    for names, cells in worths(CLIMBED).items():
        right = dict(zip(cells, truths(CLIMBED)[names], strict=True))
        prompts = listed(dict.fromkeys(str(one.times.prompts) for one in cells.values()))
        row = named(names[:2]) + names[2].removeprefix("climb")
        by_score[row] = [*(worth(cells[n]) if n in cells else "-" for n in counts), prompts]
        by_oracle[row] = [told(right[n], 2, "+") if n in right else "-" for n in counts]
    heads = [f"{count} candidates" for count in counts]
    return "\n\n".join(
        (
            table(["worth", *heads, "prompts"], by_score),
            "The share of images that the oracle finds right, less random search's at the same budget:",
            table(["oracle less random's", *heads], by_oracle),
        )
    )


SWEPT, VALIDATION = "sweeps.csv", "validation"


def bench_ratio() -> str:
    """How much of a budget the warm start takes, by the difficulty of prompts; and which move."""
    columns = (EVERY, *BINS)
    swept = {which: worths(SWEPT, VALIDATION, which) for which in columns}
    by_ratio = {
        names[2].removeprefix("climb, "): [worth(swept[which][names][16]) for which in columns]
        for names, cells in swept[EVERY].items()
        if 16 in cells
    }
    by_move = {
        name: [worth(cells[48])]
        for (model, _, name), cells in worths(SWEPT, VALIDATION).items()
        if model == DDIM and 48 in cells
    }
    return "\n\n".join(
        (
            paragraph(
                f"Worth of 16 candidates by `{LOVED}` on `{FLOW}`, 24 validation prompts, and thirds of them by the",
                "mean score of their random candidates:",
            ),
            table(["", *columns], by_ratio),
            f"Worth of 48 candidates by `{LOVED}` on `{DDIM}`, 12 validation prompts:",
            table(["", "48 candidates"], by_move),
        )
    )


def bench_settings() -> str:
    """What further settings of climbing are worth."""
    rows = {
        name.removeprefix("climb, "): [worth(cells[SETTLED])]
        for (_, _, name), cells in worths(SWEPT, VALIDATION).items()
        if SETTLED in cells
    }
    return "\n\n".join(
        (
            f"Worth of {SETTLED} candidates by `{LOVED}` on `{FLOW}`, 12 validation prompts:",
            table(["", f"{SETTLED} candidates"], rows),
        )
    )


SETTLED = 40


@cache
def far() -> dict[tuple[str, str], dict[int, Told]]:
    """Of a verifier and a move, by candidates: standard deviations above random search at the same budget."""
    gains: dict[tuple[str, str], dict[int, list[float]]] = {}
    with (RESULTS / SWEPT).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["candidates"]) in FAR and "alone" in row["algorithm"]]
    for row in rows:
        pools, count = StandardPools.load(row["model"], VALIDATION), int(row["candidates"])
        pool = pools.scores[row["verifier"]][pools.prompts.index(row["prompt"])]
        gain = (float(row["score"]) - float(expected_best(pool, np.array([float(count)]))[0])) / float(pool.std())
        cells = gains.setdefault((row["verifier"], row["algorithm"]), {})
        cells.setdefault(count, []).append(gain)
    return {names: {n: student(np.array(some)) for n, some in cells.items()} for names, cells in gains.items()}


FAR = (24, 96, 256)


def bench_far() -> str:
    """What the moves gain at large budgets."""
    rows = {
        f"`{by}`, {name.removeprefix('climb, ')}": [told(cells[n], 2, "+") if n in cells else "-" for n in FAR]
        for (by, name), cells in far().items()
    }
    heads = [f"{count} candidates" for count in FAR]
    return "\n\n".join(
        (
            paragraph(
                f"Standard deviations of a prompt's candidates above random search at the same budget, on `{FLOW}`, 8",
                "validation prompts:",
            ),
            table(["", *heads], rows),
        )
    )


def _all_worths(algorithm: str | None = None) -> list[Multiplier]:
    return [one for names, cells in worths().items() if algorithm in (None, names[2]) for one in cells.values()]


def claims() -> dict[str, bool]:
    """What the words above say beyond their numbers, and whether it follows."""
    right = {names: found for names, found in gains().items() if names[2].startswith("right")}
    return {
        "by one verifier auto is never worth less than .9 of random search": all(
            one["low"] > 0.9
            for names, one in recorded().items()
            if names[3] == "auto" and "+" not in names[2] and not one["saturated"]
        ),
        "by vlm auto is worth clearly more than random search on the hard prompts from 4 candidates on": all(
            one["low"] > 1
            for names, one in recorded().items()
            if names[0] == HARD and names[2:4] == ("vlm", "auto") and names[4] >= 4
        ),
        "by vlm and by clip auto's winners are right at least as often as random search's": all(
            one["oracle_high"] >= 0
            for names, one in recorded().items()
            if names[2] in ("vlm", "clip") and names[3] == "auto"
        ),
        "a prior is trusted by aesthetic and by no other verifier": all(
            float(row["trusted"]) == (names[1] == LOVED)
            for names, some in priors().items()
            for row in some
            if names[2] in ("prior", "forced")
        ),
        "halving with a prior is worth clearly more than random search by aesthetic from 4 candidates on": all(
            float(row["low"]) > 1
            for names, some in priors().items()
            for row in some
            if names[2:] == ("prior", "halving") and int(row["candidates"]) >= 4
        ),
        "that halving gains by a prior isn't shown": all(
            float(row["gain_low"]) <= 0
            for names, some in priors().items()
            for row in some
            if names[2:] == ("prior", "halving")
        ),
        "climbing by aesthetic is worth clearly more on both models, and by vlm can't be told from random search": all(
            (one.times.low > 1) == (names[1] == "aesthetic")
            for names, cells in worths(CLIMBED).items()
            if names[1] in ("aesthetic", "vlm")
            for one in cells.values()
        ),
        "neighbours gain by aesthetic at 96 candidates, where branches gain less, and neither move gains by vlm": (
            far()["aesthetic", "climb, neighbours alone"][96][1] > 0
            and all(
                far()["aesthetic", "climb, branches alone"][n][0] < cells[0]
                for n, cells in far()["aesthetic", "climb, neighbours alone"].items()
            )
            and not any(clear(one) for names, cells in far().items() if names[0] == "vlm" for one in cells.values())
        ),
        "where climbing is by clip or vlm, its images are not clearly less often right": all(
            one[2] >= 0 for names, found in truths(CLIMBED).items() if names[1] in ("clip", "vlm") for one in found
        ),
        "paths can't be told from random search": all(one.times.high >= 1 for one in _all_worths("paths")),
        "zero-order is worth less, and clearly somewhere": bool(_below("zero-order"))
        and all(one.times.value < 1 for one in _all_worths("zero-order")),
        "random search by vlm makes images right more often": all(
            right[model, "vlm", "right, best of 48"][1] > right[model, "vlm", "right, best of 1"][2]
            for model in (FLOW, DDIM)
        ),
        "vlm is exploited beyond 48 candidates on shapes-flow, not clearly on shapes-ddim": (
            right[FLOW, "vlm", OVERSEARCHED][2] < 0 and not clear(right[DDIM, "vlm", OVERSEARCHED])
        ),
        "searching by aesthetic makes images of shapes-flow wrong": (
            right[FLOW, "aesthetic", "right, best of 256"][2] < right[FLOW, "aesthetic", "right, best of 1"][1]
        ),
    }


BLOCKS = (
    bench_in_short,
    bench_in_words,
    bench_auto,
    bench_one_sample,
    bench_gains,
    bench_right,
    bench_climb,
    bench_ratio,
    bench_settings,
    bench_far,
    bench_priors,
    bench_worths,
)
