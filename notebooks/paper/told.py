"""What `notebooks/README.md` says of the paper's experiments, from `results/`: see `notebooks/measured.py`."""

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from notebooks.wording import Told, clear, difference, listed, number, paragraph, table, told

RESULTS = Path(__file__).parent / "results"
STEPS = 20
"""NFE of a candidate, where an axis doesn't say otherwise."""


@dataclass(frozen=True)
class Point:
    """Of a curve at one budget: the mean of a measure, and what it is less the baseline's in pairs."""

    score: Told
    less: Told


@cache
def axis(name: str) -> dict[tuple[str, int, str], Point]:
    """The points of an axis: of a curve, a budget in NFE and a measure."""

    def numbers(row: dict[str, str], *columns: str) -> Told:
        value, low, high = (float(row[column]) for column in columns)
        return value, low, high

    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["curve"], int(row["budget"]), row["measure"]): Point(
                numbers(row, "mean", "low", "high"),
                numbers(row, "less_baseline", "less_baseline_low", "less_baseline_high"),
            )
            for row in csv.DictReader(file)
        }


def curves(name: str, measure: str) -> dict[str, list[Point]]:
    """The points of every curve of an axis, by budget."""
    found: dict[str, list[Point]] = {}
    for (curve, _, of), point in axis(name).items():
        if of == measure:
            found.setdefault(curve, []).append(point)
    return found


@cache
def three_algorithms() -> dict[tuple[str, str, int, str, str], Point]:
    """120 prompts: of a model, what was searched by, candidates, an algorithm and a measure; one sample by "none"."""
    found = {}
    for model, stored in json.loads((RESULTS / "three_algorithms.json").read_text(encoding="utf-8")).items():
        for measure, score in stored["one_sample"].items():
            found[model, "none", 1, "random", measure] = Point(tuple(score), (0.0, 0.0, 0.0))
        for cell in stored["cells"]:
            for measure in ("clip", "aesthetic", "oracle"):
                where = model, cell["verifier"], cell["candidates"], cell["algorithm"], measure
                found[where] = Point(tuple(cell[measure]), tuple(cell[f"{measure}_minus_random"]))
    return found


MODELS, SEARCHED, BUDGETS = ("shapes-flow", "shapes-ddim"), ("clip", "aesthetic", "ensemble"), (4, 16)
OTHERS = ("zero-order", "paths")


def _score(name: str, curve: str, budget: int, measure: str, digits: int = 3) -> str:
    return told(axis(name)[curve, budget, measure].score, digits)


def _mean(name: str, curve: str, budget: int, measure: str, digits: int = 2) -> str:
    return number(axis(name)[curve, budget, measure].score[0], digits)


def _less(name: str, curve: str, budget: int, measure: str, digits: int = 3) -> str:
    return told(axis(name)[curve, budget, measure].less, digits)


def steps_alone() -> str:
    """Section 1 and figure 1."""
    alone, search = "denoising steps alone", "random search"
    return paragraph(
        "Agrees. From 10 steps on, more steps change nothing that could be told:",
        f"{_score('steps-flow', alone, 10, 'clip')} at 10 NFE, {_score('steps-flow', alone, 200, 'clip')} at 200.",
        f"Random search over the same NFE rises to {_score('steps-flow', search, 160, 'clip')} at 160 and",
        f"{_score('steps-flow', search, 1280, 'clip')} at 1280 (30 prompts). The oracle goes from",
        f"{_mean('steps-flow', search, 20, 'oracle')} to {_mean('steps-flow', search, 1280, 'oracle')} with it,",
        "and from",
        f"{_mean('steps-flow', alone, 20, 'oracle')} to {_mean('steps-flow', alone, 200, 'oracle')} with steps; with",
        f"search it doesn't rise beyond {_mean('steps-flow', search, 320, 'oracle')} at 320 NFE, where CLIP's score",
        "still does. The same for `shapes-ddim` ([figure](paper/results/steps-ddim.png), 12 prompts):",
        f"{_score('steps-ddim', alone, 10, 'clip')} at 10 steps and {_score('steps-ddim', alone, 200, 'clip')} at 200,",
        f"{_score('steps-ddim', search, 1280, 'clip')} by search at 1280 NFE.",
    )


def table_2() -> str:
    """Table 2: three algorithms on 120 prompts."""
    found = three_algorithms()
    digits = {"clip": 3, "aesthetic": 2, "oracle": 2}
    random = {}
    for model in MODELS:
        for by, count in (("none", 1), *((by, 16) for by in SEARCHED)):
            cells = [told(found[model, by, count, "random", m].score, n) for m, n in digits.items()]
            random[f"`{model}`, {'one sample' if by == 'none' else f'by {by}'}"] = cells
    pairs = {}
    for model in MODELS:
        for by in ("clip", "aesthetic"):
            for count in BUDGETS:
                own = [difference(found[model, by, count, other, by].less) for other in OTHERS]
                true = [difference(found[model, by, count, other, "oracle"].less) for other in OTHERS]
                pairs[f"`{model}`, {by}, {count}"] = [*own, *true]

    def truth(model: str, by: str, count: int = 16) -> str:
        return number(found[model, by, count, "random", "oracle"].score[0], 2)

    falls = listed(f"{truth(model, 'none', 1)} to {truth(model, 'aesthetic')}" for model in MODELS)
    truer = listed(f"{truth(model, 'clip')} against {truth(model, 'ensemble')}" for model in MODELS)
    ddim = (
        found["shapes-ddim", "clip", 4, "paths", "clip"].less,
        found["shapes-ddim", "clip", 4, OTHERS[0], "clip"].less,
    )
    return "\n\n".join(
        (
            paragraph(
                "120 prompts, first noises 0 and 1000, 4 and 16 candidates (path search can't always spend the last of",
                "it). The ensemble is the mean rank of `clip` and `aesthetic`. Random search at 16 candidates:",
            ),
            table(["", "clip", "aesthetic", "oracle"], random),
            paragraph(
                "The others less random search, by the score that was searched by (own) and by the oracle; in bold",
                "what is clear, as its interval excludes 0:",
            ),
            table(
                ["model, verifier, candidates", "zero-order, own", "paths, own", "zero-order, oracle", "paths, oracle"],
                pairs,
            ),
            paragraph(
                "Agrees with table 2 in that random search has the best targeted score in every row: zero-order search",
                "is clearly behind it at both budgets, path search is behind at 4 candidates and can't be told from it",
                "at 16. Agrees in that verifiers trade off: searching for aesthetics lowers CLIP and, far more, the",
                f"truth of the image (oracle {falls}), since the embedded aesthetic head looks at composition alone.",
                "Disagrees on the ensemble, which gives the paper's best grades: here CLIP alone is truer",
                f"({truer}), as one of the two members has nothing to say about the prompt. Disagrees in that path",
                "search, which the paper has level with or behind zero-order search, is ahead of it at 16 candidates,",
                "where the paper's budget is 96; at 4 it is behind it on `shapes-ddim`",
                f"(by CLIP {number(ddim[0][0], 3)} against {number(ddim[1][0], 3)}). CLIP's truth isn't free of its",
                'blind spots either: like large ones, this CLIP hardly tells left from right. Try "a red circle to the',
                'left of a blue square".',
            ),
        )
    )


def up_to_256() -> str:
    """Figure 6."""
    name = "algorithms-flow"
    behind = axis(name)["paths", 1280, "clip"].less
    return paragraph(
        "12 prompts and one seed can tell little. Agrees in that no search has a clearly higher score than random",
        "search at any budget; zero-order search is behind most at 4 candidates",
        f"({_less(name, 'zero-order', 80, 'clip')}),",
        f"path search clearly at 64 alone ({told(behind)}). At 256 the means of all three are within",
        f"{number(_spread(5120), 3)} of each other, since the score saturates. The paper's reason to prefer the",
        "others,",
        "that random search hacks its verifier first, can't be told: from 64 to 256 candidates the oracle goes from",
        f"{_mean(name, 'random', 1280, 'oracle')} to {_mean(name, 'random', 5120, 'oracle')} under random search and",
        f"from {_mean(name, 'paths', 1280, 'oracle')} to {_mean(name, 'paths', 5120, 'oracle')} under path search, a",
        f"difference at 256 of {_less(name, 'paths', 5120, 'oracle', 2)}.",
    )


def _spread(budget: int) -> float:
    means = [axis("algorithms-flow")[one, budget, "clip"].score[0] for one in ("random", *OTHERS)]
    return max(means) - min(means)


MEASURES = {"clip": 3, "aesthetic": 2, "vlm": 1, "oracle": 2}
_BY = ("clip", "aesthetic", "vlm", "clip and aesthetic", "oracle")


def verifiers_and_judges() -> str:
    """Tables 1 and 2, figure 8."""
    found = axis("verifiers")
    rows = {
        f"{by}, mean rank" if " and " in by else by: [
            told(found[f"by {by}", 1920, one].score, digits, bold=one == by) for one, digits in MEASURES.items()
        ]
        for by in _BY
    }
    return "\n\n".join(
        (
            table(["searched by", *MEASURES], rows),
            paragraph(
                "Agrees in that every search reaches the best mean by its own measure, that searching for aesthetics",
                f"lowers CLIP ({_less('verifiers', 'by aesthetic', 1920, 'clip')} in pairs), and that it harms",
                "composition (the paper's table 1). Here the harm is total: from 4 to 96 candidates the oracle goes",
                f"from {_mean('verifiers', 'by aesthetic', 80, 'oracle')} to",
                f"{_mean('verifiers', 'by aesthetic', 1920, 'oracle')}, a textbook case of verifier hacking:",
                "the embedded",
                "aesthetic head rewards large, well spread objects, and what wins has more of them than the",
                "prompt asks",
                "for. The ensemble, which gives the paper's best grades, is less true than CLIP alone by",
                f"{_less('verifiers', 'by clip and aesthetic', 1920, 'oracle', 2)}: not clear with 12 prompts,",
                "but so it",
                "is with 120, above.",
            ),
        )
    )


def drafted() -> str:
    """Section 5.4, figure 10."""
    gains = {budget: [_less("drafts", f"{steps} steps", budget, "clip") for steps in (6, 10)] for budget in (640, 1280)}
    return paragraph(
        "The winner is rendered again with 40 steps; candidates are drafted with 4, 6, 10, 20 or 40. At equal NFE,",
        f"against 40 steps (paired, clip): with 640 NFE 6 steps gain {gains[640][0]} and 10 steps",
        f"{gains[640][1]}; with",
        f"1280 NFE {gains[1280][0]} and {gains[1280][1]}; 4 steps gain nothing that could be told, and at 160 and 320",
        "NFE none do. Agrees in the direction: fewer steps per candidate are the better use of a budget, and",
        "too few are",
        "not. Disagrees in size: on ImageNet 10 steps against 250 differ by 87 points of IS at 256 candidates. Here 6",
        "steps already put the objects where 40 do, so that drafts rank like finished images. By the oracle nothing",
        "separates at 12 prompts.",
    )


def _differences(name: str) -> str:
    rows = {curve: [difference(one.less) for one in found] for curve, found in _compared(name, "clip").items()}
    return table(["", "4 candidates", 8, 16, 32], rows)


def _compared(name: str, measure: str) -> dict[str, list[Point]]:
    return {curve: found for curve, found in curves(name, measure).items() if curve != "random"}


def neighbours() -> str:
    """Section 5.3, figure 12."""
    return "\n\n".join(
        (
            _differences("neighbours"),
            paragraph(
                "Agrees that small steps are worse, in order: the means of N=4 fall from cosine .5 over .8 and .95 to",
                ".99 at every budget. Agrees that zero-order search does not beat random search on the score that it",
                "climbs. The paper's score rises with N at equal rounds, which cost more NFE; at equal NFE no order of",
                "2, 4 and 8 can be told here. Disagrees on large steps, which overfit the paper's verifier",
                "beyond about",
                "1000 NFE: cosine .5 can't be told from random search in either score, up to 640 NFE. And zero-order",
                "search, the paper's remedy against hacking, is no truer here: by the oracle no setting is",
                "clearly above",
                "random search, and at 4 candidates cosine .95 is at",
                f"{_less('neighbours', 'N=4, cosine .95', 80, 'oracle', 2)}.",
            ),
        )
    )


def paths_and_branches() -> str:
    """Section 5.3."""
    return "\n\n".join(
        (
            _differences("paths"),
            paragraph(
                "Agrees: none beats random search on its own score, and one path levels off first: at 32",
                "candidates the",
                "means rise with the number of paths, and one and two paths are clearly behind random search, four",
                "aren't. A single round is no better than one path. By the oracle nothing is clear.",
            ),
        )
    )


EQUAL_COMPUTE = ((80, 20), (320, 80), (1280, 320))
"""NFE of the small model and of the large one."""


def _sizes(measure: str) -> list[tuple[Told, Told]]:
    found = axis("sizes")
    return [
        (found["shapes-flow-small", small, measure].score, found["shapes-flow", large, measure].score)
        for small, large in EQUAL_COMPUTE
    ]


def small_and_large() -> str:
    """Section 5.5, figure 11."""
    with (RESULTS / "sizes.csv").open(encoding="utf-8", newline="") as file:
        costs = {row["curve"]: float(row["cost"]) / float(row["budget"]) for row in csv.DictReader(file)}
    rows = {
        f"{measure}, {name}": [told(pair[place], digits) for pair in _sizes(measure)]
        for measure, digits in (("clip", 3), ("oracle", 2))
        for place, name in enumerate(("small", "large"))
    }
    shares = [small[0] / large[0] for small, large in _sizes("oracle")]
    return "\n\n".join(
        (
            paragraph(
                "`shapes-flow-small` is as deep as `shapes-flow`, half as wide, and shares its text encoders:",
                f"{number(costs['shapes-flow-small'], 3)} GFLOP per NFE against {number(costs['shapes-flow'], 3)}. 30",
                "prompts, at equal compute (four times as many candidates of the small one):",
            ),
            table(["", *(f"{small // STEPS} against {large // STEPS}" for small, large in EQUAL_COMPUTE)], rows),
            paragraph(
                "By the score that is searched by, it agrees in direction: as SiT-L beats SiT-XL at small budgets, so",
                "the small model has the higher mean here, most at the smallest budget, and later both meet. By the",
                "oracle it is the other way round at every budget, clearly at 16 against 4, where the intervals are",
                f"apart: the small model's winners please CLIP, and are true {number(min(shares), 1)} to",
                f"{number(max(shares), 1)} times as often. A weaker model offers a search more wrong images that its",
                "verifier likes. The paper's figure is in FID and IS, which don't say whether an image is what",
                "was asked",
                "for.",
            ),
        )
    )


def guidance_scale() -> str:
    """Figures 3 to 5."""
    none = "guidance 1"
    return paragraph(
        "30 prompts, two seeds. Without guidance (scale 1) one sample is clearly worse by clip,",
        f"{_less('guidance', none, 20, 'clip')} against the model's own 2.5, and search makes up for nearly all of it:",
        f"{_less('guidance', none, 320, 'clip')} at 16 candidates. By the oracle it then has the highest mean of all,",
        f"{_score('guidance', none, 320, 'oracle', 2)} against {_score('guidance', 'guidance 2.5', 320, 'oracle', 2)}",
        f"(paired {_less('guidance', none, 320, 'oracle', 2)}, not clear). Agrees with figures 3 to 5: gains",
        "are larger",
        "at cfg 1.0 than at 1.5, and curves come together. More guidance than 2.5 buys nothing at any budget.",
    )


def what_differs() -> str:
    """The first and the third way in which this world differs."""
    lines = (
        "- **The score saturates.** Images that are all true, the best of 96 by the oracle, score "
        f"{_score('verifiers', 'by oracle', 1920, 'clip')} by clip, and the best of 16 by clip come to "
        f"{_score('steps-flow', 'random search', 320, 'clip')}. On DrawBench scores still rise at 128. Differences "
        f"between algorithms by clip are largest at 4 candidates here, and at 256 within {number(_spread(5120), 3)}.",
        "- **One verifier is blind.** The aesthetic head reads no prompt, so ensembles with it dilute, and searches by "
        "it hack.",
        "- **The judge is exact.** The paper's LLM grader has noise; the oracle has none, and calls near misses false. "
        "So its intervals are wide, with 30 prompts "
        f"{_score('paths', 'random', 80, 'oracle', 2)}, and only large effects can be told by it.",
    )
    return "\n".join(paragraph(line).replace("\n", "\n  ") for line in lines)


def claims() -> dict[str, bool]:
    """What the words above say beyond their numbers, and whether it follows."""
    three, found = three_algorithms(), axis("verifiers")
    own = {where: one for where, one in three.items() if where[1] == where[4] and where[3] in OTHERS}
    steps, search = curves("steps-flow", "clip")["denoising steps alone"], axis("steps-flow")
    falling = [[axis("neighbours")[f"N=4, cosine .{c}", n, "clip"].less[0] for c in (5, 8, 95, 99)] for n in _FEW]
    last = {curve: some[-1].less for curve, some in _compared("paths", "clip").items()}
    (clip_least, *clip_more), (_, apart, _) = _sizes("clip"), _sizes("oracle")
    scales = curves("guidance", "clip")
    return {
        "more steps change nothing": all(steps[5].score[1] < one.score[0] < steps[5].score[2] for one in steps[6:]),
        "by the oracle random search doesn't rise beyond 320 NFE": all(
            search["random search", n, "oracle"].score[0] <= search["random search", 320, "oracle"].score[0]
            for n in (640, 1280)
        ),
        "random search has the best targeted score": all(one.less[0] < 0 for one in own.values()),
        "zero-order is clearly behind": all(one.less[2] < 0 for where, one in own.items() if where[3] == "zero-order"),
        "paths are behind at 4 and level at 16": all(
            (one.less[2] < 0) == (where[2] == 4) for where, one in own.items() if where[3] == "paths"
        ),
        "paths are ahead of zero-order at 16": all(
            one.less[0] > three[*where[:3], "zero-order", where[4]].less[0]
            for where, one in own.items()
            if where[2:4] == (16, "paths")
        ),
        "paths are behind zero-order at 4 on shapes-ddim": all(
            three["shapes-ddim", by, 4, "paths", by].less[0] < three["shapes-ddim", by, 4, "zero-order", by].less[0]
            for by in ("clip", "aesthetic")
        ),
        "searching for aesthetics lowers CLIP and truth; CLIP is truer than the ensemble": all(
            three[model, "aesthetic", 16, "random", measure].score[0]
            < three[model, "none", 1, "random", measure].score[0]
            for model in MODELS
            for measure in ("clip", "oracle")
        )
        and all(
            three[model, "ensemble", 16, "random", "oracle"].score[0]
            < three[model, "clip", 16, "random", "oracle"].score[0]
            for model in MODELS
        ),
        "up to 256 candidates no search is clearly higher, and zero-order least at 4": all(
            one.less[1] <= 0 for some in _compared("algorithms-flow", "clip").values() for one in some
        )
        and min(curves("algorithms-flow", "clip")["zero-order"], key=lambda one: one.less[0])
        is axis("algorithms-flow")["zero-order", 80, "clip"],
        "paths are clearly lower at 64 candidates alone": [
            clear(one.less) for one in curves("algorithms-flow", "clip")["paths"]
        ]
        == [False, False, True, False],
        "every search is best by its own measure": all(
            max(_BY, key=lambda by: found[f"by {by}", 1920, one].score[0]) == one for one in MEASURES
        ),
        "drafts of 6 and 10 steps gain from 640 NFE, others don't": all(
            clear(axis("drafts")[f"{n} steps", budget, "clip"].less) == (n > 4 and budget >= 640)
            for n in (4, 6, 10)
            for budget in (160, 320, 640, 1280)
        ),
        "drafts can't be told apart by the oracle": not _above_or_below("drafts", "oracle", baseline="40 steps"),
        "small steps are worse": all(one == sorted(one, reverse=True) for one in falling),
        "no neighbours or paths beat random search, by clip or by the oracle": all(
            one.less[1] <= 0
            for name in ("neighbours", "paths")
            for measure in ("clip", "oracle")
            for some in _compared(name, measure).values()
            for one in some
        ),
        "cosine .5 can't be told from random search": not any(
            clear(one.less) for measure in ("clip", "oracle") for one in curves("neighbours", measure)["N=4, cosine .5"]
        ),
        "more paths are better at 32 candidates, and four alone aren't behind": (
            last["N=1"][0] < last["N=2"][0] < last["N=4"][0]
            and [clear(last[f"N={n}"]) for n in (1, 2, 4)] == [True, True, False]
        ),
        "a single round is no better than one path": last["N=2, one round"][0] <= last["N=1"][0],
        "paths can't be told apart by the oracle": not _above_or_below("paths", "oracle", baseline="random"),
        "the small model has the higher clip, most at the smallest budget": all(
            0 < small[0] - large[0] < clip_least[0][0] - clip_least[1][0] for small, large in clip_more
        ),
        "the small model is less true, clearly at 16 against 4": apart[0][2] < apart[1][1]
        and all(small[0] < large[0] for small, large in _sizes("oracle")),
        "without guidance one sample is worse and the best of 16 isn't": clear(scales["guidance 1"][0].less)
        and not clear(scales["guidance 1"][4].less),
        "without guidance the best of 16 is the truest": max(
            curves("guidance", "oracle").values(), key=lambda some: some[4].score[0]
        )
        == curves("guidance", "oracle")["guidance 1"],
        "gains are larger at scale 1 than at 1.5": all(
            scales["guidance 1"][n].score[0] - scales["guidance 1"][0].score[0]
            > scales["guidance 1.5"][n].score[0] - scales["guidance 1.5"][0].score[0]
            for n in range(1, 6)
        ),
        "more guidance than 2.5 buys nothing": all(
            one.less[1] <= 0
            for measure in ("clip", "oracle")
            for curve in ("guidance 4", "guidance 6")
            for one in curves("guidance", measure)[curve]
        ),
    }


_FEW = (80, 160, 320, 640)


def _above_or_below(name: str, measure: str, *, baseline: str) -> list[Point]:
    return [
        one for curve, some in curves(name, measure).items() if curve != baseline for one in some if clear(one.less)
    ]


BLOCKS = (
    steps_alone,
    table_2,
    up_to_256,
    verifiers_and_judges,
    drafted,
    neighbours,
    paths_and_branches,
    small_and_large,
    guidance_scale,
    what_differs,
)
