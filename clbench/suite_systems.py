"""Which of a suite's systems and controls a world can run, and why not the others; reads no more of LoRA files than headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from clbench.left_out import LeftOut, grouped, listed
from clbench.registry import ClbenchError
from clbench.suite_file import SuiteTable
from clbench.types import NEUTRAL
from clbench.world import World
from clbench.world_adapters import Lack

CANDIDATES, JOINTS, MERGED = "candidates", "joints", "merged"
"""Words of a suite that stand for systems of the world."""
MERGED_BY, WRONG = "linear", "wrong-effect"
"""The method that the word "merged" stands for (peft's default), and the control that needs a second effect."""
OF_TRUTH = ("truth", WRONG, "noise-floor")
"""Controls that repeat the truth, which a teacher's pictures cannot give them."""


class AskedSystems(Protocol):
    """The part of a suite that is about systems and controls."""

    name: str
    table: SuiteTable
    systems: list[str]
    controls: list[str]

    def effects(self, world: World, only: Sequence[str] = ()) -> list[str]:
        """Effect ids of this suite in `world`."""
        ...

    def systems_in(self, world: World) -> list[str]:
        """The suite's systems, with those that a word stands for in its place, as far as the world names files for them.

        "candidates": every candidate of the world whose file is there, the others are left out (ClbenchError if none is).
        "joints": the joint LoRA without and with the accelerator. "merged": merged-linear. Systems without a file that is named
        (`clbench.systems.NEEDS`) and merges for which the world's teachers do not fit are left out; `left_out` says which.
        """
        return self._opened(self.systems, world)

    def merged_in(self, world: World) -> list[str]:
        """Those of `systems_in` that merge the teachers."""
        return self._opened(self._merges, world)

    def _opened(self, words: Sequence[str], world: World) -> list[str]:
        unfit = {name for name, _ in self._unfit(words, world)}
        return [name for name in self._all_meant(words, world) if name not in unfit]

    def controls_in(self, world: World) -> list[str]:
        """The suite's controls without those that cannot be made: the truth is a teacher's, or no effect is the wrong one."""
        idle = self._idle_controls(world)
        return [name for name in self.controls if name not in idle]

    def _idle_controls(self, world: World) -> dict[str, str]:
        """Control -> why it cannot be made in this world."""
        asked = [name for name in OF_TRUTH if name in self.controls]
        if NEUTRAL in self.table.probes:  # whose right answers need no operator
            asked = [name for name in asked if name != "truth"]
        effects = self.effects(world) if asked else []
        if asked and not any(world.truth_kind(effect) in ("operator", "reference") for effect in effects):
            return dict.fromkeys(asked, "no effect has a known operator or pairs of pictures, so no control can repeat the truth")
        lonely = WRONG in asked and len(effects) < 2
        return {WRONG: "there is a single effect, so none is the wrong one"} if lonely else {}

    def idle(self, world: World) -> list[LeftOut]:
        """The suite's systems and controls that cannot be run in this world, one for each reason."""
        controls = [(name, Lack(why, "")) for name, why in self._idle_controls(world).items()]
        absent = Lack(f"the file that world {world.name} names is not there", "")
        untrained = [(name, absent) for name in self._untrained(world) if name not in self.systems]
        return [*grouped("system", [*self._unfit(self.systems, world), *untrained]), *grouped("control", controls)]

    def left_out(self, world: World) -> list[str]:
        """`idle` in sentences."""
        return [f"suite {self.name}: {one.sentence}" for one in self.idle(world)]

    def nothing_left(self, world: World) -> str:
        """Why nothing but controls would be run in this world, in a sentence; "" where a system is, or is not asked for."""
        from clbench.systems import CONTROLS

        idle = grouped("system", self._unfit(self.systems, world))
        if not idle or {*self.systems_in(world)} - {*CONTROLS, "reseed"}:
            return ""
        whys = " and ".join(f"{one.lack.why} (for {listed(one.names)})" for one in idle)
        remedies = " and ".join(dict.fromkeys(one.lack.remedy for one in idle if one.lack.remedy))
        advice = f"{remedies}, or name other systems with --system" if remedies else "name other systems with --system"
        return f"nothing but controls would be left of suite {self.name}: {whys}; {advice}"

    def _meant(self, word: str, world: World) -> list[str]:
        if word == CANDIDATES:
            return _candidates(world, self.name)
        if word == JOINTS:
            return ["joint", "joint+accelerator"]
        return [f"{MERGED}-{MERGED_BY}" if word == MERGED else word]

    def _all_meant(self, words: Sequence[str], world: World) -> list[str]:
        return list(dict.fromkeys(name for word in words for name in self._meant(word, world)))

    @property
    def _merges(self) -> list[str]:
        return [word for word in self.systems if word.partition("-")[0] == MERGED]

    def _unfit(self, words: Sequence[str], world: World) -> list[tuple[str, Lack]]:
        """Those of the systems behind `words` that the world names no file for, and merges that cannot be made, with the reason.

        ClbenchError for a broken teacher file, and for a file that is named and not there where it is looked at.
        """
        from clbench.systems import lacks
        from clbench.systems.merged import why_not_merged

        meant = self._all_meant(words, world)
        found = [(name, lack) for name in meant for lack in lacks(world, name)]
        merges = [name for name in meant if name.partition("-")[0] == MERGED]
        if not merges or world.lack("teachers"):
            return found
        reasons = why_not_merged(world, merges, self.effects(world))
        return [*found, *((name, Lack(why, "")) for name, why in reasons.items() if why)]

    def _untrained(self, world: World) -> list[str]:
        """The systems behind the word "candidates" whose file is not there (yet)."""
        if CANDIDATES not in self.systems:
            return []
        trained = world.trained_candidates
        return _collections(world, [table.name for table in world.table.candidates if table.name not in trained])


def _candidates(world: World, suite: str) -> list[str]:
    """The systems of all candidates whose file is there; the first one's where the world names none (see `Suite.idle`)."""
    if world.lack("candidates"):
        return ["collection"]
    trained = world.trained_candidates
    if not trained:
        raise ClbenchError(f"suite {suite} asks for the candidates of world {world.name}, and none of their files is there")
    return _collections(world, trained)


def _collections(world: World, candidates: Sequence[str]) -> list[str]:
    """What candidates are called as systems."""
    first = [table.name for table in world.table.candidates[:1]]
    return ["collection" if [name] == first else f"collection-{name}" for name in candidates]
