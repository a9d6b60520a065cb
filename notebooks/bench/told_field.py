"""What the pages say of the field's searches, from `results/field.csv`, `seconds.csv` and `glass.csv`."""

import csv

import numpy as np

from noise_search import ALGORITHMS
from notebooks.bench.field import GLASS, SECONDS, WAYS
from notebooks.bench.gains import interval
from notebooks.bench.told import FLOW, named, truths, worth, worths
from notebooks.wording import Told, paragraph, table, told

FIELD = "field.csv"


def _counts() -> list[int]:
    return sorted({count for cells in worths(FIELD).values() for count in cells})


def _prompts() -> int:
    return max(one.times.prompts for cells in worths(FIELD).values() for one in cells.values())


def field_worths() -> str:
    """What the field's searches are worth, whether their images are right more often, and what they take."""
    counts, spent, order = _counts(), _seconds(), list(ALGORITHMS)
    found = sorted(worths(FIELD).items(), key=lambda one: (one[0][0] != FLOW, order.index(one[0][2])))
    rows = {}
    for names, cells in found:
        right = dict(zip(cells, truths(FIELD)[names], strict=True))
        most = told(right[counts[-1]], 2, "+") if counts[-1] in right else "-"
        taken = f"{spent[names[2]] / spent['random']:.1f}"
        rows[named((names[0], names[2]))] = [*(worth(cells[n]) if n in cells else "-" for n in counts), most, taken]
    heads = [f"{count} candidates" for count in counts]
    return "\n\n".join(
        (
            paragraph(
                f'Worth in random candidates by `aesthetic`, {_prompts()} evaluation prompts of `"shapes-hard"`, one',
                "search each; 1 is random search, and the 95 % interval is over prompts. Then the share of images that",
                f"the oracle finds right less random search's, of {counts[-1]}; and processor seconds of a search of",
                f"16 by `shapes-flow` over the {spent['random']:.1f} s of random search, whose denoiser is small by",
                "the side of decoder and verifier:",
            ),
            table(["", *heads, "right", "seconds"], rows),
        )
    )


def _seconds() -> dict[str, float]:
    with SECONDS.open(encoding="utf-8", newline="") as lines:
        return {row["algorithm"]: float(row["seconds"]) for row in csv.DictReader(lines)}


def field_settings() -> str:
    """By which settings."""
    rows = {
        f"`{name.partition(', ')[0]}`, {name.partition(', ')[2]}": [worth(one) for one in cells.values()]
        for (_, _, name), cells in worths("field_sweeps.csv", "validation").items()
    }
    return "\n\n".join(
        (
            "Worth of 16 candidates by `aesthetic` on `shapes-flow`, 12 validation prompts, which chose the defaults:",
            table(["", "16 candidates"], rows),
        )
    )


def glass_scores() -> dict[str, dict[str, Told]]:
    """By way, the mean score of an image less that of the ODE from the same noise; of the ODE, its mean."""
    with GLASS.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    scores = [name for name in rows[0] if name not in ("prompt", "seed", "way", "nfe")]
    values = {
        way: {name: np.array([float(row[name]) for row in rows if row["way"] == way]) for name in scores}
        for way in WAYS
    }
    ode = values["ODE"]
    return {
        way: {name: interval(found if way == "ODE" else found - ode[name]) for name, found in mine.items()}
        for way, mine in values.items()
    }


def field_glass() -> str:
    """Whether single samples lose quality by steps that take fresh noise."""
    with GLASS.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    nfe = {row["way"]: row["nfe"] for row in rows}
    scores = glass_scores()
    names = list(scores["ODE"])
    cells = {
        way: [nfe[way], *(told(found[n], 2, "" if way == "ODE" else "+") for n in names)]
        for way, found in scores.items()
    }
    return "\n\n".join(
        (
            paragraph(
                "Single images of `shapes-flow` with rho .4 in every transition, less the ODE's from the same noise,",
                f"{len(rows) // len(WAYS)} noises:",
            ),
            table(["", "NFE", *(f"`{name}`" for name in names)], cells),
        )
    )


def claims() -> dict[str, bool]:
    """What the page says beyond its numbers, and whether it follows."""
    found = worths(FIELD)
    return {
        "mcts is worth clearly more than random search on the flow from 8 candidates on": all(
            one.times.low > 1 for one in found[FLOW, "aesthetic", "mcts"].values()
        ),
        "fk and bfs are worth clearly more on the flow at 8 candidates, and not at 48": all(
            found[FLOW, "aesthetic", name][8].times.low > 1 > found[FLOW, "aesthetic", name][48].times.low
            for name in ("fk", "bfs")
        ),
        "of the others none is clearly worth more than random search anywhere": all(
            one.times.low <= 1
            for names, cells in found.items()
            if names[2] not in ("mcts", "fk", "bfs", "halving")
            for one in cells.values()
        ),
        "no score of a single image is clearly worse by GLASS or by mixing than by the ODE": all(
            one[2] >= 0 for way, scores in glass_scores().items() if way != "ODE" for one in scores.values()
        ),
    }


BLOCKS = (field_worths, field_settings, field_glass)
