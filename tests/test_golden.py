"""Every metric reads what it read when tests/golden/metrics.json was written."""

from __future__ import annotations

import json

import pytest
from golden.record import FILE, measured, pictures
from planted import gap

from clbench.metrics import METRICS, SET_METRICS

FACTOR = 20
"""Tolerances that another processor or another version of a library may add. Without any vector instructions (in torch, oneDNN,
OpenBLAS and OpenCV) 2 of 64 pictures were other ones and values differed by 5 tolerances at most."""


@pytest.fixture(scope="module")
def recorded():
    return json.loads(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(planted):
    return measured(planted)


@pytest.fixture(scope="module")
def painted(planted, recorded):
    """For a failure: other pictures have other values, and then effects or a library that paints have changed, not a metric."""
    now, then = pictures(planted), recorded["pictures"]
    other = sum(one != two for case in then for one, two in zip(now[case], then[case], strict=True))
    return f"{other} of {sum(map(len, then.values()))} pictures are not the recorded ones"


@pytest.mark.parametrize("metric", [*METRICS, *SET_METRICS])
def test_a_metric_reads_what_was_recorded(metric, found, recorded, painted):
    now, then = found[metric], recorded[metric]
    assert now.keys() == then.keys()
    for case, row in then.items():
        for system, one, two in zip(recorded["systems"], now[case], row, strict=True):
            missing = one is None or two is None
            assert one == two if missing else gap(metric, one, two) <= FACTOR, f"{system}, {case}: {one}, not {two}; {painted}"


def test_recorded_values_tell_outputs_apart(recorded):
    """A constant would pass whatever the metric became; order is read of few outputs, and where it is, it is the right one."""
    for metric in {*METRICS, *SET_METRICS} - {"in_order"}:
        assert len({value for row in recorded[metric].values() for value in row} - {None}) > 1, metric
    assert FILE.stat().st_size < 50_000
