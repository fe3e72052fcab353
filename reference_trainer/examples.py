"""What training looks at: before/after pairs of an effect, and sources for the two streams of distillation.

In a world of scenes they are composed from the `teacher` and `distill` splits, which share no subject and no
photo with each other or with the evaluation; in a world of a user's own pictures they come from folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clbench.images import centre_square, reduce_to
from clbench.photos import photos_in
from clbench.references import check_shapes
from clbench.registry import ClbenchError
from clbench.types import Effect, seed_from
from clbench.world import World
from reference_trainer.held_out import read_training

PLAIN_INSTRUCTIONS = (
    "keep the picture as it is", "make it brighter", "make it darker", "increase the contrast",
    "reduce the contrast", "make the colours warmer", "make the colours cooler", "make the colours stronger",
)  # fmt: skip
"""General instructions for a world without a scene graph: nothing here names an effect."""

if TYPE_CHECKING:
    from clbench.scenes import Pool, Scene

Picture = np.ndarray


@dataclass(frozen=True)
class Pair:
    """A picture before and after the effect, both uint8 ``(R, R, 3)``."""

    source: Picture
    target: Picture


def place(folder: str) -> Path:
    """A folder that a recipe names: ~ is the home, a relative one lies in the current folder; absolute, since errors name it."""
    return Path(os.path.expanduser(folder)).absolute()


def teacher_pairs(world: World, effect: Effect, count: int, folder: str | None) -> list[Pair]:
    """The pairs a teacher is trained on.

    With `folder` the pictures of ``<folder>/<effect id>/source`` and ``target`` with equal file stems (all of
    them, at most `count`); without it, `count` scenes of the teacher split and the effect's known operator, a
    random effect being drawn once per pair. ClbenchError when neither is possible, or for a picture of the evaluation.
    """
    check_pairs(world, effect, folder)
    if folder is None:
        return [_operator_pair(world, effect, index) for index in range(count)]
    before, after = (photos_in(place(folder) / effect.id / side) for side in ("source", "target"))
    return [_read_pair(before[stem], after[stem], world) for stem in sorted(before)[:count]]


def _read_pair(source: Path, target: Path, world: World) -> Pair:
    before, after = read_training(source, world), read_training(target, world)
    check_shapes(source, before, target, after)
    return Pair(reduce_to(centre_square(before), world.resolution), reduce_to(centre_square(after), world.resolution))


def check_pairs(world: World, effect: Effect, folder: str | None) -> None:
    """ClbenchError unless `teacher_pairs` can work; cheap, so that all effects are checked before the first."""
    if folder is None and (effect.operator is None or world.table.sources.kind != "scenes"):
        raise ClbenchError(
            f"effect '{effect.id}' has no known operator in a world of scenes: give before/after pairs by "
            "--pairs DIR or [teachers] folder = ... in the recipe"
        )
    if folder is not None:
        home = place(folder) / effect.id
        before, after = photos_in(home / "source"), photos_in(home / "target")
        if not set(before) & set(after):
            raise ClbenchError(f"{home} holds no pair: no file stem is both in source/ and in target/")
        for stem in sorted(set(before) ^ set(after)):
            side, other = ("source", "target") if stem in before else ("target", "source")
            raise ClbenchError(f"{home / side} has a picture '{stem}' and {home / other} none: a pair has the same stem in both")


def _operator_pair(world: World, effect: Effect, index: int) -> Pair:
    from clbench.effects import apply_operator

    assert effect.operator is not None
    scene = _scene(world, "teacher", f"pairs/{effect.id}", index)
    after = apply_operator(effect.operator, scene.image, scene.mask, seed_from("pair", effect.id, index))
    return Pair(reduce_to(scene.image, world.resolution), reduce_to(after, world.resolution))


def distillation_sources(world: World, stream: str, count: int, pictures: str | None) -> list[Picture]:
    """`count` sources, uint8 ``(R, R, 3)``, for one effect (its id) or another stream, never the evaluation's.

    With `pictures` from that folder (each stream starts at another picture, repeated when there are too few).
    """
    if pictures is not None:
        return list(_from_folder(world, stream, count, pictures))
    _require_scenes(world)
    return [reduce_to(_scene(world, "distill", stream, index).image, world.resolution) for index in range(count)]


def _from_folder(world: World, stream: str, count: int | None, pictures: str) -> Iterator[Picture]:
    """`count` sources from a folder, each read when it is asked for; None: every picture once."""
    folder = place(pictures)
    files = list(photos_in(folder).values())
    if not files:
        raise ClbenchError(f"folder {folder} holds no picture to distil on")
    start = seed_from("pictures", stream) % len(files)
    for index in range(len(files) if count is None else count):
        yield _square(files[(start + index) % len(files)], world)


def general_examples(world: World, count: int, pictures: str | None) -> list[tuple[Picture, str]]:
    """`count` sources with general instructions; in a world of scenes they are edits of the scene, drawn as in base training.

    How often each is then asked for is another matter: see `accelerator.general_stream`.
    """
    if pictures is None:
        _require_scenes(world)
        return _scene_edits(world, count)
    sources = distillation_sources(world, "general", count, pictures)
    return [(source, PLAIN_INSTRUCTIONS[index % len(PLAIN_INSTRUCTIONS)]) for index, source in enumerate(sources)]


def check_sources(world: World, pictures: str | None, stage: str) -> None:
    """ClbenchError unless there is something to distil on; every picture of a folder is opened, one at a time."""
    if pictures is None and world.table.sources.kind != "scenes":
        raise ClbenchError(
            f"world {world.name} has no scenes to distil on: give a folder of pictures by 'pictures = ...' in [{stage}] of the "
            "recipe"
        )
    if pictures is not None:
        for _ in _from_folder(world, stage, None, pictures):  # which are not kept: all of them may be more than memory holds
            pass


def _scene_edits(world: World, count: int) -> list[tuple[Picture, str]]:
    from clbench.general import draw_edit

    pool = _pool(str(world.path(world.table.sources.folder)), "distill")
    examples = []
    for index in range(count):
        scene = _scene(world, "distill", "general", index)
        edit = draw_edit(scene, pool, np.random.default_rng(seed_from("general", index)))
        examples.append((reduce_to(scene.image, world.resolution), edit.instruction))
    return examples


def _require_scenes(world: World) -> None:
    if world.table.sources.kind != "scenes":
        raise ClbenchError(
            f"world {world.name} has no scenes to distil on: give a folder of pictures by 'pictures = ...' in the recipe"
        )


def _scene(world: World, split: str, stream: str, index: int) -> Scene:
    """A scene of one subject at the size where operators are applied; each stream has its own."""
    from clbench.scenes import compose, draw_spec

    pool = _pool(str(world.path(world.table.sources.folder)), split)
    rng = np.random.default_rng(seed_from("scene", split, stream, index))
    return compose(draw_spec(pool, rng), pool, world.work_size)


@lru_cache(maxsize=4)
def _pool(folder: str, split: str) -> Pool:
    from clbench.scenes import load_pool

    return load_pool(folder, split)


def _square(path: Path, world: World) -> Picture:
    return reduce_to(centre_square(read_training(path, world)), world.resolution)


def pixels(pictures: Sequence[Picture]) -> list[str]:
    """Content hashes, for keys of caches and completion marks."""
    from clbench.images import hash_pixels

    return [hash_pixels(picture) for picture in pictures]
