"""How a report says to make it again: never by a command that makes another one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import synthetic
from test_report import visible

from clbench.report import build
from clbench.report.again import Again, again, command

OUT = Path("/somewhere/runs/all")
STEPS = "clbench eval --suite steps"


def told(found: Again) -> list[tuple[str, str]]:
    return [(one.line, one.words) for one in found.commands]


def test_one_command_is_told_as_it_was_typed():
    typed = "clbench eval --suite all --world /home/someone/mine/world.toml --limit 3"
    found = again({"teacher": typed, "cascade": typed}, "steps", "mine", OUT)
    assert found.words == "To make this report again:"
    assert told(found) == [("clbench eval --suite all --world mine/world.toml --limit 3", "")]


def test_a_rebuilt_command_keeps_what_was_asked_and_names_its_world():
    """Without --world eval takes `tiny`, whatever the runs are of."""
    for asked in ("--limit 2 --effect fog --system cascade --system collection", "--limit=2 --effect=fog --system=cascade"):
        made = command(f"clbench edit --suite steps {asked}", "steps", "tiny-8", OUT)
        assert made == f"{STEPS} {asked} --world tiny-8 --out runs/all"
    for own in ("--world w.toml -o here", "-w w.toml --out=here", "-ww.toml -ohere"):
        assert command(f"clbench edit --suite steps {own}", "steps", "tiny-8", OUT) == f"{STEPS} {own}"
    assert command("make_runs.py", "steps", "tiny-8", OUT) == f"{STEPS} --world tiny-8 --out runs/all"


def test_runs_of_several_commands_are_told_by_all_of_them():
    """One command for all would ask of every system what only some were asked, or of none what they were."""
    few, one, fog = (f"{STEPS} {asked} --out runs/all" for asked in ("--limit 2", "--limit=4 --system cascade", "--effect fog"))
    found = again({"teacher": few, "cascade": one, "truth": few, "collection": fog}, "steps", "tiny-8", OUT)
    assert "were made by 3 commands" in found.words and "report again" not in found.words
    assert told(found) == [(few, "teacher, truth"), (one, "cascade"), (fog, "collection")]
    same = again({"teacher": few, "cascade": few.replace("runs/all", str(OUT))}, "steps", "tiny-8", OUT)
    assert told(same) == [(few, "")], "one folder, told in two ways"


def test_commands_that_differ_in_their_systems_alone_are_told_as_one():
    one = "clbench edit --suite steps --system {} --out runs/all"
    found = again({"base": one.format("base"), "teacher": one.format("teacher,cascade")}, "steps", "tiny-8", OUT)
    assert found.words == "To make this report again:"
    assert told(found) == [(f"{STEPS} --out runs/all --world tiny-8 --system base,teacher,cascade", "")]
    bare = f"{STEPS} --out runs/all --world tiny-8"
    lines = {"base": one.format("base"), "cascade": bare}
    assert told(again(lines, "steps", "tiny-8", OUT, ["base", "cascade"])) == [(bare, "")]
    assert told(again(lines, "steps", "tiny-8", OUT, ["cascade", "truth"])) == [(f"{bare} --system cascade,truth,base", "")]
    assert "were made by 2 commands" in again(lines, "steps", "tiny-8", OUT).words, "nobody knows what the second one made"


def test_a_page_shows_every_command_with_its_systems(tmp_path):
    runs = synthetic.make_runs(tmp_path / "runs", systems=("collection",), sources=1)
    lines = {"teacher": f"{STEPS} --world tiny --limit 1", "cascade": f"{STEPS} --world tiny --limit 2"}
    html, markdown = build(runs, replace(synthetic.about(), again=again(lines, "steps", "tiny", OUT)), tmp_path)
    assert "".join(f"{system}:\n\n    {line}\n\n" for system, line in lines.items()) in markdown.read_text(encoding="utf-8")
    text = visible(html.read_text(encoding="utf-8"))
    assert all(re.search(rf"{system}\s+{line}", text) for system, line in lines.items()) and "report again" not in text
