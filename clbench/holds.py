"""How many effects one collection adapter holds, and who says so."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.tensor_file import read_header
from clbench.world import World

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
    named = read_header(one.path).get("__metadata__", {}).get(EFFECTS_KEY, "").split()
    if named:
        return Holds(len(named), "as its file says")
    return Holds(len(world.taught) or len(world.effects), "it does not say; the world has so many")
