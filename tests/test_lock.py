"""Two processes on one folder: the second ends at once and says who holds it; a killed process holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench.cli import app
from clbench.lock import FILE, hold
from clbench.registry import ClbenchError

HOLDER = """
import sys
from pathlib import Path
from clbench.lock import hold
with hold(*map(Path, sys.argv[1:])):
    print("held", flush=True)
    sys.stdin.read()
"""
SUITE = """
name = "small"
question = "Does it work?"
effects = "all"
sources = 1
systems = ["identity"]
metrics = ["psnr"]
"""


@pytest.fixture
def other():
    """A function: another process that holds the given folders until the test ends or kills it."""
    started = []

    def start(*folders: Path) -> subprocess.Popen:
        where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-c", HOLDER, *map(str, folders)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=where)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def refused(*arguments) -> str:
    """The one sentence with which a command ends."""
    result = CliRunner().invoke(app, [str(part) for part in arguments])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


def test_the_second_process_is_told_who_is_there(other, tmp_path):
    process = other(tmp_path / "a")
    with pytest.raises(ClbenchError, match=rf"{tmp_path / 'a'} is in use by process {process.pid} \(.*, since 20.*\)"):  # noqa: SIM117
        with hold(tmp_path / "b", tmp_path / "a"):
            pytest.fail("both hold it")
    with hold(tmp_path / "b"):  # what was taken before the refusal is free again
        pass


def test_a_killed_process_holds_nothing(other, tmp_path):
    process = other(tmp_path)
    process.kill()
    process.wait()
    assert str(process.pid) in (tmp_path / FILE).read_text()
    with hold(tmp_path):
        assert str(os.getpid()) in (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).read_text() == ""


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClbenchError, match="cannot write to the output folder"), hold(tmp_path / "file"):
        pass


def test_edit_and_score_end_at_once_and_report_reads(other, mini_world_file, tmp_path):
    suite, out = tmp_path / "small.toml", tmp_path / "out"
    suite.write_text(SUITE)
    names = ["--suite", suite, "--world", mini_world_file]
    runner = CliRunner()
    assert runner.invoke(app, [str(part) for part in ("eval", *names, "--out", out)]).exit_code == 0
    lines = (out / "identity" / "edits.jsonl").read_bytes()
    process = other(out / "identity")
    for command in (["edit", *names, "--out", out, "--overwrite"], ["score", out, *names]):
        assert f"{out / 'identity'} is in use by process {process.pid}" in refused(*command)
    assert (out / "identity" / "edits.jsonl").read_bytes() == lines
    assert runner.invoke(app, [str(part) for part in ("report", out, *names)]).exit_code == 0
    process.kill()
    process.wait()
    assert runner.invoke(app, [str(part) for part in ("score", out, *names)]).exit_code == 0


@pytest.mark.parametrize(("stage", "work"), [("teachers", "teachers/work/sepia"), ("collection", "collection")])
def test_train_ends_at_once(other, mini_world_file, tmp_path, stage, work):
    process = other(tmp_path / "out" / work)
    pairs = ["--pairs", _pairs(tmp_path)] if stage == "teachers" else []
    said = refused("train", "--stage", stage, "--world", mini_world_file, "--recipe", "smoke", "--out", tmp_path / "out", *pairs)
    assert f"{tmp_path / 'out' / work} is in use by process {process.pid}" in said


def _pairs(folder: Path) -> Path:
    import numpy as np

    from clbench.images import write_png

    for effect in ("sepia", "upside_down"):
        for side in ("source", "target"):
            write_png(folder / "pairs" / effect / side / "p0.png", np.zeros((32, 32, 3), np.uint8))
    return folder / "pairs"
