"""Noise repair against its definition: both norms in every block, the nearest noise that has them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from samplers import NoiseSpace
from samplers.repair import BLOCK, repaired, whiteness
from samplers.space import seeded_noise
from tiny.samplers import flow_space

SIZES = st.sampled_from([4, 5, 7, 33, 48, 63, 64, 65, 96, 1024, 1025, 4096])


def white(size, seed=0):
    return np.random.default_rng(seed).standard_normal(size)


def blocks(noise):
    """Magnitudes of the packed coefficients, by blocks: 16 each, the last one with the rest."""
    f = np.fft.rfft(noise.ravel(), norm="ortho")
    if noise.size % 2 == 0:
        f = np.concatenate([[(f[0].real + 1j * f[-1].real) / math.sqrt(2)], f[1:-1]])
    else:
        assert abs(f[0]) == pytest.approx(1, abs=1e-9), "an odd size has its mean by itself"
        f = f[1:]
    magnitudes, cut = np.abs(f), max(len(f) // BLOCK - 1, 0) * BLOCK
    return [*magnitudes[:cut].reshape(-1, BLOCK), magnitudes[cut:]]


def cosine(one, other):
    return float((one * other).sum() / math.sqrt(np.square(one).sum() * np.square(other).sum()))


@settings(max_examples=60, deadline=None)
@given(size=SIZES, seed=st.integers(0, 1000), scale=st.floats(0.01, 100), power=st.sampled_from([1, 3]))
def test_every_block_has_the_norms_of_white_noise_and_what_is_repaired_stays(size, seed, scale, power):
    noise = scale * white(size, seed) ** power
    found = repaired(noise)
    for block in blocks(found):
        assert np.square(block).sum() == pytest.approx(len(block), abs=1e-8)
        assert block.sum() == pytest.approx(len(block) * math.sqrt(math.pi) / 2, abs=1e-8)
    assert np.square(found).sum() / size == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(repaired(found), found, atol=1e-9)
    np.testing.assert_allclose(repaired(3 * noise), found, atol=1e-9)
    assert whiteness(noise) == pytest.approx(cosine(noise, found), abs=1e-9)
    assert whiteness(found) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_nearest_noise_that_has_them(seed):
    """One block, against the threshold that a root finder gives, and against other noises with the same norms."""
    size, norm = 2 * 24, 24 * math.sqrt(math.pi) / 2
    noise = white(size, seed) ** (1 + 2 * (seed % 2))
    found = repaired(noise)
    (given_block,), (block,) = blocks(noise), blocks(found)

    def ratio(threshold):
        above = np.maximum(given_block - threshold, 0)
        return above.sum() ** 2 / np.square(above).sum() - 24 * math.pi / 4

    threshold = brentq(ratio, given_block.max() - 1e5, given_block.max() * (1 - 1e-9), xtol=1e-13, maxiter=500)
    above = np.maximum(given_block - threshold, 0)
    np.testing.assert_allclose(block, norm * above / above.sum(), atol=1e-5)
    for other in range(50):
        assert cosine(noise, repaired(white(size, 1000 + other))) < cosine(noise, found)
        assert cosine(noise, repaired(noise + 0.3 * white(size, 1000 + other))) <= cosine(noise, found) + 1e-12


def test_white_noise_is_near_and_what_was_averaged_is_not():
    noise = white((4, 64, 64))
    assert whiteness(noise) == pytest.approx(0.989, abs=0.001) == whiteness(7 * noise)
    for axis in (1, 2):
        assert whiteness(noise + np.roll(noise, 1, axis)) == pytest.approx(0.896, abs=0.006)
    # A constant has one coefficient; in its block of 16 the nearest with both norms is a, and 15 equal ones.
    b, norm = 16, 16 * math.sqrt(math.pi) / 2
    a = (norm + math.sqrt(norm**2 - 16 * (norm**2 - 15 * b))) / 16
    assert whiteness(np.ones(64)) == pytest.approx(2 * math.sqrt(32) * a / 64)
    assert whiteness(np.zeros(64)) == 0


@pytest.mark.parametrize(
    ("noise", "message"),
    [(np.ones(64), "largest ones are equal"), (np.ones(3), "at least 4"), (np.array([1.0, np.nan] * 4), "all finite")],
)
def test_what_has_no_nearest_noise_is_refused(noise, message):
    with pytest.raises(ValueError, match=message):
        repaired(noise)


def test_the_move_repairs_row_by_row_and_is_recorded():
    space = NoiseSpace((3, 8, 8), ("channel", "height", "width"), (0.0, 1.0), (1.0, 0.0))
    rows = space.mean([space.fresh([1, 2, 3]), space.fresh([4, 5, 6])])
    together, alone = space.repair(rows), space.repair(rows[2])
    assert torch.equal(together.x[2], alone.x[0]) and together.recipes[2] == alone.recipes[0]
    np.testing.assert_allclose(together.x[0].numpy(), repaired(rows.x[0].double().numpy()), atol=1e-6)
    assert together.recipes[0].last["op"] == "repair" and together.recipes[0].before == rows.recipes[0]
    assert torch.equal(space.noise(together.recipes[1]).x[0], together.x[1])
    assert len(space.repair(rows[[]])) == 0
    assert together.recipes[0].seed is None


def test_repair_changes_little_of_a_fresh_noise():
    space = flow_space(6, (4, 32, 32))
    fresh = space.fresh([7])
    moved = space.repair(fresh)
    assert cosine(fresh.x.double().numpy(), moved.x.double().numpy()) > 0.985
    assert torch.equal(fresh.x[0], seeded_noise(7, (4, 32, 32))), "moves never write to what they are given"
