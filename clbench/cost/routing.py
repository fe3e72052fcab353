"""Accuracy of the router that picks an adapter for a query, and the failure rates published for each system. Pure.

Source: arXiv 2605.25378, deployment over 200 queries (accuracy); failure rates from `clbench.published`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from clbench.published import MAIN_RESULTS
from clbench.registry import ClbenchError

PAPER_ACCURACY = {1: 1.0, 10: 0.99, 20: 0.94, 50: 0.87, 100: 0.85, 150: 0.76}
"""Choices -> accuracy as published; one choice needs no router."""
PAPER_BCR = {name: MAIN_RESULTS[name].bcr for name in ("teacher", "cascade", "collection")}
PAPER_BCR["copies"] = PAPER_BCR["cascade"]
"""Published share of outputs judged bad; `copies` are the cascade's LoRAs fused in, so they make the same pictures."""
PAPER_LOAD_SECONDS = 1.2
"""Published seconds to load one adapter from disk."""
PAPER_LOAD_BYTES = 2_359_296_000
"""Of that adapter: rank 128 on the paper's modules in bfloat16."""


@dataclass(frozen=True)
class Router:
    """Accuracy by number of choices: `fixed` for any number above one, else linear between the points of `curve`."""

    fixed: float | None = None
    curve: Mapping[int, float] = field(default_factory=lambda: PAPER_ACCURACY)

    def __post_init__(self) -> None:
        if self.fixed is not None and not 0 <= self.fixed <= 1:
            raise ClbenchError(f"router accuracy must lie in [0, 1], not {self.fixed}")

    def accuracy(self, choices: int) -> float:
        """In [0, 1]; beyond the last point of the curve its last value (see `beyond`)."""
        if choices <= 1:
            return 1.0
        if self.fixed is not None:
            return self.fixed
        return float(np.interp(choices, list(self.curve), list(self.curve.values())))

    def beyond(self, choices: int) -> bool:
        """Whether `choices` lies past the last published point, so that the accuracy is an upper guess."""
        return self.fixed is None and choices > max(self.curve)
