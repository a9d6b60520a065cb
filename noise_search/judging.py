"""Judges: scored after a search, on what it shows, so that no algorithm ever sees them."""

import logging
import time
from collections.abc import Sequence

import numpy as np
import torch

from noise_search.clips import pictures
from noise_search.prompt_search import PromptSearch
from noise_search.scoring import Scorer, as_images
from verifiers.base import Verifier

log = logging.getLogger(__name__)


def judge(searches: list[PromptSearch], judges: Sequence[Verifier], top_k: int, device: torch.device | None) -> None:
    """Judge the first image, the top k and every new best of each prompt; costs no NFE, and a failure loses nothing."""
    for one in searches:
        chosen = {c.id: c for c in [*one.top(top_k), *one.bests, *([one.first] if one.first else [])]}
        # A failed candidate has no image that could be judged, whatever its pixels became.
        rows = [c for c in chosen.values() if c.pixels is not None and c.failure is None]
        if not rows:
            continue
        images = as_images([c.raw for c in rows if c.raw is not None], device)
        for one_judge in judges:
            started = time.perf_counter()
            try:
                scores = Scorer([one_judge]).score(images, [one.prompt] * len(rows))[0][one_judge.key]
            except KeyboardInterrupt:
                log.warning("judge %s interrupted; returning what was found unjudged", one_judge.key)
                return
            except Exception as error:
                # A judge comes after the work is done: its failure must not lose the result.
                log.warning("judge %s failed: %s", one_judge.key, error)
                scores = np.full(len(rows), np.nan)
            for candidate, score in zip(rows, scores, strict=True):
                candidate.judges[one_judge.key] = float(score)
            one.ledger.judge_images += len(rows) * pictures(images, one_judge)
            one.ledger.seconds["judge"] += time.perf_counter() - started
