"""The room of checks: what a check says, exit codes, parity."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from clbench import selftest
from clbench.cli import app
from clbench.registry import ClbenchError
from clbench.selftest import Check, parity

FINE = Check("fine", 0.95, 0.93, 0.97)
OFF = Check("off", 0.90, 0.93, 0.97)
KNOWN = Check("off and known", 0.98, 0.93, 0.97, known="too few effects")
TOLD = Check("told", float("nan"), reported=True)


def test_a_check_says_its_bound_and_verdict():
    assert [check.verdict for check in (FINE, OFF, KNOWN, TOLD)] == ["passed", "missed", "missed (known)", "reported"]
    assert [check.bound for check in (FINE, TOLD)] == ["0.93 to 0.97", ""]
    assert (Check("x", 1.0, high=2.0).bound, Check("x", 1.0, low=0.5).bound) == ("<= 2", ">= 0.5")
    assert not Check("missing", float("nan"), 0.0).passed
    assert KNOWN.sentence == "missed (known): off and known: 0.98, bound 0.93 to 0.97; too few effects"


@pytest.mark.parametrize(
    ("checks", "options", "code"),
    [([FINE, TOLD], [], 0), ([FINE, OFF], [], 1), ([FINE, KNOWN], [], 0), ([FINE, KNOWN], ["--strict"], 1)],
)
def test_exit_codes(monkeypatch, checks, options, code):
    monkeypatch.setattr(selftest.Group, "checks", lambda self: iter(checks))
    done = CliRunner().invoke(app, ["selftest", "--only", "statistics", "--json", *options])
    assert done.exit_code == code, done.output
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == [check.name for check in checks]
    assert all(row["value"] is None for row in rows if row["name"] == "told")


def test_an_unknown_group_is_one_sentence():
    with pytest.raises(ClbenchError, match="Did you mean 'statistics'"):
        selftest.run(["statistic"])


def test_metrics_agree_with_other_peoples_code():
    found = list(parity.checks())
    assert len(found) == 7 and [check for check in found if not check.passed] == []
