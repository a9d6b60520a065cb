"""The tiny CLIP, written once per session."""

import pytest
import torch

from tiny.clip import write_tiny_clip
from tiny.fake_hub import FakeHub


@pytest.fixture(scope="session")
def clip_directory(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def images():
    """Five different images with large structure, 40 x 48, in [0, 1]."""
    coarse = torch.rand(5, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(40, 48), mode="bilinear")


@pytest.fixture
def prompts():
    return ["a red circle", "a blue square", "", "the star above a circle", "a red circle"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of an offline hub."""
    return FakeHub(tmp_path / "hub", monkeypatch)
