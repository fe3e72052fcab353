"""What the commands do: open things, check everything first, then work with a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.console import print_table, progress, say, show
from clbench.registry import ClbenchError
from clbench.suite import Suite, load_suite
from clbench.world import load_world

if TYPE_CHECKING:
    from clbench.compare import FailBy


@dataclass(frozen=True, slots=True)
class Order:
    """The options of `eval` and `edit` as they were typed."""

    suite: str
    world: str
    systems: Sequence[str]
    effects: Sequence[str]
    images: Path | None
    limit: int | None
    out: Path | None
    strict: bool
    overwrite: bool
    retry_failed: bool


def names(given: Sequence[str]) -> list[str]:
    """``["a,b", "c"]`` -> ``["a", "b", "c"]``, without repeats."""
    flat = [part.strip() for item in given for part in item.split(",") if part.strip()]
    return list(dict.fromkeys(flat))


def edit(order: Order) -> Path:
    """Make the pictures of every system asked for; returns the folder of results.

    Every system, adapter, source and folder is checked before the first picture is made.
    """
    from clbench.edit import Asked, bench_for, prepare, run
    from clbench.systems import open_system

    world, suite = load_world(order.world), load_suite(order.suite)
    out = order.out or Path("runs") / f"{suite.name}-{world.name}"
    bench = bench_for(world, suite, order.images, order.strict)
    asked = Asked(names(order.effects), order.limit, order.overwrite, order.retry_failed)
    systems = [open_system(name, bench) for name in chosen_systems(suite, order)]
    work = [(system, *prepare(world, suite, system, out, asked)) for system in systems]
    with progress() as bar:
        tasks = [
            bar.add_task(
                system.card.name,
                total=folder.info.n_cases,
                completed=folder.info.n_cases - len(pending),
                start=False,
            )
            for system, folder, pending in work
        ]
        for task, (system, folder, pending) in zip(tasks, work, strict=True):
            bar.start_task(task)
            run(folder, system, pending, lambda _, task=task: bar.advance(task))
    _say_failures([folder for _, folder, _ in work])
    return out


def chosen_systems(suite: Suite, order: Order) -> list[str]:
    """Those asked for, else the suite's systems and controls; `folder` too where --images is given."""
    chosen = names(order.systems) or [*suite.systems, *suite.controls]
    if order.images is not None and "folder" not in chosen:
        chosen.append("folder")
    return chosen


def _say_failures(folders: Sequence) -> None:
    for folder in folders:
        failed = [record for record in folder.read_edits().values() if record.status != "ok"]
        if failed:
            say(
                f"{folder.path.name}: {len(failed)} edits failed, the first: {failed[0].id}: "
                f"{failed[0].reason}",
                "yellow",
            )


def evaluate(order: Order) -> None:
    """Edit, score and report. Weights that the metrics lack are said before the first picture is made."""
    from clbench.encoders import open_encoders

    open_encoders(load_world(order.world), load_suite(order.suite).metrics)
    out = edit(order)
    score(out, order.world, order.suite)
    report(out, order.world, order.suite)


def score(out: Path, world_name: str, suite_name: str) -> None:
    """Compute the suite's metrics for every run in `out`; ClbenchError for a run of another world or suite."""
    from clbench.results import find_runs
    from clbench.score import score_runs

    world, suite, runs = load_world(world_name), load_suite(suite_name), find_runs(out)
    for folder in runs:
        for what, held, asked in (("world", folder.info.world, world), ("suite", folder.info.suite, suite)):
            if held.hash != asked.hash:
                raise ClbenchError(
                    f"{folder.path} was made with {what} '{held.name}' ({held.hash[:8]}), not with '{asked.name}' as it "
                    f"is now ({asked.hash[:8]}); make it again with `clbench edit --overwrite` or remove it"
                )
    with progress() as bar:
        tasks = {f.path: bar.add_task(f"score {f.path.name}", total=len(f.read_edits())) for f in runs}
        score_runs(
            runs, world, suite, lambda folder, done, total: bar.update(tasks[folder.path], completed=done)
        )


def report(out: Path, world_name: str | None, suite_name: str | None) -> None:
    """Render the report of `out` and show its path; world and suite are those of the runs unless named."""
    from clbench.report import write_report

    for path in write_report(out, world_name, suite_name):
        show(str(path))


def compare(
    run_a: Path, run_b: Path, fail_on: Sequence[str], fail_by: FailBy, metrics: Sequence[str], systems: Sequence[str],
    as_json: bool, markdown: Path | None,
) -> bool:  # fmt: skip
    """Show the comparison of two runs; whether a condition of `fail_on` is met."""
    import json

    from clbench import compare as room
    from clbench.compare import words
    from clbench.compare.gate import judge
    from clbench.results import replace_bytes

    conditions = [room.parse_fail_on(text) for text in fail_on]
    pairs = room.match_runs(run_a, run_b, names(systems))
    found = room.compare(pairs, names(metrics), [condition.metric for condition in conditions])
    verdicts = judge(conditions, found.lines, fail_by)
    if markdown is not None:
        replace_bytes(markdown, words.to_markdown(found, verdicts).encode())
    if as_json:
        show(json.dumps(words.to_plain(found, verdicts), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        for title, lines in words.groups(found):
            print_table(f"{title}: A {run_a}, B {run_b}", list(words.HEADS), [words.cells(line) for line in lines])
        say(words.NOTE.format(family=found.family), "dim")
    for note in found.notes:
        say(note, "yellow")
    for verdict in verdicts:
        say(verdict.sentence, "red" if verdict.met else "green")
    return any(verdict.met for verdict in verdicts)


def selftest(only: Sequence[str], as_json: bool, strict: bool) -> bool:
    """Run the checks and show each bound with its value; whether one is missed (with `strict`, also known ones)."""
    import json

    from clbench import selftest as room

    found = room.run(names(only), lambda group, check: say(f"{check.verdict:<15}{group}: {check.name}"))
    if as_json:
        plain = [check.plain(group) for group, check in found]
        show(json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=1))
    else:
        rows = [[f"{group}: {check.name}", f"{check.value:.4g}", check.bound or "-", check.verdict] for group, check in found]
        print_table(f"clbench selftest: {len(found)} values", ["check", "value", "bound", "verdict"], rows)
    missed = [check for _, check in found if not check.passed]
    for check in missed:
        say(check.sentence, "red")
    return any(strict or not check.known for check in missed)


def train(
    stage: str | None, recipe: str, world_name: str, effects: Sequence[str], out: Path | None, resume: bool
) -> None:
    """Run one stage of the reference trainer, or teachers, accelerator and collection in turn."""
    run_stage, load_recipe = _trainer()
    read = load_recipe(recipe)
    world = load_world(world_name)
    target = out or Path("runs") / f"train-{world.name}"
    stages = [stage] if stage is not None else ["teachers", "accelerator", "collection"]
    for name in stages:
        with progress() as bar:
            tasks: dict[str, Any] = {}

            def seen(step, bar=bar, tasks=tasks) -> None:
                if step.what not in tasks:
                    tasks[step.what] = bar.add_task(step.what, total=step.total)
                bar.update(tasks[step.what], completed=step.done)

            made = run_stage(name, read, world, names(effects) or None, target, resume, seen)
        for path in made:
            show(str(path))


def _trainer() -> tuple[Any, Any]:
    """The reference trainer's `run` and `load_recipe`; imported only when training is asked for."""
    try:
        from reference_trainer import config, train
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("reference_trainer"):
            raise
        raise ClbenchError(
            "the reference trainer is not installed beside clbench; install the whole repository"
        ) from None
    return train.run, config.load_recipe
