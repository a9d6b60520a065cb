"""Noise statistics against closed forms: fields whose numbers are known, and white noise itself."""

import math

import pytest
import torch
from scipy.stats import chi2

from noise_search.diagnosis.noise import LEAST_WHITENESS, NORM_LIMIT, RISK, noise_checks
from samplers.space import seeded_noise

AXES = ("channel", "height", "width")
SHAPE = (4, 16, 16)
NORM, MEANS, WHITE = "|x|^2 / D", "channel means", "cosine to repaired noise"
LAGS = ("lag-1 correlation along height", "lag-1 correlation along width")
LOWEST = "power 0 to 0.0625 cycles/pixel"
HIGHEST = "power above 0.25 cycles/pixel"


def checks(noise, axes=AXES):
    return {one.name: one for one in noise_checks(noise, axes)}


def failed(noise):
    return {one.name for one in noise_checks(noise, AXES) if not one.passed}


def degrees(check):
    """Degrees of freedom of a chi-square over its own number, from its z-score."""
    return round(2 * (check.z / (check.value - 1)) ** 2)


@pytest.mark.parametrize("shape", [SHAPE, (3, 20, 24)])
def test_white_noise_passes_all_checks_in_99_of_100_draws(shape):
    passed = sum(all(one.passed for one in noise_checks(seeded_noise(seed, shape), AXES)) for seed in range(500))
    assert passed >= 495


def test_z_scores_of_white_noise_have_mean_0_and_variance_1():
    drawn = [checks(seeded_noise(seed, SHAPE)) for seed in range(500)]
    for name in drawn[0]:
        z = torch.tensor([one[name].z for one in drawn])
        assert abs(float(z.mean())) < 4 / math.sqrt(500), name
        assert float(z.var()) == pytest.approx(1, abs=0.25), name


def test_tails_are_those_of_the_chi_square():
    found = checks(seeded_noise(3, SHAPE))
    for name in (NORM, HIGHEST, LOWEST, MEANS):
        one = found[name]
        law = chi2(degrees(one))
        total = one.value * degrees(one)
        assert one.tail == pytest.approx(2 * min(law.cdf(total), law.sf(total)), rel=1e-9)


def test_the_octaves_and_the_means_share_out_all_of_the_norm():
    noise = seeded_noise(5, (3, 12, 20))
    found = checks(noise)
    shares = [one for name, one in found.items() if name.startswith("power") or name == MEANS]
    assert sum(map(degrees, shares)) == noise.numel()
    assert sum(one.value * degrees(one) for one in shares) == pytest.approx(float(noise.double().square().sum()))


def test_a_constant_field():
    found = checks(torch.ones(SHAPE))
    assert found[NORM].value == 1 and found[NORM].z == 0
    assert [found[name].value for name in LAGS] == [15 / 16, 15 / 16]
    assert found[LAGS[0]].z == pytest.approx(15 / 16 / math.sqrt(4 * 15 * 16 / (1024 * 1026)))
    assert found[MEANS].value == pytest.approx(256) and found[MEANS].parts == (1, 1, 1, 1)
    assert all(one.value == pytest.approx(0, abs=1e-12) for name, one in found.items() if name.startswith("power"))


def test_a_checkerboard_has_its_power_in_the_highest_octave():
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    found = checks(board.expand(SHAPE))
    assert [found[name].value for name in LAGS] == [-15 / 16, -15 / 16]
    assert found[HIGHEST].value == pytest.approx(1024 / degrees(found[HIGHEST]))
    assert found[LOWEST].value == pytest.approx(0, abs=1e-12)


def test_one_slow_wave_has_its_power_in_the_lowest_octave():
    wave = math.sqrt(2) * torch.cos(2 * math.pi * torch.arange(16) / 16)
    found = checks(wave.expand(SHAPE))
    assert degrees(found[LOWEST]) == 16, "four frequencies in each of four channels"
    assert found[LOWEST].value == pytest.approx(1024 / 16, rel=1e-5)
    assert found[LAGS[0]].value == pytest.approx(15 / 16, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_each_fault_fails_its_own_check(seed):
    noise = seeded_noise(seed, SHAPE)
    assert failed(noise) == set()
    assert {NORM, HIGHEST} <= failed(1.2 * noise) and WHITE not in failed(1.2 * noise)
    assert NORM in failed(0.8 * noise)
    assert MEANS in failed(noise + 0.3)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(noise[None], (1, 1, 1, 1), "circular"), 3, 1)[0]
    blurred *= (noise.numel() / blurred.square().sum()).sqrt()
    assert {*LAGS, HIGHEST, WHITE} <= failed(blurred) and NORM not in failed(blurred)


def test_scale_moves_no_correlation_and_a_shift_no_octave():
    noise = seeded_noise(1, SHAPE)
    plain, scaled, shifted = checks(noise), checks(1.5 * noise), checks(noise + 0.3)
    for name in LAGS:
        assert scaled[name].value == pytest.approx(plain[name].value)
    for name in plain:
        if name.startswith("power"):
            assert shifted[name].value == pytest.approx(plain[name].value, rel=1e-5)


def test_the_norm_is_held_to_three_deviations_and_the_others_share_one_risk():
    assert pytest.approx(0.0026998, rel=1e-4) == RISK
    edge = NORM_LIMIT * math.sqrt(2 / 1024)
    noise = seeded_noise(0, SHAPE).double()
    noise *= (1024 / noise.square().sum()).sqrt()
    assert checks(noise * math.sqrt(1 + edge - 1e-6))[NORM].passed
    assert not checks(noise * math.sqrt(1 + edge + 1e-6))[NORM].passed
    found = checks(seeded_noise(0, SHAPE))
    assert found[WHITE].passed == (found[WHITE].value >= LEAST_WHITENESS)
    others = [one for name, one in found.items() if name not in (NORM, WHITE)]
    assert all(one.passed == (one.tail >= RISK / len(others)) for one in others)


def test_only_what_the_axes_allow_is_checked():
    assert checks(seeded_noise(0, (64, 8)), ("token", "channel")).keys() == {NORM, MEANS}
    assert checks(seeded_noise(0, (128, 8)), ("token", "channel")).keys() == {NORM, WHITE, MEANS}
    clip = seeded_noise(0, (4, 3, 16, 16))
    assert checks(clip, ("channel", "frame", "height", "width")).keys() == checks(clip[:, 0]).keys()
    with pytest.raises(ValueError, match="one axis per name"):
        noise_checks(torch.zeros(4, 4), AXES)
    with pytest.raises(ValueError, match="not finite"):
        noise_checks(torch.full(SHAPE, torch.nan), AXES)
