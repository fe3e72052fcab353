"""What `clbench train` does: start the reference trainer, which is imported only then, and show its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clbench.console import follow, progress, show
from clbench.disk import check_possible
from clbench.notices import say
from clbench.order import names
from clbench.registry import ClbenchError, Stopped
from clbench.world import load_world


def train(
    stage: str | None, recipe: str, world_name: str, effects: Sequence[str], out: Path | None, resume: bool,
    pairs: Path | None = None, extend: Path | None = None, old: Sequence[str] = (),
) -> None:  # fmt: skip
    """Run one stage of the reference trainer, or teachers, accelerator and collection in turn.

    `pairs` is a folder of before/after pictures for teachers and joint; `extend` a collection adapter to go on from.
    """
    _check_options(stage, effects, pairs, extend, old)
    world = load_world(world_name)
    for effect in names(effects):
        world.effect(effect)
    target = out or Path("runs") / f"train-{world.name}"
    check_possible(target)
    trainer, recipes, ahead = _trainer()  # seconds of imports
    read = recipes.load_recipe(recipe)
    if pairs is not None:
        read = recipes.with_pairs(read, pairs)
    started = None if extend is None else trainer.Extend(extend, names(old) or None)
    stages = [stage] if stage is not None else ["teachers", "accelerator", "collection"]
    if stage is None:
        ahead.check_ahead(read, world, names(effects) or None, target)
    with _told_between() as under_way, trainer.processes.group():
        speaks = trainer.processes.first()  # of several processes one shows and tells
        for name in stages:
            then = stages[1:] if name == "teachers" else []  # a stopped --fresh leaves nothing old that passes for finished
            with progress(speaks) as bar:
                seen = under_way(_follow(bar))
                made = trainer.run(name, read, world, names(effects) or None, target, resume, seen, started, then)
            for path in made if speaks else ():
                show(str(path))


Follow = Callable[[Any], None]


@contextmanager
def _told_between() -> Iterator[Callable[[Follow], Follow]]:
    """Inside, Ctrl-C between two trainings says that finished ones are kept; one that is left by it says so itself.

    Gives a function that wraps what follows the trainer's steps. A stage tells its first step when all that --fresh begins anew
    is begun, so from then on the command goes on without it; stopped before, nothing is lost by the same command.
    """
    steps: list[str] = []

    def watched(seen: Follow) -> Follow:
        def told(step: Any) -> None:
            steps[:] = [step.what]
            seen(step)

        return told

    try:
        yield watched
    except Stopped:
        raise
    except KeyboardInterrupt:
        if not steps:
            raise
        raise Stopped(f"what is finished is kept; the last step was of '{steps[0]}'") from None


def _check_options(
    stage: str | None, effects: Sequence[str], pairs: Path | None, extend: Path | None, old: Sequence[str]
) -> None:
    """ClbenchError for an option that would do nothing beside the others, or names nothing."""
    if extend is not None and stage is None:
        raise ClbenchError("--extend goes with --stage collection")
    if old and extend is None:
        raise ClbenchError("--old names the effects of the adapter that --extend starts from: give --extend, or leave --old out")
    if pairs is not None and stage not in (None, "teachers", "joint"):
        raise ClbenchError(f"--pairs does nothing with --stage {stage}: teachers and the joint LoRA alone are trained on pairs")
    if (effects and not names(effects)) or (old and not names(old)):
        raise ClbenchError("no effect is named")
    if effects and stage in ("base", "encoders", "accelerator"):  # no mistake: one line of options may serve every stage
        say(f"stage '{stage}' is trained for no effects of one's choice: the named ones do not change it", "yellow")


def chosen_effects(world_name: str, effects: Sequence[str], candidate: str | None, extends: bool = False) -> Sequence[str]:
    """The effects named, or those that a candidate of the world file names; ClbenchError for both at once, or for none there.

    For a training that `extends` another adapter, the new ones of a candidate that extends another one.
    """
    if candidate is None:
        return effects
    if effects:
        raise ClbenchError("--effects and --candidate both say what to train: give one of them")
    world = load_world(world_name)
    return world.extending_effects(candidate) if extends else world.candidate_effects(candidate)


def _follow(bar: Any) -> Follow:
    """A function that moves the bar of what it is told about."""
    seen = follow(bar)
    return lambda step: seen(step.what, step.done, step.total)


def _trainer() -> tuple[Any, Any, Any]:
    """The reference trainer's modules `train`, `recipe` and `ahead`; imported only when training is asked for."""
    try:
        from reference_trainer import ahead, recipe, train
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("reference_trainer"):
            raise
        raise ClbenchError(
            "the reference trainer is not installed beside clbench; install the whole repository"
        ) from None
    return train, recipe, ahead
