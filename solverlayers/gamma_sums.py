"""The law of `X = sum_{j=1..terms} Gamma(shape 1/k, scale 1/j)`, by numerical inversion of its Laplace transform.

The transform `L(u) = prod_j (1 + u/j)^(-1/k)` is analytic off the half-line `u <= -1`. Density and survival function are
contour integrals of `exp(u x) L(u)`, taken along the parabola around that half-line that crosses the real axis at the saddle
point of the integrand; the trapezoidal rule converges geometrically on it (Weideman & Trefethen, Math. Comp. 2007), in both
tails relative to the value itself. Relative error about 1e-12, in milliseconds.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

_LOWEST = -21.0
"""The smallest `log x` tabulated: below, `x` is less than a billionth of the scale, and a sample may as well be zero."""
_NEGLIGIBLE = -42.0
"""The logarithm of a probability that no double-precision uniform number resolves."""


class Spline(NamedTuple):
    """A cubic spline on a uniform grid: `sum_n coefficients[i, n] (x - start - i spacing)^n` in cell `i`."""

    start: float
    spacing: float
    coefficients: np.ndarray


class Quantiles(NamedTuple):
    """`x` at the probabilities `1 / (1 + exp(-t))`, for `t = start + i spacing`."""

    start: float
    spacing: float
    values: np.ndarray


@lru_cache(maxsize=64)
def log_density(k: int, terms: int, points: int = 1024) -> Spline:
    """`log p(x) + x` as a function of `log x`: nearly linear at both ends, so a spline that goes on linearly fits."""
    log_x = np.linspace(*_range(k, terms), points)
    return _spline(float(log_x[0]), float(log_x[1] - log_x[0]), _log_density(log_x, k, terms) + np.exp(log_x))


@lru_cache(maxsize=64)
def quantiles(k: int, terms: int, points: int = 4096) -> Quantiles:
    """The quantile function on a uniform grid of the log-odds of the probability, in which both of its tails are smooth."""
    coarse = np.linspace(*_range(k, terms), 512)
    spline = _spline(coarse[0], coarse[1] - coarse[0], _log_odds(coarse, k, terms))
    log_x = np.linspace(coarse[0], coarse[-1], 4 * points)
    t = np.linspace(-37.0, 37.0, points)  # all that a uniform number in double precision can reach
    return Quantiles(float(t[0]), float(t[1] - t[0]), np.exp(np.interp(t, _evaluate(spline, log_x), log_x)))


def quantile(k: int, terms: int, log_odds: np.ndarray) -> np.ndarray:
    """`x` at the probabilities `1 / (1 + exp(-log_odds))`, with a relative error of about 1e-6."""
    start, spacing, values = quantiles(k, terms, points=1 << 14)
    return np.exp(np.interp(log_odds, start + spacing * np.arange(len(values)), np.log(values)))


def _range(k: int, terms: int) -> tuple[float, float]:
    """The interval of `log x` outside of which there is no probability to speak of."""
    log_x = np.linspace(_LOWEST, math.log(45.0 + math.log(terms)), 64)
    likely = _log_density(log_x, k, terms) + log_x > _NEGLIGIBLE
    return float(log_x[max(int(likely.argmax()) - 1, 0)]), float(log_x[-1])


def _log_transform(v: np.ndarray, k: int, terms: int) -> np.ndarray:
    """`log L(v - 1)`; principal logarithms are right, since the contour stays off the cut."""
    total = np.zeros_like(v)
    for j in range(1, terms + 1):
        total -= np.log((v + (j - 1)) / j)
    return total / k


def _contour(log_x: np.ndarray, k: int, terms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points `v = u + 1` and weights of the parabola for each `x`, and `log(exp(u x) L(u))` at them.  # each (X, N)"""
    x = np.exp(log_x)
    saddle = np.logspace(-18, 14, 2048)  # where x = -L'(u)/L(u) for some x on a fine grid; inverted by interpolation
    x_of_saddle = np.sum([1 / (saddle + j) for j in range(terms)], 0) / k
    reach = x * np.exp(np.interp(log_x, np.log(x_of_saddle[::-1]), np.log(saddle[::-1])))
    reach = np.maximum(reach, 4.0)[:, None]  # v x where the contour crosses; nearer to the cut it would need more points
    y = np.arange(25) * _spacing(reach)  # the other half is its mirror image
    root = 1 + 1j * y
    v = reach * root**2 / x[:, None]
    weights = 2 * y[:, 1:2] / np.pi * reach * root / x[:, None]  # dv / (2 pi i), for both halves
    weights[:, 0] /= 2
    return v, weights, (v - 1) * x[:, None] + _log_transform(v, k, terms)


def _spacing(reach: np.ndarray) -> np.ndarray:
    """Of the points along the parabola: 24 of them reach the end of the integrand, of half-width `reach^(-1/2)`."""
    return np.minimum(0.14, 0.33 / np.sqrt(reach))


def _integral(exponent: np.ndarray, integrand: np.ndarray) -> np.ndarray:
    """The logarithm of `sum_n exp(exponent) integrand`, over each row."""
    peak = exponent[:, 0].real  # at the crossing of the real axis
    return peak + np.log((np.exp(exponent - peak[:, None]) * integrand).real.sum(1))


def _log_density(log_x: np.ndarray, k: int, terms: int) -> np.ndarray:
    _, weights, exponent = _contour(log_x, k, terms)
    return _integral(exponent, weights)


def _log_odds(log_x: np.ndarray, k: int, terms: int) -> np.ndarray:
    """`log(F / (1 - F))`, each tail from its own integral."""
    v, weights, exponent = _contour(log_x, k, terms)
    x = np.exp(log_x)[:, None]
    # the transform of 1 - F is (1 - L(u)) / u, without a pole at u = 0
    survival = ((np.exp((v - 1) * x) - np.exp(exponent)) / (v - 1) * weights).real.sum(1)
    # the transform of F has that pole: it serves where the contour crosses well to the right of it, in units of the spacing
    lower = 1 - 1 / np.sqrt(np.maximum(v[:, 0].real, 1)) > 4.5 * _spacing(v[:, 0].real * x[:, 0])
    with np.errstate(invalid="ignore", divide="ignore"):  # in the tail where each is not used
        log_below = np.where(lower, _integral(exponent, weights / (v - 1)), np.log1p(-survival))
        log_above = np.where(lower, np.log1p(-np.exp(log_below)), np.log(survival))
    return log_below - log_above


def _spline(start: float, spacing: float, values: np.ndarray) -> Spline:
    """The natural cubic spline through `values`."""
    n = len(values)
    curvature = np.zeros(n)
    right = 6 / spacing**2 * (values[2:] - 2 * values[1:-1] + values[:-2])
    diagonal = np.full(n - 2, 4.0)
    for i in range(1, n - 2):  # Thomas's algorithm for the system (1, 4, 1)
        diagonal[i] -= 1 / diagonal[i - 1]
        right[i] -= right[i - 1] / diagonal[i - 1]
    for i in range(n - 3, -1, -1):
        curvature[i + 1] = (right[i] - curvature[i + 2]) / diagonal[i]
    slope = np.diff(values) / spacing - spacing / 6 * (2 * curvature[:-1] + curvature[1:])
    return Spline(start, spacing, np.stack([values[:-1], slope, curvature[:-1] / 2, np.diff(curvature) / (6 * spacing)], 1))


def _evaluate(spline: Spline, at: np.ndarray) -> np.ndarray:
    cell = np.clip(((at - spline.start) / spline.spacing).astype(int), 0, len(spline.coefficients) - 1)
    offset = at - spline.start - cell * spline.spacing
    c = spline.coefficients[cell].T
    return c[0] + offset * (c[1] + offset * (c[2] + offset * c[3]))
