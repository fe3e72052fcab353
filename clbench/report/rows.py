"""Score frames -> means with intervals, for the sections about probes, compositions, steps and candidates.

A frame holds rows of scores.parquet of one or several runs (`clbench.results.read_all_scores`). Where systems were asked for
several numbers of steps, its column `made` says which rows are at the number that their system is made for (`as_made`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from clbench import stats
from clbench.metrics.derived import SHARES, scale_of
from clbench.report.cells import MISSING, Cell, interval, metric_value
from clbench.stats import Estimate

Frame = Any
"""A pandas DataFrame: pandas' own types make a union of every selection, which says nothing to a reader."""
LAST = -1e300
"""Missing values sort below every number."""
"""Of the bootstrap: the same frame gives the same bytes."""


def as_made(rows: Frame) -> Frame:
    """Those of `rows` at the number of steps that their system is made for: a mean over several numbers is of no system.

    All of them where there is no column `made`, as in the scores of a suite that leaves steps to its systems.
    """
    return rows[rows["made"]] if "made" in rows else rows


def is_share(metric: str) -> bool:
    """Whether a metric has values 0 and 1 only, so that its mean is a share."""
    return metric in SHARES


def mean_of(rows: Frame, metric: str) -> Estimate:
    """The nested mean of `value` in `rows`, one row per case; a missing value counts in n_total, a failed one in n_failed.

    `metric` says on which scale values lie.
    """
    effects = rows["effect"].tolist()
    sources = [f"{second}/{source}" for second, source in zip(rows["second"], rows["source"], strict=True)]
    failed = (rows["status"] == "failed").to_numpy()
    drawn = stats.draws_for("estimate", metric)
    return stats.estimate(rows["value"].to_numpy(), failed, effects, sources, drawn, scale_of(metric))


def share_of(rows: Frame, hits: np.ndarray) -> Estimate:
    """The nested share of `hits` (N,) bool among `rows` that were scored."""
    values = np.where(rows["status"] == "ok", hits.astype(float), np.nan)
    return mean_of(rows.assign(value=values), "success")


def estimate_cell(metric: str, one: Estimate) -> Cell:
    """A mean, its interval below and its counts in the tooltip; the reason where there is none."""
    if not np.isfinite(one.value):
        return Cell(MISSING, "", LAST, title=one.reason, css="missing")
    sub = interval(metric, one.low, one.high) or one.reason
    return Cell(metric_value(metric, one.value), sub, one.value, title=counted(one), bounds=(one.low, one.high))


def counted(one: Estimate) -> str:
    """``7 of 8 scored, 1 failed``."""
    return f"{one.n_scored} of {one.n_total} scored, {one.n_failed} failed"
