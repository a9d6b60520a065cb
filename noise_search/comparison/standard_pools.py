"""Random search's candidates on the task "shapes-hard", as they are shipped: 256 of both models for every prompt."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from noise_search.arguments import first_seed
from noise_search.comparison.cells import RANDOM
from noise_search.comparison.records import Pool, Record
from noise_search.words import unknown

FILE = Path(__file__).parents[1] / "data" / "shapes-hard.safetensors"
JUDGES = ("oracle", "oracle-facts")
"""The scores that aren't a verifier's."""


@dataclass(frozen=True)
class StandardPools:
    """One model's random candidates for the prompts of one split, made by `noise_search.shapes.train.pools`.

    Attributes:
        model: its name.
        prompts, families: of each prompt, the text and the category.
        steps: NFE of one candidate.
        keys: the verifiers' keys by name: a score holds for this version alone.
        scores: raw scores `[prompt, candidate]` by name, float64; of the oracle 1 and 0, NaN where it can't tell.
    """

    model: str
    prompts: tuple[str, ...]
    families: tuple[str, ...]
    steps: int
    keys: Mapping[str, str]
    scores: Mapping[str, np.ndarray]

    @classmethod
    def load(cls, model: str, split: str) -> "StandardPools":
        """Those of a model and a split.

        Raises:
            ValueError: no such model or split.
        """
        with safe_open(FILE, "np") as file:
            about = json.loads(file.metadata()["about"])
            if model not in about["models"]:
                raise unknown("model with shipped candidates", str(model), about["models"])
            rows = [at for at, one in enumerate(about["prompts"]) if one["split"] == split]
            if not rows:
                raise unknown("split", str(split), {one["split"] for one in about["prompts"]})
            made = about["models"][model]
            names = [*made["keys"], *JUDGES]
            scores = {name: file.get_tensor(f"{model}/{name}")[rows].astype(np.float64) for name in names}
        scores["oracle"] = np.where(scores["oracle"] < 0, np.nan, scores["oracle"])
        chosen = [about["prompts"][at] for at in rows]
        texts, families = ([one[key] for one in chosen] for key in ("prompt", "family"))
        return cls(model, tuple(texts), tuple(families), made["steps"], made["keys"], scores)

    @functools.cached_property
    def count(self) -> int:
        """Candidates of each prompt."""
        return int(next(iter(self.scores.values())).shape[1])

    def records(
        self, prompts: Sequence[str], budgets: Sequence[int], verifier: str, judges: Sequence[str], seconds: float
    ) -> list[Record | Pool]:
        """What a comparison keeps of random search: per prompt its pool, and the winner at each budget.

        Args:
            prompts: some of its own.
            budgets: NFE.
            verifier: that chooses.
            judges: held out.
            seconds: wall-clock of one candidate where the others are run.
        """
        found: list[Record | Pool] = []
        for row in map(self.prompts.index, prompts):
            text, family = self.prompts[row], self.families[row]
            own: dict[str, Any] = {"offset": first_seed(text), "prompt": text, "family": family, "seed": 0}
            scores, judged = ({name: self.scores[name][row] for name in some} for some in ((verifier,), judges))
            pool = Pool(
                **own,
                nfe=self.steps,
                seconds=seconds,
                scores={name: tuple(values.tolist()) for name, values in scores.items()},
                judges={name: tuple(values.tolist()) for name, values in judged.items()},
            )
            found.append(pool)
            for budget in budgets:
                tried = budget // self.steps
                best = int(np.nanargmax(scores[verifier][:tried]))
                found.append(
                    Record(
                        **own,
                        algorithm=RANDOM,
                        budget=budget,
                        nfe=tried * self.steps,
                        rows=0,
                        seconds=tried * seconds,
                        scores={name: float(values[best]) for name, values in scores.items()},
                        judges={name: float(values[best]) for name, values in judged.items()},
                        first_scores={name: float(values[0]) for name, values in scores.items()},
                        first_judges={name: float(values[0]) for name, values in judged.items()},
                        shared=budget != max(budgets),
                    )
                )
        return found
