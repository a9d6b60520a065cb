import pytest
import torch


@pytest.fixture(autouse=True)
def global_randomness_untouched():
    """No test of this folder may change torch's global generator: samplers never draw from it."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), "the global torch generator was used"
