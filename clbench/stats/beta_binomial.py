"""A share with its interval when some effects show one outcome only: the beta-binomial model.

Each effect has a rate of its own, drawn from a beta distribution; its successes are binomial. The share is the mean of
that distribution; the correlation of two cases of one effect is integrated out. Priors: Beta(3/4, 3/4) for the share,
half way between Jeffreys' and the uniform one and chosen by simulated coverage; uniform for the standard deviation
between effects (Gelman, Bayesian Analysis 1, 2006). Equal tails; at 0 and 1 the interval ends there.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import betaln

from clbench.stats.nested import Bounds

SHARES, CORRELATIONS = 256, 16
"""Grid of the posterior: values of the share, and of the correlation within an effect."""


def model_interval(
    means: Float64[np.ndarray, " k"], sources: Int64[np.ndarray, " k"], level: float = 0.95
) -> tuple[float, float]:
    """Interval of a share from its effect means ``(K,)``, K >= 2, and sources per effect; holds the plain share."""
    kinds, repeats = np.unique(np.stack([means * sources, sources]), axis=1, return_counts=True)
    likelihood = np.einsum("r,rg->g", repeats.astype(np.float64), _log_likelihood(*kinds))
    low, high = _bounds(likelihood[None], np.array([means.mean()]), level)
    return float(low[0]), float(high[0])


def model_intervals(successes: Int64[np.ndarray, "b k"], sources: int, level: float = 0.95) -> Bounds:
    """`model_interval` for B tables at once: `successes` ``(B, K)`` out of `sources` each -> bounds ``(B,)``."""
    tables, rows = len(successes), np.arange(len(successes))[:, None] * (sources + 1)
    histogram = np.bincount((successes + rows).ravel(), minlength=tables * (sources + 1)).reshape(tables, -1)
    counts = np.arange(sources + 1.0)
    likelihood = histogram @ _log_likelihood(counts, np.full(sources + 1, float(sources)))
    return _bounds(likelihood, successes.mean(axis=1) / sources, level)


def _log_likelihood(successes: Float64[np.ndarray, " r"], sources: Float64[np.ndarray, " r"]) -> Float64[np.ndarray, "r g"]:
    """Beta-binomial log likelihood ``(R, G)`` of R effects on the grid, up to terms without parameters.

    Shares are sin^2 of even angles (uniform in Jeffreys' prior), correlations are squares of even steps.
    """
    share = _middles()[:, None]
    correlation = ((np.arange(CORRELATIONS) + 0.5) / CORRELATIONS) ** 2
    strength = 1 / correlation - 1
    a, b = (share * strength).ravel(), ((1 - share) * strength).ravel()
    won, lost = successes[:, None], (sources - successes)[:, None]
    return betaln(a + won, b + lost) - betaln(a, b)


def _bounds(likelihood: Float64[np.ndarray, "b g"], shares: Float64[np.ndarray, " b"], level: float) -> Bounds:
    """Quantiles ``(B,)`` of the share from log likelihoods ``(B, G)``, widened to hold `shares` ``(B,)``."""
    weights = np.exp(likelihood - likelihood.max(axis=1, keepdims=True)).reshape(len(likelihood), SHARES, CORRELATIONS)
    share = _middles()
    below = np.cumsum(weights.sum(axis=2) * (share * (1 - share)) ** 0.25, axis=1)  # Jeffreys' -> Beta(3/4, 3/4)
    below = np.concatenate([np.zeros((len(below), 1)), below / below[:, -1:]], axis=1)
    low, high = (_quantile(below, q) for q in ((1 - level) / 2, (1 + level) / 2))
    low, high = np.where(shares <= 0, 0.0, low), np.where(shares >= 1, 1.0, high)
    return np.minimum(low, shares), np.maximum(high, shares)


def _quantile(below: Float64[np.ndarray, "b edges"], q: float) -> Float64[np.ndarray, " b"]:
    """Where rows of `below` ``(B, SHARES + 1)``, cumulative over even angles, reach `q`; as a share."""
    rows = np.arange(len(below))
    left = (below[:, 1:] < q).sum(axis=1)
    low, high = below[rows, left], below[rows, left + 1]
    return _share(left + (q - low) / (high - low))


def _middles() -> Float64[np.ndarray, " shares"]:
    """The shares ``(SHARES,)`` of the grid."""
    return _share(np.arange(0.5, SHARES, dtype=np.float64))


def _share(place: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """The share at `place` in 0..SHARES of the grid."""
    return np.sin(place / SHARES * np.pi / 2) ** 2
