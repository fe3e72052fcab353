"""The random draws of a figure: the same wherever it is shown, so that one mean or difference has one interval and one p."""

from __future__ import annotations

import numpy as np

from clbench.types import seed_from


def draws_for(what: str, metric: str) -> np.random.Generator:
    """The generator for `what` (estimate, difference, ratio, area, break-even) of a metric, a new one for each call.

    One for each metric and not for each system: equal scores of two systems get equal intervals.
    """
    return np.random.default_rng(seed_from("report", what, metric))
