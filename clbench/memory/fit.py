"""Which of a suite's systems are measured in a world, and what is not measured as the suite says. Reads no LoRA file."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.left_out import LeftOut, grouped, listed
from clbench.memory.points import ALONE, BESIDE
from clbench.memory.suite import Measured, MemorySuite
from clbench.registry import ClbenchError
from clbench.world import World
from clbench.world_adapters import AdapterTable, Lack

NEEDS: dict[Measured, AdapterTable] = {
    "cascade": "teachers", "teacher": "teachers", "merged": "teachers", "merged-cat": "teachers", "collection": "candidates",
}  # fmt: skip
"""The table of the world file without which a system has nothing to measure."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Teachers that are measured without the accelerator that the world lacks.

    `instead`: system `teacher` in place of `cascade`. `merges`: systems of merged teachers.
    """

    instead: bool
    merges: tuple[str, ...]
    lack: Lack

    @property
    def sentence(self) -> str:
        """As it is said while work goes on."""
        said = [f"{ALONE} is measured in place of cascade"] if self.instead else []
        if self.merges:
            said.append(f"{listed(self.merges)} {'are' if len(self.merges) > 1 else 'is'} measured without it")
        return f"{self.lack.why}, so {', and '.join(said)}, at full steps; {self.lack.remedy} to measure with it"

    @property
    def short(self) -> str:
        """As a report says it: without advice, and without paths of this machine."""
        said = [*([f"{ALONE} in place of cascade"] if self.instead else []), *([listed(self.merges)] if self.merges else [])]
        return f"{'; '.join(said)} ({self.lack.why})"


@dataclass(frozen=True, slots=True)
class Fit:
    """A suite in a world: the `systems` that are measured, those that are left out, and what is measured without accelerator."""

    systems: tuple[Measured, ...]
    left_out: tuple[LeftOut, ...] = ()
    alone: Alone | None = None

    @property
    def sentences(self) -> list[str]:
        """What is not as the suite says, as it is said while work goes on."""
        return [*(one.advised for one in self.left_out), *([self.alone.sentence] if self.alone else [])]


def fit(world: World, suite: MemorySuite) -> Fit:
    """The systems that the world names files for; in a world without accelerator `teacher` in place of `cascade`.

    ClbenchError where none is left, and for a folder of teachers that is named and is not there.
    """
    lacks: list[tuple[Measured, Lack]] = [(name, lack) for name in suite.systems if (lack := world.lack(NEEDS[name]))]
    lack, lacking = world.lack("accelerator"), {name for name, _ in lacks}
    beside = [name for name in suite.systems if lack and name in BESIDE and name not in lacking]
    if lack and "cascade" in beside and ALONE in suite.systems:  # which the suite asks for by itself
        lacks.append(("cascade", lack))
        beside.remove("cascade")
    left_out, idle = grouped("system", lacks), {name for name, _ in lacks}
    systems: list[Measured] = [
        ALONE if name == "cascade" and name in beside else name for name in suite.systems if name not in idle
    ]
    if not systems:
        whys = " and ".join(f"{one.lack.why} (for {listed(one.names)})" for one in left_out)
        remedies = " or ".join(one.lack.remedy for one in left_out)
        raise ClbenchError(f"nothing would be left of suite {suite.name}: {whys}; {remedies}")
    merges = tuple(dict.fromkeys(name for name in beside if name != "cascade"))
    alone = Alone("cascade" in beside, merges, lack) if lack and beside else None
    return Fit(tuple(systems), tuple(left_out), alone)
