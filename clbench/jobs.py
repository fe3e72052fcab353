"""What the commands from edit to report do, with a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.console import EditLine, follow, print_table, progress, show
from clbench.left_out import of_all
from clbench.notices import say
from clbench.order import Order, check, check_given, checked, chosen_systems, folder_of, names, notes, require_alike, unanswerable
from clbench.registry import ClbenchError
from clbench.replacing import clear_all, replacing
from clbench.suite import Suite, find_suite, load_suite, require_shipped, shipped_suites, suite_kind
from clbench.world import World, load_world

if TYPE_CHECKING:
    from clbench.results import RunFolder
    from clbench.systems import Bench
    from clbench.types import Case, System


def edit(order: Order, beside: Sequence[Path] | None = None, left_out: bool = True) -> tuple[Path, list[str]]:
    """Make the pictures of every system asked for; returns the folder of results, and the systems of which every edit that was
    asked failed. What of the suite is `left_out` is said.

    Every system, adapter, source and folder is checked before the first picture is made. Pictures of the same cases
    that the same system made for another suite, in the folders `beside`, are taken over. None: the folders next to that of
    the results, as far as the same clbench filled them, or, where old work is to be overwritten, no folder.
    """
    if order.suite == ALL:
        raise ClbenchError("`--suite all` is for `clbench eval`; `clbench edit` makes the pictures of one suite")
    from clbench.edit import borrow, prepare, same_but_suite, same_but_suite_and_code, siblings
    from clbench.lock import hold

    world, suite = load_world(order.world), load_suite(order.suite)
    out = folder_of(order, world, suite)
    bench, asked, systems = checked(order, world, suite)
    alike = same_but_suite if beside is not None else same_but_suite_and_code
    if beside is None:
        beside = [] if order.overwrite else siblings(out)
    with replacing(order.overwrite) as gone, hold(*(out / system.card.name for system, _ in systems)):
        for sentence in notes(order, world, suite, bench, systems, left_out):
            say(sentence, "yellow")
        work = [(system, *prepare(world, suite, system, cases, out, asked)) for system, cases in systems]
        gone()
        _count_prompts(world, systems, out)
        work = [(system, folder, borrow(folder, pending, beside, _say_taken, alike)) for system, folder, pending in work]
        _make_pictures(systems, work)
    folders = [folder for _, folder, _ in work]
    _say_failures(folders)
    if suite.table.gram and bench.in_use:
        _write_gram(out, world, bench)
    return out, [system.card.name for (system, cases), folder in zip(systems, folders, strict=True) if _all_failed(folder, cases)]


def _make_pictures(
    systems: Sequence[tuple[System, list[Case]]], work: Sequence[tuple[System, RunFolder, list[Case]]]
) -> None:
    """Every pending edit of each system (`systems`: with all of its cases), with a bar for each, and one for what a system makes
    before its first picture.
    """
    from clbench.edit import run
    from clbench.types import Telling

    with progress() as bar:
        lines = [
            EditLine(bar, system.card.name, _pictured(folder, cases, pending), len(pending))
            for (_, cases), (system, folder, pending) in zip(systems, work, strict=True)
        ]
        for line, (system, folder, pending) in zip(lines, work, strict=True):
            line.start()
            if isinstance(system, Telling):
                system.tell(follow(bar))
            run(folder, system, pending, lambda made, line=line: line.advance(made.status != "unscored"))


def _pictured(folder: RunFolder, cases: Sequence[Case], pending: Sequence[Case]) -> int:
    """How many of `cases` are neither `pending` nor never asked."""
    records, waiting = folder.read_edits(), {case.id for case in pending}
    return sum(records[case.id].status != "unscored" for case in cases if case.id not in waiting)


def _count_prompts(world: World, systems: Sequence[tuple[System, list[Case]]], out: Path) -> None:
    """Keep how many prompts of each system are longer than its text encoder takes, and say it where some are.

    Those of the cases that an earlier command asked count as well: the report is about all of them.
    """
    from clbench.backbones import backbone_folder
    from clbench.prompt_lengths import count_prompts, sentence, token_counter, write_lengths
    from clbench.results import RunFolder
    from clbench.systems import BY_BACKBONE

    if not any(system.card.kind in BY_BACKBONE for system, _ in systems):
        return
    tokens = token_counter(world, backbone_folder(world))
    for system, cases in systems:
        asked = [*cases, *(record.case for record in RunFolder.open(out / system.card.name).read_edits().values())]
        found = count_prompts(system, asked, world, tokens) if tokens is not None else None
        if found is None:
            continue
        write_lengths(found, out / system.card.name)
        if words := sentence(system.card.name, found):
            say(words, "yellow")


def _say_taken(run: Path, count: int) -> None:
    say(f"{run.name}: {count} pictures of the same cases are taken over from {run}")


def _write_gram(out: Path, world: World, bench: Bench) -> None:
    """How alike the prompts are, by the backbone that was just used; a backbone that cannot tell says why."""
    from clbench.gram import write_gram

    try:
        write_gram(out, bench.backbone, [world.effect(effect) for effect in bench.effects])
    except ClbenchError as error:
        say(f"no gram.json: {error}", "yellow")


def _say_failures(folders: Sequence) -> None:
    for folder in folders:
        failed = [record for record in folder.read_edits().values() if record.status == "failed"]
        if failed:
            others = ", ".join(record.id for record in failed[1:SHOWN]) + (", ..." if len(failed) > SHOWN else "")
            first = f"the first: {failed[0].id}: {failed[0].reason}" + (f"; further {others}" if others else "")
            count = f"{len(failed)} edit{'s' if len(failed) > 1 else ''} failed"
            say(f"{folder.path.name}: {count}, {first}", "yellow")


def _all_failed(folder: RunFolder, cases: Sequence[Case]) -> bool:
    """Whether `cases` were asked of a system and none of them has a picture."""
    records = folder.read_edits()
    states = {records[case.id].status for case in cases if case.id in records}
    return "failed" in states and "ok" not in states


SHOWN = 20
"""Failed edits that are named on the terminal; edits.jsonl has them all."""
ALL = "all"
NOT_IN_ALL = frozenset({"demo", "ablation"})
"""Suites that ask nothing that another one does not ask on as many sources."""


def evaluate(order: Order) -> list[str]:
    """Edit, score and report; returns the systems of which every edit failed. Bad input, and weights that the metrics lack, are
    said before the first picture is made.

    A suite of kind `memory` makes no pictures and is measured instead.
    """
    if order.suite == ALL:
        return evaluate_all(order)
    if suite_kind(find_suite(order.suite)) == "memory":
        report(measure(order), order.world, None)
        return []
    from clbench.encoders import open_encoders

    world, suite = load_world(order.world), load_suite(order.suite)
    check(order, world, suite)
    open_encoders(world, suite.metrics)
    with replacing(order.overwrite) as gone:
        out, lost = edit(order)
        gone()
        score(out, order.world, order.suite)
        report(out, order.world, order.suite)
    return lost


def measure(order: Order, left_out: bool = True) -> Path:
    """Measure what deployment costs (a suite of kind `memory`), show table and path of memory.json; returns its folder. What of
    the suite is `left_out`, or measured without an accelerator, is said.
    """
    from clbench.lock import hold
    from clbench.memory import measure as memory
    from clbench.memory.fit import fit
    from clbench.memory.record import FILE
    from clbench.memory.suite import load_memory_suite
    from clbench.memory.table import overview

    if order.systems or order.effects or order.images or order.limit or order.strict or order.retry_failed:
        raise ClbenchError("a suite of kind 'memory' takes --world, --out and --overwrite only; the rest stands in its file")
    world, suite = load_world(order.world), load_memory_suite(order.suite)
    out = order.out or Path("runs") / f"{suite.name}-{world.name}"
    for sentence in fit(world, suite).sentences if left_out else ():
        say(f"suite {suite.name}: {sentence}", "yellow")
    with replacing(order.overwrite) as gone, hold(out), progress() as bar:
        task = bar.add_task(suite.name, total=None)

        def seen(what: str, done: int, total: int) -> None:
            gone()
            bar.update(task, description=what, completed=done, total=total)

        found = memory.measure(world, suite, out, seen, order.overwrite)
    print_table(*overview(found))
    if found.failed():
        named = ", ".join(point.id for point in found.failed())
        say(f"could not be measured: {named}; the same command tries again", "yellow")
    show(str(out / FILE))
    return out


def evaluate_all(order: Order) -> list[str]:
    """Every shipped suite that this world can answer, into a folder for each, and one report of all of them; returns the systems
    of which every edit of a suite failed, with that suite.

    Every suite is checked before the first picture is made; one that the world cannot answer is named with its reason, and so
    are the systems that are left out of the others.
    A picture that another suite made already is taken over. Suites of kind `memory` come last; they are left out where only
    a part is asked for, since they measure whole pools. In a world without teachers, operators and reference pairs they are all
    that is done. ClbenchError where nothing is left.
    """
    from clbench.encoders import open_encoders

    world = load_world(order.world)
    out = order.out or Path("runs") / f"{ALL}-{world.name}"
    suites, reason = answerable(order, world, out)
    part = bool(order.systems or order.effects or order.limit or order.images)
    measured = [] if part else measurable(world, out, order.overwrite)
    if not suites and not (measured and world.lack("teachers") and not world.known):  # there is nothing to ask of pictures
        raise ClbenchError(reason)
    for sentence in dict.fromkeys(suite.asked_instead(world) for suite in suites):
        if sentence:
            say(sentence, "yellow")
    if not names(order.systems):
        for sentence in _idle(world, suites, measured):
            say(sentence, "yellow")
    open_encoders(world, [metric for suite in suites for metric in suite.metrics])
    lost = []
    with replacing(order.overwrite) as gone:
        if order.overwrite:  # of all suites at once: stopped in one of them, the command goes on without --overwrite
            _forget(order, world, suites, measured, out)
            gone()
        for suite in suites:
            part = replace(order, suite=suite.name, out=out / suite.name, overwrite=False)
            _, failed = edit(part, [out / other.name for other in suites if other is not suite], left_out=False)
            lost += [f"{name} (suite {suite.name})" for name in failed]
            score(out / suite.name, order.world, suite.name)
        for name in measured:
            part = replace(order, suite=name, out=out / name, strict=False, retry_failed=False, overwrite=False)
            measure(part, left_out=False)
        report(out, order.world, None)
    return lost


def _forget(order: Order, world: World, suites: Sequence[Suite], measured: Sequence[str], out: Path) -> None:
    """Remove the results in `out` that this command makes anew."""
    from clbench.memory.record import FILE

    clear_all(out / suite.name / system for suite in suites for system in chosen_systems(world, suite, order))
    for name in measured:
        (out / name / FILE).unlink(missing_ok=True)


def _idle(world: World, suites: Sequence[Suite], measured: Sequence[str]) -> list[str]:
    """What is not as these suites, and those `measured`, say it in this world, in sentences; a reason once for all of them."""
    from clbench.memory.fit import fit
    from clbench.memory.suite import load_memory_suite

    fits = {name: fit(world, load_memory_suite(name)) for name in measured}
    idle = [one for suite in suites for one in suite.idle(world)] + [one for held in fits.values() for one in held.left_out]
    alone = [f"suite {name}: {held.alone.sentence}" for name, held in fits.items() if held.alone]
    return [*(one.sentence if suites else one.advised for one in of_all(idle)), *alone]  # those `measured` take no --system


def measurable(world: World, out: Path, overwrite: bool = False) -> list[str]:
    """The shipped suites of kind `memory` for which this world has the adapters, and the disk of `out` the room; each of the
    others is said.
    """
    from clbench.memory.measure import foresee
    from clbench.memory.suite import load_memory_suite

    found = []
    for name in shipped_suites("memory"):
        try:
            foresee(world, load_memory_suite(name), out / name, overwrite)
        except ClbenchError as error:
            say(f"suite {name} is left out: {error}", "yellow")
            continue
        found.append(name)
    return found


def answerable(order: Order, world: World, out: Path) -> tuple[list[Suite], str]:
    """The shipped suites for which this world has cases and adapters; each of the others is said, with what it lacks.

    Where none is left also why, in a sentence: the reason, if all have the same one. ClbenchError for a name that nothing has:
    one mistake, not one of every suite.
    """
    check_given(order, world)
    found, reasons = [], set()
    for name in shipped_suites():
        if name in NOT_IN_ALL:
            continue
        suite = load_suite(name)
        try:
            check(replace(order, suite=name, out=out / name), world, suite)
            if reason := unanswerable(world, suite):
                raise ClbenchError(reason)
        except ClbenchError as error:
            say(f"suite {name} is left out: {error}", "yellow")
            reasons.add(str(error))
            continue
        found.append(suite)
    why = reasons.pop() if len(reasons) == 1 else f"world {world.name} can answer none of the shipped suites"
    return found, "" if found else why


def score(out: Path, world_name: str | None, suite_name: str, again: bool = False) -> None:
    """Compute the suite's metrics for every run in `out`, in the runs' own world unless named; ClbenchError for a run of another
    world or suite. Runs that have these scores already keep them, unless `again`.
    """
    from clbench.lock import hold
    from clbench.results import find_runs, require_named
    from clbench.score import score_runs

    runs, suite = find_runs(out), load_suite(suite_name)
    world = load_world(world_name or require_shipped("world", runs[0].info.world.name))
    require_named(runs, world.name)
    require_alike(runs, world, suite)
    with hold(*(folder.path for folder in runs)):
        with progress() as bar:
            tasks = {f.path: bar.add_task(f"score {f.path.name}", total=len(f.read_edits())) for f in runs}
            told = lambda folder, done, _: bar.update(tasks[folder.path], completed=done)  # noqa: E731
            kept = score_runs(runs, world, suite, told, keep=not again)
            for folder in kept:
                told(folder, len(folder.read_edits()), 0)
        if kept:
            say(f"{len(kept)} of {len(runs)} runs have these scores already; `clbench score --again` computes them anew")
        if suite.table.sets:
            from clbench.score_sets import score_sets

            score_sets(runs, world, suite, keep=not again)


def report(
    out: Path, world_name: str | None, suite_name: str | None, budget: float | None = None, side: int | None = None
) -> None:
    """Render the report of `out` and show its path; world and suite are those of the runs unless named. `budget`: bytes for
    pictures, `side`: their largest side in px; None = the usual ones.
    """
    from clbench.report import write_report

    for path in write_report(out, world_name, suite_name, budget, side):
        show(str(path))
