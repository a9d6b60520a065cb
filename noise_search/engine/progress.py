"""What a running search shows on standard error."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from noise_search.engine.prompt_search import PromptSearch
from noise_search.models import LoadedModel
from noise_search.words import schedule_in_words
from verifiers.aggregators.base import Aggregator


class Reporter:
    """The cost line before the start, and a bar over NFE with the best score."""

    def __init__(
        self,
        searches: list[PromptSearch],
        aggregator: Aggregator,
        loaded: LoadedModel,
        schedule: Mapping[str, Any],
        enabled: bool,
    ) -> None:
        self._searches, self._enabled = searches, enabled
        self._total = sum(one.ledger.nfe_budget for one in searches)
        self._started, self._projected = time.perf_counter(), False
        if enabled:
            each = searches[0].ledger.nfe_budget
            many = f" for each of {len(searches)} prompts" if len(searches) > 1 else ""
            verifiers = ", ".join(v.key for v in aggregator.verifiers)
            self._say(f"{each} NFE{many}: {schedule_in_words(schedule)}")
            self._say(f"model {loaded.name}@{loaded.fingerprint}; verifier {verifiers}")
        self._bar = tqdm(total=self._total, unit="NFE", disable=not enabled, leave=False)

    @staticmethod
    def _say(line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def update(self) -> None:
        """Move the bar to the NFE charged so far; after the first batch, project the seconds."""
        done = sum(one.ledger.nfe for one in self._searches)
        self._bar.update(done - self._bar.n)
        pools = [one.pool for one in self._searches]
        bests = [pool.best.score for pool in pools if pool.best is not None and pool.aggregator.absolute]
        if bests:
            self._bar.set_postfix_str(f"best {np.mean(bests):.4f}")
        if not self._projected and self._enabled and done:
            self._projected = True
            seconds = (time.perf_counter() - self._started) * self._total / done
            self._say(f"about {seconds:.0f} s in all, by the first batch")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
