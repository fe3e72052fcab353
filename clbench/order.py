"""What `eval` and `edit` are asked for, and what is refused before any work starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.left_out import listed
from clbench.registry import ClbenchError
from clbench.suite import Suite
from clbench.types import Remarking
from clbench.world import World

if TYPE_CHECKING:
    from clbench.edit import Asked
    from clbench.results import RunFolder
    from clbench.systems import Bench
    from clbench.types import Case, System

TEACHER = "teacher"
FEW_SOURCES = 8
"""From so many sources on a random effect without operator is judged about as one of which several draws are known (LOG)."""


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
    skip_bad: bool = False


def names(given: Sequence[str]) -> list[str]:
    """``["a,b", "c"]`` -> ``["a", "b", "c"]``, without repeats."""
    flat = [part.strip() for item in given for part in item.split(",") if part.strip()]
    return list(dict.fromkeys(flat))


def check(order: Order, world: World, suite: Suite) -> None:
    """What `edit` refuses, before anything is loaded: systems, adapters, sources, pictures, the folder of results."""
    from clbench.disk import check_possible
    from clbench.results import require_named, runs_in

    checked(order, world, suite)
    _require_truth(order, world, suite)
    out = folder_of(order, world, suite)
    check_possible(out)
    chosen = chosen_systems(world, suite, order)  # their own runs are looked at where they go on
    held = runs_in(out)
    require_named([] if order.overwrite else held, world.name)
    require_alike([run for run in held if run.path.name not in chosen], world, suite)


def checked(order: Order, world: World, suite: Suite) -> tuple[Bench, Asked, list[tuple[System, list[Case]]]]:
    """The systems asked for, opened, and the cases of each; ClbenchError for what they cannot work with."""
    from clbench.backbones import check_size
    from clbench.edit import Asked, bench_for, checked_cases
    from clbench.systems import open_system

    bench = bench_for(world, suite, order.images, order.strict, order.skip_bad)
    asked = Asked(names(order.effects), order.limit, order.overwrite, order.retry_failed)
    systems = [open_system(name, bench) for name in chosen_systems(world, suite, order)]
    check_size(world)  # those that need the backbone have said what else is wrong with it
    found = [(system, checked_cases(world, suite, system, asked)) for system in systems]
    missing_pairs(world, bench, found)
    return bench, asked, found


def missing_pairs(world: World, bench: Bench, systems: Sequence[tuple[System, list[Case]]]) -> list[str]:
    """What the reference pairs of the suite's effects lack for the sources of these cases; ClbenchError for an unsound one.

    Those of other sources, which tell the meter what an effect does elsewhere, are looked at as well.
    """
    from clbench.truth import pairs_elsewhere

    sources = sorted({case.source for _, cases in systems for case in cases})
    paired = [effect for effect in bench.effects if world.truth_kind(effect) == "reference"]
    found = [world.pairs.check(effect, sources) for effect in paired]
    for effect in paired:
        if others := pairs_elsewhere(world, effect):
            world.pairs.check(effect, others)
    return [sentence for sentence in found if sentence]


def folder_of(order: Order, world: World, suite: Suite) -> Path:
    """The folder of results: `--out`, or the usual one."""
    return order.out or Path("runs") / f"{suite.name}-{world.name}"


def chosen_systems(world: World, suite: Suite, order: Order) -> list[str]:
    """Those asked for, else the suite's systems and controls; `folder` too where --images is given.

    ClbenchError where the suite's are taken and the world can run none of them.
    """
    if not names(order.systems) and order.images is None and (reason := suite.nothing_left(world)):
        raise ClbenchError(reason)
    chosen = names(order.systems) or [*_with_truth(world, suite, order), *suite.controls_in(world)]
    if order.images is not None and "folder" not in chosen:
        chosen.append("folder")
    return chosen


def _with_truth(world: World, suite: Suite, order: Order) -> list[str]:
    """The suite's systems, and `teacher` where its pictures are the truth: whoever leaves it out would score nothing."""
    systems = suite.systems_in(world)
    return [TEACHER, *systems] if _judged_by_teacher(world, suite, order) and TEACHER not in systems else systems


def _judged_by_teacher(world: World, suite: Suite, order: Order) -> str:
    """The first effect asked for whose truth is what its teacher makes; "" where there is none, or no metric wants a truth."""
    from clbench.metrics import METRICS

    if not any("truth" in METRICS.get(name).needs for name in suite.metrics):
        return ""
    return next((e for e in suite.effects(world, names(order.effects)) if world.truth_kind(e) == TEACHER), "")


def _require_truth(order: Order, world: World, suite: Suite) -> None:
    """ClbenchError where the systems asked for are to be held against a teacher's pictures that nobody makes or has made."""
    effect, folder = _judged_by_teacher(world, suite, order), folder_of(order, world, suite)
    if effect and TEACHER not in chosen_systems(world, suite, order) and not (folder / TEACHER / "run.json").is_file():
        raise ClbenchError(
            f"what '{effect}' should look like is known from its teacher's pictures alone (no operator, no reference pairs), "
            f"and {folder} holds no run of {TEACHER}: name {TEACHER} among the systems as well"
        )


def check_given(order: Order, world: World) -> None:
    """ClbenchError for a system or an effect that was typed and that no suite can know."""
    from clbench.systems import check_system_name

    for name in names(order.systems):
        check_system_name(name, "--system")
    for effect in names(order.effects):
        world.effect(effect)


def unanswerable(world: World, suite: Suite) -> str:
    """Why the suite's pairs of effects have no right answer in this world; "" where some have one, or none is asked."""
    known = [effect for effect in suite.effects(world) if world.effect(effect).operator] if suite.table.pairs else []
    if suite.table.pairs is None or len(known) > 1:
        return ""
    return f"what two effects in turn look like is known by operators alone, which the effects of world {world.name} lack"


def notes(
    order: Order, world: World, suite: Suite, bench: Bench, systems: Sequence[tuple[System, list[Case]]], left_out: bool = True
) -> Iterator[str]:
    """What is not as the suite says it, in sentences: other effects and systems left out (unless that was said), systems added,
    right answers that are missing.
    """
    if left_out and (words := suite.asked_instead(world)):
        yield words
    if reason := unanswerable(world, suite):
        yield f"suite {suite.name}: only what needs no right answer is scored: {reason}"
    if not names(order.systems):
        yield from suite.left_out(world) if left_out else ()
        if TEACHER not in suite.systems_in(world) and (effect := _judged_by_teacher(world, suite, order)):
            yield f"system {TEACHER} is added: its pictures are the truth of '{effect}' (no operator, no pairs)"
    yield from missing_pairs(world, bench, systems)
    for system, cases in systems:
        yield from system.remarks(cases) if isinstance(system, Remarking) else ()
    yield from few_answers(world, suite, bench, systems)


def few_answers(world: World, suite: Suite, bench: Bench, systems: Sequence[tuple[System, list[Case]]]) -> Iterator[str]:
    """Random effects without a known operator whose answers on other sources are too few to tell how they vary, in sentences."""
    from clbench.metrics import METRICS
    from clbench.truth import pairs_elsewhere

    if not any("meter" in METRICS.get(name).needs for name in suite.metrics):
        return
    asked = {case.source for system, cases in systems if system.card.name == TEACHER for case in cases}
    effects = dict.fromkeys(case.effect for _, cases in systems for case in cases)
    counts = {"reference": lambda effect: len(pairs_elsewhere(world, effect)), TEACHER: lambda effect: len(asked)}
    few: dict[int, list[str]] = {}
    for effect in bench.effects:
        kind = world.truth_kind(effect)
        if effect not in effects or not world.effect(effect).random or kind not in counts:
            continue
        if 0 < (count := counts[kind](effect)) < FEW_SOURCES:
            few.setdefault(count, []).append(effect)
    for count, random in sorted(few.items()):
        yield (
            f"how {listed(random)} {'vary' if len(random) > 1 else 'varies'} is learnt from right answers on {count} "
            f"source{'s' * (count > 1)}: too few to rely on success and leak of random effects; about twenty are enough"
        )


def require_alike(runs: Sequence[RunFolder], world: World, suite: Suite) -> None:
    """ClbenchError for the first of `runs` that another world or suite made, with what of the world is another."""
    from clbench.certificate import differing_parts

    for folder in runs:
        for what, held, asked in (("world", folder.info.world, world), ("suite", folder.info.suite, suite)):
            if held.hash != asked.hash:
                parts = differing_parts(folder.info.world_parts, world.hash_parts) if what == "world" else ""
                raise ClbenchError(
                    f"{folder.path} was made with {what} '{held.name}' ({held.hash[:8]}), not with '{asked.name}' as it "
                    f"is now ({asked.hash[:8]}){parts}; name the {what} that it was made with, make it again with `clbench edit "
                    "--overwrite`, or remove it"
                )
