"""The order of aggregation: seeds within a source, sources within an effect, effects with equal weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

Bounds = tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]
"""Lower and upper bounds of B intervals."""
NO_VARIATION = 1e-12


@dataclass(frozen=True, slots=True)
class EffectMeans:
    """Per-effect means of one metric: labels, means and number of sources behind each, all ``(K,)``."""

    labels: tuple[str, ...]
    means: Float64[np.ndarray, " k"]
    sources: Int64[np.ndarray, " k"]


def effect_means(values: ArrayLike, effects: Sequence[str], sources: Sequence[str]) -> EffectMeans:
    """Nested means of `values` ``(N,)``: seeds -> sources -> effects; NaN values are left out.

    Effects come back sorted by label; an effect without a finite value is absent.
    """
    numbers = np.asarray(values, dtype=np.float64)
    kept = np.isfinite(numbers)
    if not kept.any():
        return EffectMeans((), np.empty(0), np.empty(0, dtype=np.int64))
    labels, effect = np.unique(np.asarray(effects, dtype=str)[kept], return_inverse=True)
    _, source = np.unique(np.asarray(sources, dtype=str)[kept], return_inverse=True)
    cells, cell = np.unique(effect.astype(np.int64) * (int(source.max()) + 1) + source, return_inverse=True)
    cell_means = np.bincount(cell, numbers[kept]) / np.bincount(cell)
    cell_effect = cells // (int(source.max()) + 1)
    counts = np.bincount(cell_effect, minlength=len(labels))
    means = np.bincount(cell_effect, cell_means, minlength=len(labels)) / counts
    return EffectMeans(tuple(str(label) for label in labels), means, counts)
