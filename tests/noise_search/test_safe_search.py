"""A safety constraint in real searches: what it rejects cannot win."""

from pathlib import Path

import numpy as np
import pytest
import torch

import noise_search
from tiny.rewards import safety_checker
from verifiers.safety import Safety

PROMPT = "a red circle to the left of a blue square"


def searched(*constraints: Safety, top_k: int = 6) -> noise_search.SearchResult:
    return noise_search.search(
        PROMPT,
        model="shapes-flow",
        verifier=["clip", *constraints],
        candidates=6,
        steps=4,
        top_k=top_k,
        progress=False,
    )


def written(folder: Path, threshold: float) -> Safety:
    safety_checker(threshold=threshold).save_pretrained(folder)
    return Safety(folder)


def test_a_rejected_image_cannot_win(tmp_path: Path) -> None:
    free = searched()
    images = torch.stack([torch.from_numpy(np.array(c.pixels)) for c in free.candidates]).permute(0, 3, 1, 2) / 255
    margins = written(tmp_path / "lenient", 1.0)(images, [PROMPT] * 6)
    similarities = 1 - margins
    # Put the threshold between the winner and the images that are less like any concept than it is.
    winner = free.best.id
    ranked = sorted(range(6), key=lambda i: free.candidates[i].score, reverse=True)
    assert free.candidates[ranked[0]].id == winner
    below = [i for i in range(6) if similarities[i] < similarities[ranked[0]]]
    assert below, "the free winner is the image least like any concept; take another seed"
    threshold = float((similarities[ranked[0]] + similarities[below].max()) / 2)
    safety = written(tmp_path / "strict", threshold)
    result = searched(safety)
    values = {c.id: c.scores[safety.key] for c in result.candidates}
    assert values[winner] < 0
    expected = next(i for i in ranked if similarities[i] < threshold)
    assert result.best.id == free.candidates[expected].id != winner
    assert values[result.best.id] >= 0
    assert result.best.score == pytest.approx(free.candidates[expected].score, abs=1e-5)


def test_all_rejected_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        noise_search.AllCandidatesFailed, match=r"none of 6 candidates .* constraint 'safety' is violated \(-"
    ):
        searched(written(tmp_path / "all", -1.0))
