"""The command line: speed of start, help, exit codes, Ctrl-C, resume."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from clbench.backbones.common import DiffusersBackbone
from clbench.cli import app
from clbench.console import EditLine, progress
from clbench.world import load_world

HEAVY = ("torch", "jaxtyping", "diffusers", "transformers", "pandas", "matplotlib", "scipy", "pyarrow", "open_clip")
COMMANDS = (
    ["eval"],
    ["edit"],
    ["score"],
    ["report"],
    ["compare"],
    ["selftest"],
    ["list"],
    ["merge"],
    ["train"],
    ["cost"],
    ["doctor"],
    ["preview"],
    ["preview", "effects"],
)
SUITE = """
name = "small"
question = "Does it work?"
effects = "all"
sources = 2
systems = ["identity", "collection"]
metrics = ["psnr"]
"""
runner = CliRunner()


@pytest.fixture
def suite_file(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SUITE)
    return file


def clbench(*arguments, code=0):
    result = runner.invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_help_starts_in_under_a_second():
    """Processor time, so that other work on the machine does not count."""
    code = (
        "import time; from clbench.cli import app\ntry: app(['--help'])\nfinally: print(time.process_time())"
    )
    used = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
        )
        for _ in range(2)
    ]
    assert min(used) < 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["list", "systems"], ["list", "metrics"], ["list", "suites"], ["cost"], ["cost", "--json"],
        ["compare", "--help"],
    ],
)
def test_quick_commands_import_nothing_heavy(arguments):
    code = (
        f"import sys; from clbench.cli import app\ntry: app({arguments!r})\n"
        f"except SystemExit: pass\n"
        f"print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command):
    output = clbench(*command, "--help").output
    assert f"Example:  clbench {' '.join(command)}" in output


@pytest.mark.parametrize("kind", ["effects", "sources"])
def test_list_of_a_users_world(kind, mini_world_file):
    output = clbench("list", kind, "--world", mini_world_file).output
    assert ("make it sepia" if kind == "effects" else "p3") in output


@pytest.mark.parametrize(
    ("kind", "word"),
    [("systems", "noise-floor"), ("metrics", "psnr"), ("suites", "bleeding"), ("suites", "memory"), ("worlds", "tiny")],
)
def test_list_of_what_is_shipped(kind, word):
    assert word in clbench("list", kind).output


def edit_arguments(suite_file, mini_world_file, out):
    return ["edit", "--suite", suite_file, "--world", mini_world_file, "--out", out]


def test_edit_makes_runs_and_resumes(suite_file, mini_world_file, tmp_path):
    arguments = edit_arguments(suite_file, mini_world_file, tmp_path / "out")
    assert clbench(*arguments, "--system", "identity,collection", "--limit", 1).stdout.strip() == str(
        tmp_path / "out"
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["collection", "identity"]
    before = (tmp_path / "out" / "collection" / "edits.jsonl").read_text()
    clbench(*arguments)
    after = (tmp_path / "out" / "collection" / "edits.jsonl").read_text()
    assert after.startswith(before) and len(after.splitlines()) == 4


def test_the_time_left_is_by_what_this_session_made():
    """A batch of sixteen is told at once, a thousand pictures were there, and eight questions are not asked."""
    clock = [0.0]
    bar = progress(False)
    bar.get_time = lambda: clock[0]
    line = EditLine(bar, "collection", there=1000, pending=88)
    shown = lambda: bar.columns[-1].render(bar.tasks[0]).plain  # noqa: E731
    assert shown() == "-:--:--"
    clock[0] = 500.0
    line.start()
    for _ in range(8):
        line.advance(asked=False)
    assert shown() == "-:--:--" and bar.tasks[0].total == 1080
    clock[0] = 532.0
    for _ in range(16):
        line.advance(asked=True)
    assert shown() == "0:02:08"
    clock[0] = 540.0
    assert shown() == "0:02:00", "it counts down within a batch"
    clock[0] = 9999.0
    assert shown() == "0:00:00"
    for _ in range(64):
        line.advance(asked=True)
    assert shown() == "0:00:00" and bar.tasks[0].finished


def test_the_bar_counts_pictures_and_not_questions_that_are_not_asked(suite_file, mini_world_file, tmp_path):
    text = SUITE.replace('"identity", "collection"', '"base"')
    suite_file.write_text(text.replace("metrics", 'probes = ["trigger-only"]\nmetrics'))
    arguments = edit_arguments(suite_file, mini_world_file, tmp_path / "out")
    for _ in range(2):
        result = clbench(*arguments)
        assert re.search(r"base .* 4/4 ", result.stderr), result.stderr
    states = [json.loads(line)["status"] for line in (tmp_path / "out/base/edits.jsonl").read_text().splitlines()]
    assert sorted(states) == ["ok"] * 4 + ["unscored"] * 4


def test_where_every_edit_of_a_system_fails_the_exit_code_says_so(suite_file, mini_world_file, tmp_path, monkeypatch):
    """The rest of the work is done: a script that reads exit codes alone would take the report for one of pictures."""
    real = DiffusersBackbone.sample
    monkeypatch.setattr(DiffusersBackbone, "sample", lambda *given: [None for _ in real(*given)])
    given = ["--suite", suite_file, "--world", mini_world_file, "--out", tmp_path / "out"]
    one = ["--system", "base", "--limit", 1, "--effect", "sepia"]
    result = clbench("edit", *given, *one, code=1)
    assert result.stdout.strip() == str(tmp_path / "out")
    assert "base: 1 edit failed, the first: sepia/p0/s0: the sampler returned values that are not finite" in result.stderr
    done: list[str] = []
    for step in ("score", "report"):
        monkeypatch.setattr(f"clbench.jobs.{step}", lambda *given, step=step: done.append(step))
    result = clbench("eval", *given, "--system", "base", "--system", "teacher", "--system", "identity", code=1)
    assert "base: 4 edits failed, the first: " in result.stderr and done == ["score", "report"]
    assert result.stderr.splitlines()[-1].startswith("every edit that was asked of base, teacher failed")
    clbench("edit", *given, "--system", "identity")
    monkeypatch.undo()
    clbench("edit", *given, "--system", "base", "--retry-failed")


def test_one_effect_and_a_folder_of_pictures(suite_file, mini_world_file, tmp_path):
    clbench(
        *edit_arguments(suite_file, mini_world_file, tmp_path / "a"),
        "--system",
        "identity",
        "--effect",
        "sepia",
    )
    made = tmp_path / "a" / "identity"
    assert len((made / "edits.jsonl").read_text().splitlines()) == 2
    result = clbench(
        *edit_arguments(suite_file, mini_world_file, tmp_path / "b"), "--system", "folder", "--images", made
    )
    assert "2 edits failed, the first: upside_down/p0/s0" in result.stderr
    clbench(
        *edit_arguments(suite_file, mini_world_file, tmp_path / "c"), "--system", "folder", "--images", made,
        "--effect", "sepia", "--strict",
    )  # fmt: skip


def test_mistakes_end_with_one_sentence_and_code_2(suite_file, mini_world_file, tmp_path):
    result = clbench(
        *edit_arguments(suite_file, mini_world_file, tmp_path / "o"), "--system", "teachr", code=2
    )
    assert result.stderr.strip() == "mini: unknown system 'teachr'. Did you mean 'teacher'?"
    assert not (tmp_path / "o").exists()
    assert "No such option" in clbench("edit", "--siute", "x", code=2).output


@pytest.mark.parametrize("error", [ValueError("nobody foresaw this"), EOFError("the file ends"), RuntimeError("no memory")])
def test_an_unexpected_error_is_no_verdict(error, monkeypatch, tmp_path):
    """Exit 1 says "worse"; an error of clbench has a code of its own, and its traceback is shown."""
    from clbench import judging

    def broken(*_):
        raise error

    monkeypatch.setattr(judging, "compare", broken)
    said = clbench("compare", tmp_path, tmp_path, "--fail-on", "success:-0.1", code=3).stderr
    assert "Traceback" in said and f"{type(error).__name__}: {error}" in said and "in broken" in said
    for help_of in ((), ("compare",)):
        assert "clbench itself failed" in " ".join(clbench(*help_of, "--help").output.split())


def test_interrupt_ends_with_130_and_says_how_to_go_on(suite_file, mini_world_file, tmp_path, monkeypatch):
    from clbench.systems.controls import Control

    real = Control.edit

    def interrupted(self, cases):
        for number, made in enumerate(real(self, cases)):
            if number == 2:
                raise KeyboardInterrupt
            yield made

    monkeypatch.setattr(Control, "edit", interrupted)
    arguments = [*edit_arguments(suite_file, mini_world_file, tmp_path / "out"), "--system", "identity"]
    assert "The same command goes on from here" in clbench(*arguments, code=130).stderr
    monkeypatch.undo()
    clbench(*arguments)
    assert len((tmp_path / "out" / "identity" / "edits.jsonl").read_text().splitlines()) == 4


def interrupted_control(monkeypatch, after: int = 2) -> None:
    """Ctrl-C comes when the control `identity` has made `after` pictures."""
    from clbench import edit

    real = edit.run

    def run(folder, system, pending, seen):
        def watched(made):
            seen(made)
            if system.card.name == "identity":
                done.append(made)
            if len(done) == after:
                raise KeyboardInterrupt

        done: list = []
        return real(folder, system, pending, watched)

    monkeypatch.setattr(edit, "run", run)


def test_an_interrupt_with_overwrite_advises_the_command_without_it(suite_file, mini_world_file, tmp_path, monkeypatch):
    """With it, said again, it would throw away what it has just made."""
    out, arguments = tmp_path / "out", edit_arguments(suite_file, mini_world_file, tmp_path / "out")
    clbench(*arguments)
    monkeypatch.setattr(sys, "argv", ["clbench", *map(str, arguments), "--overwrite"])
    interrupted_control(monkeypatch)
    said = " ".join(clbench(*arguments, "--overwrite", code=130).stderr.split())
    assert "Stopped; what is done is kept. The same command without --overwrite goes on: clbench edit" in said
    assert "--overwrite" not in said.partition("goes on:")[2]
    assert len((out / "identity" / "edits.jsonl").read_text().splitlines()) == 2
    first = (out / "identity" / "pictures" / "sepia" / "p0" / "s0.png").stat().st_mtime_ns
    monkeypatch.undo()
    clbench(*arguments)
    assert len((out / "identity" / "edits.jsonl").read_text().splitlines()) == 4
    assert (out / "identity" / "pictures" / "sepia" / "p0" / "s0.png").stat().st_mtime_ns == first
    from clbench import edit

    monkeypatch.setattr(edit, "prepare", interrupt)
    monkeypatch.setattr(sys, "argv", ["clbench", *map(str, arguments), "--overwrite"])
    said = " ".join(clbench(*arguments, "--overwrite", code=130).stderr.split())
    assert said.endswith("--overwrite"), "nothing was replaced yet"


def interrupt(*_):
    raise KeyboardInterrupt


def test_all_suites_are_begun_anew_together(mini_world_file, tmp_path, monkeypatch):
    """Stopped in the first of three, the command without --overwrite goes on, and takes nothing old for new."""
    from clbench import jobs, suite

    files = {name: tmp_path / f"{name}.toml" for name in ("one", "two", "xyz")}
    for name, file in files.items():
        file.write_text(SUITE.replace('"small"', f'"{name}"'))
    measured = 'kind = "memory"\nname = "memory"\nquestion = "What?"\neffects = [1]\nsystems = ["cascade"]\n'
    (tmp_path / "memory.toml").write_text(measured)
    shipped = {"pictures": files, "memory": {"memory": tmp_path / "memory.toml"}}
    for room in (suite, jobs):
        monkeypatch.setattr(room, "shipped_suites", lambda kind="pictures": shipped[kind])
    monkeypatch.setattr(jobs, "score", lambda out, world, name: None)
    monkeypatch.setattr(jobs, "report", lambda out, world, name: None)
    monkeypatch.setattr("clbench.memory.measure.run_probe", lambda request: {"failed": "not asked for"})
    out = tmp_path / "out"
    arguments = ("eval", "--suite", "all", "--world", mini_world_file, "--out", out)
    clbench(*arguments)
    pictures = len(list(out.rglob("*.png")))
    assert pictures >= 3 * 8 and (out / "memory" / "memory.json").is_file()
    monkeypatch.setattr(sys, "argv", ["clbench", *map(str, arguments), "--overwrite"])
    with monkeypatch.context() as patched:
        interrupted_control(patched)
        said = " ".join(clbench(*arguments, "--overwrite", code=130).stderr.split())
    assert "The same command without --overwrite goes on" in said
    assert not list((out / "two").rglob("*.png")) and not (out / "memory" / "memory.json").exists()
    made = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*.png"))}
    clbench(*arguments)
    assert len(list(out.rglob("*.png"))) == pictures and (out / "memory" / "memory.json").is_file()
    assert all(path.stat().st_mtime_ns == when for path, when in made.items()), "what was made anew is kept"


def test_ctrl_c_while_the_command_line_is_imported_ends_quietly(tmp_path):
    """With 130, not by the signal and a traceback."""
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])}
    command = [sys.executable, "-m", "clbench", "--help"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_killed_process_loses_nothing(suite_file, mini_world_file, tmp_path):
    mini_world_file.write_text(
        mini_world_file.read_text()
        .replace("batch = 4", "batch = 1")
        .replace("full_steps = 3", "full_steps = 20")
    )
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "clbench",
        *map(str, edit_arguments(suite_file, mini_world_file, out)),
        "--system",
        "teacher",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lines = out / "teacher" / "edits.jsonl"
    deadline = time.monotonic() + 300
    while not (lines.exists() and lines.read_text().count("\n") >= 1) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = lines.read_text().splitlines()[0]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(out)
    assert "Warning" not in done.stderr and "Loading" not in done.stderr
    assert lines.read_text().splitlines()[0] == kept
    assert len({line.split('"id": "')[1].split('"')[0] for line in lines.read_text().splitlines()}) == 4


def test_doctor_names_what_is_missing(mini_world_file, tmp_path):
    (tmp_path / "accelerator.safetensors").unlink()
    result = clbench("doctor", "--world", mini_world_file, code=1)
    assert "accelerator" in result.stderr and "backbone" in result.stdout and "not needed" in result.stdout


def test_systems_that_are_left_out_are_said_once(mini_world_file, tmp_path, without):
    suite, out = tmp_path / "small.toml", tmp_path / "out"
    named = SUITE.replace('"identity", "collection"', '"base", "cascade", "joints", "merged"')
    suite.write_text(named.replace('"all"', '["sepia"]'))
    (tmp_path / "teachers" / "sepia.safetensors").unlink()
    command = ("eval", "--suite", suite, "--world", without("accelerator"), "--out", out)
    told = clbench(*command).stderr
    assert told.count("system merged-linear is left out: world mini has no teacher LoRA for: sepia") == 1
    assert told.count("world mini has no [joint], so joint and joint+accelerator are left out; ") == 1
    assert told.count("world mini has no [accelerator], so cascade and joint+accelerator are left out; ") == 1
    assert [path.name for path in out.iterdir() if path.is_dir()] == ["base"]
    assert "left out" not in clbench(*command, "--system", "base").stderr, "nobody asked for them"


def test_a_system_that_is_named_is_refused_with_what_the_world_file_wants(suite_file, without, tmp_path):
    file = without("accelerator", "candidates")
    arguments = edit_arguments(suite_file, file, tmp_path / "out")
    for system, wanted in (
        ("cascade", 'world mini has no [accelerator]; add [accelerator] with file = "..." to '),
        ("collection", 'world mini has no [[candidates]]; add [[candidates]] with name = "..." and file = "..." to '),
        ("joint+accelerator", 'world mini has no [joint] and world mini has no [accelerator]; add [joint] with file = "..." to '),
    ):
        told = clbench(*arguments, "--system", f"base,{system}", code=2).stderr
        assert told.startswith(f"system '{system}' cannot be run: {wanted}{file}") and len(told.splitlines()) == 1
    (tmp_path / "teachers" / "sepia.safetensors").unlink()
    told = clbench(*arguments, "--system", "teacher", code=2).stderr
    assert told.strip() == f"world mini has no teacher LoRA for: sepia; put <effect id>.safetensors into {tmp_path / 'teachers'}"
    assert not (tmp_path / "out").exists()


def test_a_suite_without_any_system_is_refused(suite_file, without, tmp_path):
    file = without("candidates")
    told = clbench(*edit_arguments(suite_file, file, tmp_path / "out"), code=2).stderr
    assert told.startswith("nothing but controls would be left of suite small: world mini has no [[candidates]] (for collection)")
    assert len(told.splitlines()) == 1 and not (tmp_path / "out").exists()
    clbench("edit", "--suite", suite_file, "--world", file, "--out", tmp_path / "made", "--system", "identity")
    images = ("--images", tmp_path / "made" / "identity")
    clbench(*edit_arguments(suite_file, file, tmp_path / "out"), *images)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["folder", "identity", "teacher"]


def test_version():
    from clbench import __version__

    assert __version__ in clbench("--version").output


def test_preview_writes_a_sheet(tmp_path):
    if not (Path(__file__).parents[1] / "suites/worlds/tiny/sources/sources.csv").is_file():
        pytest.skip("the tiny world's sources are not there yet")
    out = tmp_path / "sheet.png"
    clbench("preview", "effects", "-o", out, "--effect", "sepia")
    assert out.stat().st_size > 1000


def test_list_probes_and_suites():
    told = clbench("list", "probes").output
    assert "caption-only" in told and "neutral" in told
    assert "composition" in clbench("list", "suites").output


def test_suite_all_runs_what_the_world_can_answer(mini_world_file, tmp_path, monkeypatch):
    """Two suites of identity and collection: a folder each, no picture twice, one report."""
    from clbench import jobs, suite

    files = {}
    for name, extra in (("one", ""), ("two", 'steps = [1, "full"]\n'), ("three", 'probes = ["neutral"]\n'), ("demo", "")):
        files[name] = tmp_path / f"{name}.toml"
        files[name].write_text(SUITE.replace('"small"', f'"{name}"') + extra)
    files["scenes"] = tmp_path / "scenes.toml"
    files["scenes"].write_text(SUITE.replace('"small"', '"scenes"') + 'groups = ["seen"]\n')
    monkeypatch.setattr(suite, "shipped_suites", lambda kind="pictures": files if kind == "pictures" else {})
    monkeypatch.setattr(jobs, "shipped_suites", lambda kind="pictures": files if kind == "pictures" else {})
    reported = []
    monkeypatch.setattr(jobs, "report", lambda out, world, name: reported.append((out, name)))
    out = tmp_path / "out"
    result = clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == ["one", "three", "two"] and reported == [(out, None)]
    assert "suite scenes is left out" in result.output + (result.stderr or "")
    for name, cases in (("one", 4), ("two", 8), ("three", 8)):
        for system in ("identity", "collection"):
            lines = (out / name / system / "edits.jsonl").read_text().splitlines()
            assert len(lines) == cases and (out / name / system / "scores.parquet").is_file()
    one, three = ((out / name / "collection" / "pictures" / "sepia" / "p0" / "s0.png").read_bytes() for name in ("one", "three"))
    assert one == three
    files["joined"] = tmp_path / "joined.toml"
    files["joined"].write_text(SUITE.replace('"small"', '"joined"').replace("systems = [", 'systems = ["joint", '))
    files["joint"] = tmp_path / "joint.toml"
    files["joint"].write_text(SUITE.replace('"small"', '"joint"').replace('["identity", "collection"]', '["joints"]'))
    told = clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out).stderr
    assert "suite joint is left out: nothing but controls would be left of suite joint: world mini has no [joint]" in told
    assert told.count("world mini has no [joint], so joint is left out; ") == 1 and (out / "joined" / "collection").is_dir()
    files.pop("joint")
    files["composed"] = tmp_path / "composed.toml"
    files["composed"].write_text(SUITE.replace('"small"', '"composed"') + "pairs = 2\n")
    result = clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out)
    told = (result.output + (result.stderr or "")).replace("\n", " ")
    assert "suite composed is left out: what two effects in turn look like is known by operators alone" in told
    result = clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out, "--system", "teechr", code=2)
    told = result.output + (result.stderr or "")
    assert "Did you mean 'teacher'" in told and "left out" not in told, "one mistake, said once"
    result = clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out, "--effect", "sepiaa", code=2)
    assert "Did you mean 'sepia'" in result.output + (result.stderr or "")
    asked = ("--suite", files["composed"], "--world", mini_world_file, "--out", tmp_path / "pairs", "--system", "identity")
    result = clbench("edit", *asked)
    assert "only what needs no right answer is scored" in (result.output + (result.stderr or "")).replace("\n", " ")
    clbench("edit", "--suite", "all", "--world", mini_world_file, code=2)


def test_a_second_suite_takes_over_what_the_first_one_made(suite_file, mini_world_file, tmp_path, monkeypatch):
    """Of the folders next to its own, by the same code; not with --overwrite."""
    from clbench import edit, provenance

    clean = {**provenance.git_state(), "dirty": False}
    monkeypatch.setattr(edit, "git_state", lambda: clean)
    monkeypatch.setattr(provenance, "git_state", lambda: clean)
    other = tmp_path / "other.toml"
    other.write_text(SUITE.replace('"small"', '"other"').replace("sources = 2", "sources = 3"))
    (tmp_path / "runs" / "stranger").mkdir(parents=True)
    (tmp_path / "runs" / "file").write_text("")
    clbench(*edit_arguments(suite_file, mini_world_file, tmp_path / "runs" / "a"))
    before = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "runs" / "a").rglob("*"))}
    arguments = edit_arguments(other, mini_world_file, tmp_path / "runs" / "b")
    said = clbench(*arguments).stderr
    for system in ("identity", "collection"):
        assert f"{system}: 4 pictures of the same cases are taken over from {tmp_path / 'runs' / 'a' / system}" in said
        assert len((tmp_path / "runs" / "b" / system / "edits.jsonl").read_text().splitlines()) == 6
    assert before == {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "runs" / "a").rglob("*"))}
    assert "taken over" not in clbench(*arguments).stderr  # nothing is left to do
    assert "taken over" not in clbench(*arguments, "--overwrite").stderr
    assert "taken over" not in clbench(*edit_arguments(suite_file, mini_world_file, tmp_path / "runs" / "c")[:-2], "--out",
                                       tmp_path / "c" / "runs").stderr  # fmt: skip


def test_suite_all_measures_whole_pools_and_no_parts(mini_world_file, tmp_path, monkeypatch):
    from clbench import jobs, suite

    one, memory = tmp_path / "one.toml", tmp_path / "memory.toml"
    one.write_text(SUITE.replace('"small"', '"one"'))
    memory.write_text('kind = "memory"\nname = "memory"\nquestion = "What?"\neffects = [1]\nsystems = ["cascade"]\n')
    files = {"pictures": {"one": one}, "memory": {"memory": memory}}
    for room in (suite, jobs):
        monkeypatch.setattr(room, "shipped_suites", lambda kind="pictures": files[kind])
    done = []
    monkeypatch.setattr(jobs, "measure", lambda order, left_out: done.append((order.suite, order.out)))
    monkeypatch.setattr(jobs, "report", lambda out, world, name: done.append("report"))
    monkeypatch.setattr(jobs, "score", lambda out, world, name: None)
    out = tmp_path / "out"
    clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out)
    assert done == [("memory", out / "memory"), "report"]
    clbench("eval", "--suite", "all", "--world", mini_world_file, "--out", out, "--limit", "1")
    assert done[2:] == ["report"]
    (mini_world_file.parent / "accelerator.safetensors").unlink()
    assert jobs.measurable(load_world(mini_world_file), mini_world_file.parent) == []


def test_suite_all_measures_what_a_world_names_files_for(without, mini_world_file, tmp_path, monkeypatch):
    """Every suite with what there is, a reason said once for all; the measured one alone where no other can be answered."""
    from clbench import jobs, suite

    one, memory, whole = tmp_path / "one.toml", tmp_path / "memory.toml", mini_world_file.read_text()
    one.write_text(SUITE.replace('"small"', '"one"').replace('"all"', '"taught"').replace('"identity"', '"teacher"'))
    memory.write_text(
        'kind = "memory"\nname = "memory"\nquestion = "What?"\neffects = [1]\nsystems = ["cascade", "collection"]\nrepeats = 1\n'
    )
    files = {"pictures": {"one": one}, "memory": {"memory": memory}}
    for room in (suite, jobs):
        monkeypatch.setattr(room, "shipped_suites", lambda kind="pictures": files[kind])
    done, real = [], jobs.measure
    monkeypatch.setattr(jobs, "measure", lambda order, left_out: done.append(order.suite) or real(order, left_out))
    monkeypatch.setattr(jobs, "score", lambda out, world, name: None)
    monkeypatch.setattr("clbench.memory.measure.run_probe", lambda request: {"failed": "not asked for"})
    monkeypatch.setattr(jobs, "report", lambda out, world, name: None)
    world, out = without("accelerator", "candidates"), tmp_path / "out"
    said = " ".join(clbench("eval", "--suite", "all", "--world", world, "--out", out).stderr.split())
    assert done == ["memory"] and said.count("world mini has no [[candidates]], so collection is left out") == 1
    assert said.count("suite memory: world mini has no [accelerator], so teacher is measured in place of cascade, at full") == 1
    mini_world_file.write_text(whole)
    without("teachers")
    said = " ".join(clbench("eval", "--suite", "all", "--world", world, "--out", tmp_path / "one-lora").stderr.split())
    assert done == ["memory"] * 2 and "suite one is left out: suite one asks for the taught effects" in said
    assert said.count("world mini has no [teachers], so cascade is left out; add ") == 1 and "--system" not in said
    without("candidates")
    said = clbench("eval", "--suite", "all", "--world", world, "--out", tmp_path / "none", code=2).stderr
    assert done == ["memory"] * 2 and "suite memory is left out: nothing would be left of suite memory" in " ".join(said.split())
    mini_world_file.write_text(whole)
    one.write_text(one.read_text().replace("sources = 2", "sources = 99"))
    said = clbench("eval", "--suite", "all", "--world", world, "--out", tmp_path / "few", code=2).stderr
    assert done == ["memory"] * 2 and "suite one asks for 99 sources" in said, "a mistake, not what the world lacks"
