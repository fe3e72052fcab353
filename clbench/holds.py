"""Which effects one collection adapter holds, how many they are, and who says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from clbench.tensor_file import read_header
from clbench.world import World
from clbench.world_adapters import Adapter

EFFECTS_KEY = "clbench.effects"
"""Where the reference trainer writes the ids of an adapter's effects into the file's header, with spaces between them."""


@dataclass(frozen=True, slots=True)
class Holds:
    """A number of effects, and in words who says it."""

    effects: int
    told: str

    @property
    def words(self) -> str:
        return f"{self.effects} effect{'' if self.effects == 1 else 's'} ({self.told})"


def holds(world: World) -> Holds:
    """What the world's first candidate was trained on, as far as anybody says.

    ClbenchError if the world names no candidate, or its file is missing or broken.
    """
    one = world.candidate()
    if one.effects:
        return Holds(len(one.effects), "as the world file says")
    if named := named_in(read_header(one.path).get("__metadata__", {})):
        return Holds(len(named), "as its file says")
    return Holds(len(world.taught) or len(world.effects), "it does not say; the world has so many")


def named_in(header: Mapping[str, str]) -> tuple[str, ...]:
    """Ids of the effects that an adapter's header says it was trained on; empty where it does not say."""
    return tuple(header.get(EFFECTS_KEY, "").split())


def held_by(adapter: Adapter, header: Mapping[str, str]) -> tuple[str, ...]:
    """What an adapter was trained on: as its table says, else as its file does; empty where neither says."""
    return adapter.effects or named_in(header)


def trained_on(world: World, name: str | None, header: Mapping[str, str], asked: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """(all, new) effects of the candidate of that name, if it is not to be `asked` every effect; else both are empty.

    The world file has the first word. Where it is silent, the file's header counts (see `named_in_part`).
    """
    one = world.candidate(name)
    if one.effects:
        return one.effects, one.new
    named = named_in_part(header, asked)
    return (named, world.beyond(one.name, named)) if named else ((), ())


def named_in_part(header: Mapping[str, str], asked: Collection[str]) -> tuple[str, ...]:
    """The effects that an adapter's header names, if it lacks one of `asked`; else empty.

    One that has them all says nothing that would change a run, and older cards hold.
    """
    named = named_in(header)
    return () if set(asked) <= set(named) else named
