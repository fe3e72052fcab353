"""The room of checks: what a check says, exit codes, parity."""

from __future__ import annotations

import json
import os

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


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Groups that say in which process and with how many threads they ran; importable by other processes as well."""
    for name, body in {
        "group_slow": "yield Check('process', os.getpid()); yield Check('threads', float(os.environ['OMP_NUM_THREADS']))",
        "group_fast": "yield Check('process', os.getpid())",
        "group_wrong": "yield Check('process', 1.0); raise ClbenchError('weights of the metric are missing')",
    }.items():
        lines = ["import os", "from clbench.registry import ClbenchError", "from clbench.selftest import Check", "def checks():"]
        (tmp_path / f"{name}.py").write_text("\n".join([*lines, f"    {body}", ""]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(selftest, "usable_cores", lambda: 2)

    def groups(*names):
        return {name: selftest.Group(f"group_{name}", "", 9 - number) for number, name in enumerate(names)}

    return groups


def test_groups_run_in_processes_beside_each_other_and_come_back_in_order(made_up):
    seen = []
    found = selftest.run_groups(made_up("fast", "slow"), lambda group, check: seen.append((group, check)))
    assert [(group, check.name) for group, check in found] == [("fast", "process"), ("slow", "process"), ("slow", "threads")]
    processes = {group: check.value for group, check in found if check.name == "process"}
    assert os.getpid() not in processes.values()
    assert sorted(seen, key=str) == sorted(found, key=str)


def test_one_group_runs_in_this_process(made_up):
    assert selftest.run_groups(made_up("fast"))[0][1].value == os.getpid()


def test_an_error_of_a_group_comes_through(made_up):
    with pytest.raises(ClbenchError, match="weights of the metric are missing"):
        selftest.run_groups(made_up("wrong", "fast"))
