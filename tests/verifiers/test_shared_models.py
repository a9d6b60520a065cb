"""Loaded models are shared: between threads, between modes of autograd, and only where they are the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_rewards import write_pickscore
from torch import Tensor

from verifiers import CLIPScore
from verifiers import pickscore as picks
from verifiers import tower as towers
from verifiers.pickscore import PickScore
from verifiers.tower import Tower


@pytest.fixture
def tower(clip_directory: Path) -> Tower:
    shared = CLIPScore(clip_directory).source.tower()
    return Tower(shared.model, shared.tokenizer)


class Contended(dict[Any, Tensor]):
    """A cache whose oldest entry another thread evicts at the worst moments: once looked for, once listed."""

    def _evict(self) -> None:
        if self:
            self.pop(next(super().__iter__()))

    def __contains__(self, key: object) -> bool:
        found = super().__contains__(key)
        self._evict()
        return found

    def __iter__(self) -> Iterator[Any]:
        keys = list(super().__iter__())
        self._evict()
        return iter(keys)


def test_a_batch_that_another_thread_scores_meanwhile_does_not_change_this_one(
    tower: Tower, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, mine = tower.image(images[:2]).clone(), tower.image(images[2:4]).clone()
    equal = torch.equal

    def equal_then_another_thread(left: Tensor, right: Tensor) -> bool:
        found = equal(left, right)
        monkeypatch.setattr(torch, "equal", equal)
        tower.image(images[:2])
        return found

    monkeypatch.setattr(torch, "equal", equal_then_another_thread)
    torch.testing.assert_close(tower.image(images[2:4]), mine)
    assert not torch.allclose(mine, other, atol=1e-3)


def test_texts_that_another_thread_evicts_meanwhile_are_encoded_again(
    tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["a red circle", "a blue square", "the star", "photo"]
    expected = tower.text(prompts)
    monkeypatch.setattr(towers, "TEXT_CACHE", 1)
    for kept in (prompts[:1], prompts):
        tower._texts = Contended(zip(kept, tower.text(kept), strict=True))
        torch.testing.assert_close(tower.text(prompts), expected)


def test_pickscores_texts_that_another_thread_evicts_meanwhile_are_encoded_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, images: Tensor
) -> None:
    prompts = ["a red circle", "a blue square", "the star", "photo"]
    pick = PickScore(write_pickscore(tmp_path / "pickscore"))
    expected = pick(images[:4], prompts)
    kept = dict(pick._texts)
    monkeypatch.setattr(picks, "TEXT_CACHE", 1)
    for count in (1, 4):
        pick._texts = Contended(list(kept.items())[:count])
        torch.testing.assert_close(pick(images[:4], prompts), expected)
