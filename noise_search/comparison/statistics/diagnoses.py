"""The diagnoses of a comparison's winners together: what stays of their gains, and whether their noise is noise."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noise_search.comparison.records import Record
from noise_search.comparison.statistics.intervals import Interval, interval_of, mean_interval
from noise_search.comparison.statistics.measures import CELL, groups_of, table
from noise_search.diagnosis import Diagnosis


@dataclass(frozen=True)
class Diagnosed:
    """What diagnoses say of an algorithm's winners at one budget.

    Attributes:
        algorithm, budget: which.
        verdicts: how many winners have each, the most frequent first.
        kept: of the sum of the gains, how much stays after flip, resize and JPEG (the median of them); 1 is all.
        wrong: of the sum of the gains by verifiers that read prompts, how much is there under other prompts; 0 is none.
        unusual: share of the winners whose step-0 noise fails a check; 0.0054 of white noise do.

    Gains are summed before shares are taken, as the share of a gain near 0 says nothing.
    """

    algorithm: str
    budget: int
    verdicts: Mapping[str, int]
    kept: Interval
    wrong: Interval
    unusual: Interval

    def __str__(self) -> str:
        told = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items())
        return (
            f"{self.algorithm} at {self.budget} NFE: {told}; kept after changes {self.kept}, there under other prompts "
            f"{self.wrong}, unusual noise {self.unusual}"
        )


def numbers(diagnosis: Diagnosis) -> dict[str, Any]:
    """What a record keeps of a diagnosis, as plain JSON, without what couldn't be tested."""
    gain, noise = diagnosis.own.total, diagnosis.noise.winner
    values = {
        "gain": gain,
        "kept": diagnosis.rescoring.share * gain,
        "read_gain": math.nan if diagnosis.wrong.skipped else diagnosis.wrong.right,
        "wrong": math.nan if diagnosis.wrong.skipped else diagnosis.wrong.mean,
        "norm": noise[0].value if noise else math.nan,
        "unusual": float(not all(one.passed for one in noise)) if noise else math.nan,
    }
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    return {"verdict": diagnosis.verdict.status, **known}


def diagnosed(records: Sequence[Record]) -> tuple[Diagnosed, ...]:
    """By algorithm and budget, those that have diagnoses: the largest budget of each run."""
    told = [one for one in records if one.diagnosis]
    names = ("gain", "kept", "read_gain", "wrong", "unusual")
    columns = {name: [float(one.diagnosis.get(name, math.nan)) for one in told] for name in names}
    rows = table(told, {**columns, "verdict": [str(one.diagnosis["verdict"]) for one in told]})
    found = []
    for (algorithm, budget), some in rows.groupby(level=CELL):
        kept, wrong = (
            interval_of(np.divide, some[[part, whole]].to_numpy(), *groups_of(some))
            for part, whole in (("kept", "gain"), ("wrong", "read_gain"))
        )
        unusual = mean_interval(some.unusual.to_numpy(), *groups_of(some))
        verdicts = dict(Counter(some.verdict).most_common())
        found.append(Diagnosed(algorithm, budget, verdicts, kept, wrong, unusual))
    return tuple(found)
