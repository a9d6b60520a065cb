"""Judges: scored after a search, on what it shows, so that no algorithm ever sees them."""

import logging
import time
from collections.abc import Sequence

import numpy as np

from noise_search.engine.interrupts import Interrupts
from noise_search.engine.prompt_search import PromptSearch
from noise_search.engine.run import Run
from noise_search.engine.scoring import Scorer, as_images, pictures
from noise_search.engine.sources import Source
from noise_search.engine.x0_predictions import level_of
from verifiers.base import Verifier, VerifierUnusable

log = logging.getLogger(__name__)


def judge(
    searches: list[PromptSearch],
    judges: Sequence[Verifier],
    device: str | None,
    interrupts: Interrupts,
    sources: Sequence[Source] = (),
    journal: Run | None = None,
) -> None:
    """Judge the first image, the top k and every new best of each prompt; costs no NFE, and a failure loses nothing.

    A judge that needs an x0 prediction gives NaN, said in one warning, where a candidate's last run starts after its
    noise level: such a run makes none. What the journal has of a judge isn't asked again.
    """
    if not judges:
        return
    unseen = [0] * len(judges)
    unusable: set[int] = set()
    for one in searches:
        # A failed candidate has no image that could be judged, whatever its pixels became.
        rows = [c for c in one.pool.shown if c.pixels is not None and c.failure is None]
        if not rows:
            continue
        try:
            images = as_images([c.raw for c in rows if c.raw is not None], device)
        except Exception as error:
            log.warning("images can't be judged: %s", error)
            continue
        for which, one_judge in enumerate(judges):
            started = time.perf_counter()
            level = level_of(one_judge)
            seen = [i for i, c in enumerate(rows) if level is None or level in c.x0]
            unseen[which] += len(rows) - len(seen)
            scores = np.full(len(rows), np.nan)
            if journal is not None:
                known = {i: journal.judged(one.index, c, one_judge.key) for i, c in enumerate(rows)}
                scores = np.array([np.nan if known[i] is None else known[i] for i in range(len(rows))], dtype=float)
                seen = [i for i in seen if known[i] is None]
            if which in unusable:  # said once; asking for every prompt would change nothing
                seen = []
            try:
                interrupts.heed()
                if seen:
                    x0 = {} if level is None else {level: as_images([rows[i].x0[level] for i in seen], device)}
                    one.ledger.judge_images += len(seen) * pictures(images, one_judge)  # journalled with its scores
                    scorer = Scorer([one_judge], sources)
                    found, _ = scorer.score(images[seen], [one.prompt] * len(seen), x0)
                    scores[seen] = found[one_judge.key]
                    if journal is not None:
                        journal.commit_judged(one.index, {rows[i].id: float(scores[i]) for i in seen}, one_judge.key)
                    if scorer.unusable is not None:
                        raise scorer.unusable
            except KeyboardInterrupt:
                log.warning("judge %s interrupted; returning what was found unjudged", one_judge.key)
                return
            except Exception as error:
                # A judge comes after the work is done: its failure must not lose the result.
                log.warning("judge %s failed: %s", one_judge.key, error)
                if isinstance(error, VerifierUnusable):
                    unusable.add(which)
            for candidate, score in zip(rows, scores, strict=True):
                candidate.judges[one_judge.key] = float(score)
            one.ledger.seconds["judge"] += time.perf_counter() - started
    for one_judge, count in zip(judges, unseen, strict=True):
        if count:
            log.warning(
                "judge %s: %d of the images shown got no score, as the last run to them starts after noise level %g",
                one_judge.key,
                count,
                level_of(one_judge),
            )
