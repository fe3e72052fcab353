"""Queries, switches of adapter and loads of a cache: independent queries of fixed popularity, steady state. Pure.

Sources: Che, Tung and Wang, "Hierarchical web caching systems" (2002), for the LRU approximation; it is exact for
equal popularity. The tests hold it against `simulate`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clbench.registry import ClbenchError


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts over `queries`: `switches` ask for another item than the query before, `loads` miss the cache."""

    queries: int
    switches: int
    loads: int


def popularity(items: int, exponent: float = 0.0) -> np.ndarray:
    """Zipf: the share of the i-th most asked item is proportional to i^-exponent, ``(items,)``; 0 is uniform."""
    if items < 1 or not 0 <= exponent < 20:
        raise ClbenchError(f"a query mix needs at least one effect and an exponent in [0, 20), not {items} and {exponent}")
    weights = np.arange(1, items + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def dealt(shares: np.ndarray, hands: int) -> np.ndarray:
    """Shares of `hands` adapters when effects are dealt to them in turn, ``(hands,)``."""
    return np.asarray([shares[hand::hands].sum() for hand in range(hands)])


def switch_rate(shares: np.ndarray) -> float:
    """Probability that a query asks for another item than the one before: 1 - sum p^2; exact."""
    return float(max(0.0, 1.0 - np.square(shares).sum()))


def lru_miss_rate(shares: np.ndarray, slots: int) -> float:
    """Share of queries that find their item outside an LRU cache of `slots` items, after it has filled.

    Exact for equal shares (1 - slots / items) and for one slot; else Che's approximation.
    """
    if slots < 1:
        raise ClbenchError(f"a cache needs at least one slot, not {slots}")
    items = len(shares)
    if slots >= items:
        return 0.0
    if np.allclose(shares, 1 / items, rtol=1e-12, atol=0):
        return 1.0 - slots / items
    if slots == 1:
        return switch_rate(shares)
    absent = np.exp(-shares * _characteristic_time(shares, slots))
    return float((shares * absent).sum())


def _characteristic_time(shares: np.ndarray, slots: int) -> float:
    """The time t at which `slots` different items are expected to have been asked for: sum(1 - e^(-p t)) = slots."""
    low, high = 0.0, 1.0
    while -np.expm1(-shares * high).sum() < slots:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if -np.expm1(-shares * middle).sum() < slots else (low, middle)
    return high


def draw_queries(shares: np.ndarray, queries: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of the items asked for, ``(queries,)``."""
    return rng.choice(len(shares), size=queries, p=shares)


def count(sequence: Sequence[int], slots: int, warm: int = 0) -> Traffic:
    """Run an LRU of `slots` over a sequence; the first `warm` queries fill the cache and are not counted."""
    cache: OrderedDict[int, None] = OrderedDict()
    switches = loads = 0
    for position, item in enumerate(sequence):
        counted = position >= warm
        switches += counted and position > 0 and item != sequence[position - 1]
        loads += counted and item not in cache
        cache[item] = None
        cache.move_to_end(item)
        if len(cache) > slots:
            cache.popitem(last=False)
    return Traffic(len(sequence) - warm, int(switches), int(loads))


def simulate(shares: np.ndarray, slots: int, queries: int, rng: np.random.Generator) -> Traffic:
    """`queries` random queries against an LRU of `slots` that as many queries have warmed up."""
    return count(draw_queries(shares, 2 * queries, rng).tolist(), slots, warm=queries)
