"""Noise repair: the nearest noise whose spectrum is as white as white noise's (WGNC, arXiv 2602.08646).

A noise of n numbers, flattened, has n / 2 complex Fourier coefficients y under the orthonormal transform. Those of
white noise have E|y|^2 = 1 and E|y| = sqrt(pi) / 2. Every block of b of them is brought to exactly these norms,

    sum |y|^2 = b,   sum |y| = b sqrt(pi) / 2,

by the nearest magnitudes that have both; phases stay. It draws nothing, and what is repaired already stays.
"""

import math

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Coefficients of a block, the paper's; the last block takes the rest, and has up to 31."""
LEAST = 4
"""Numbers that a noise needs: a single coefficient can't have both norms."""

_MEAN_MAGNITUDE = math.sqrt(math.pi) / 2

Values = NDArray[np.float64]
Coefficients = NDArray[np.complex128]


def repaired(noise: Values) -> Values:
    """The nearest noise whose blocks of coefficients have the norms of white noise, so that |x|^2 = n exactly.

    An even size pairs its two real coefficients, as the real and the imaginary part of one. An odd size has only one,
    the mean's, which is brought to magnitude 1 by itself.

    Args:
        noise: float64, of any shape and scale.

    Raises:
        ValueError: fewer than 4 numbers, one that isn't finite, or a block without a nearest noise: its largest
            magnitudes are equal, as in a constant, where none is above the others.
    """
    coefficients, mean = _coefficients(noise)
    magnitudes = np.abs(coefficients)
    near = np.concatenate([_nearest(rows).ravel() for rows in _blocks(magnitudes)])
    if np.isnan(near).any():
        raise ValueError(
            f"the noise can't be repaired: {np.isnan(near).sum()} of its {len(near)} Fourier coefficients are in "
            "blocks whose largest ones are equal, as a constant's are: draw it fresh"
        )
    turned = np.exp(1j * np.angle(coefficients)) * near
    return _noise(turned, mean, noise.shape)


def whiteness(noise: Values) -> float:
    """The cosine of a noise to what repairs it, in [0, 1]: .989 of white noise, less where its spectrum is coloured.

    Its scale doesn't matter. Raises ValueError as `repaired` does, but for blocks without one nearest noise, whose
    nearest ones are equally near.
    """
    coefficients, mean = _coefficients(noise)
    magnitudes = np.abs(coefficients)
    inner, size = abs(mean or 0.0), float(np.square(noise).sum())
    for rows in _blocks(magnitudes):
        near, largest = _nearest(rows), rows.max(1, keepdims=True)
        # Without one nearest noise, any on the largest magnitudes alone has this product with the block.
        tied = largest[:, 0] * rows.shape[1] * _MEAN_MAGNITUDE
        inner += 2 * float(np.where(np.isnan(near[:, 0]), tied, np.nansum(near * rows, 1)).sum())
    return inner / math.sqrt(size * noise.size) if size else 0.0


def _coefficients(noise: Values) -> tuple[Coefficients, float | None]:
    """The complex coefficients, n / 2 of them rounded down, and of an odd size the mean's."""
    if noise.size < LEAST or not np.isfinite(noise).all():
        raise ValueError(f"a noise to be repaired has at least {LEAST} numbers, all finite, got {noise.size}")
    # numpy's own transform: torch's differs with the library that it was built with.
    f = np.fft.rfft(noise.ravel(), norm="ortho")
    if noise.size % 2:
        return f[1:], float(f[0].real)
    paired = (f[0].real + 1j * f[-1].real) / math.sqrt(2)
    return np.concatenate([[paired], f[1:-1]]), None


def _noise(y: Coefficients, mean: float | None, shape: tuple[int, ...]) -> Values:
    """What has these coefficients; a `mean` of an odd size is brought to magnitude 1."""
    if mean is not None:
        f = np.concatenate([[math.copysign(1.0, mean)], y])
    else:
        f = np.concatenate([[y[0].real * math.sqrt(2)], y[1:], [y[0].imag * math.sqrt(2)]])
    return np.fft.irfft(f, n=math.prod(shape), norm="ortho").reshape(shape)


def _blocks(magnitudes: Values) -> list[Values]:
    """Rows of 16, and the last block, which takes the rest, as a row by itself."""
    whole = max(len(magnitudes) // BLOCK - 1, 0) * BLOCK
    parts = [magnitudes[:whole].reshape(-1, BLOCK), magnitudes[whole:][None]]
    return [one for one in parts if one.size]


def _nearest(rows: Values) -> Values:
    """The nearest magnitudes with both norms, row by row; NaN in a row whose largest are too many and equal.

    They are proportional to relu(w - lam). With k of them above lam, (sum relu)^2 / sum relu^2 = pi b / 4 gives

        lam = (S1 - u) / k,   u^2 = (pi b / 4) (k S2 - S1^2) / (k - pi b / 4),

    S1 and S2 the sums of the k largest and of their squares, and the right k is the last whose smallest is above it.
    """
    b = rows.shape[1]
    ratio, k = math.pi * b / 4, np.arange(1, b + 1)
    largest = rows.max(1, keepdims=True)
    w = -np.sort(largest - rows, 1)  # less the largest, so that nothing cancels in k S2 - S1^2
    s1, s2 = w.cumsum(1), np.square(w).cumsum(1)
    usable = k > ratio
    u = np.sqrt(ratio * np.maximum(k * s2 - s1**2, 0) / np.where(usable, k - ratio, 1))
    lam = (s1 - u) / k
    confirmed = usable & (lam < w)
    chosen = b - 1 - confirmed[:, ::-1].argmax(1)[:, None]
    above = np.maximum(rows - largest - np.take_along_axis(lam, chosen, 1), 0)
    total = above.sum(1, keepdims=True)
    known = confirmed.any(1, keepdims=True) & (total > 0)
    return np.where(known, _MEAN_MAGNITUDE * b * above / np.where(known, total, 1), np.nan)
