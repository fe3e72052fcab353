"""Which systems a world can run, and which it cannot and why; reads no more of LoRA files than their headers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from clbench.left_out import LeftOut, grouped, listed
from clbench.merging import METHODS
from clbench.registry import ClbenchError
from clbench.systems import ACCELERATED, CONTROLS, MERGED, NEEDS, SYSTEMS, system_kind
from clbench.systems.merged import why_not_merged
from clbench.world import World
from clbench.world_adapters import AdapterTable, Lack


def runnable(world: World, broken: Collection[str] = ()) -> tuple[list[str], list[LeftOut]]:
    """The systems (no controls, no pictures made elsewhere) that can be run, and the others, one `LeftOut` for each reason.

    `broken` are LoRAs that are named and cannot be used, by what `clbench doctor` calls them: "teachers", "accelerator",
    "joint", "candidate NAME". Their systems are no lack of the world file, so nothing leaves them out.
    """
    named = [name for system in SYSTEMS for name in _names(system, world) if system not in (*CONTROLS, "reseed", "folder")]
    against = [(name, lack) for name in named for lack in _against(name, world, broken)]
    if "teachers" not in broken and not _lack(world, "teachers"):
        merges = [name for name in named if name.startswith(MERGED)]
        against += [(name, Lack(why, "")) for name, why in why_not_merged(world, merges, world.taught).items() if why]
    idle = {name for name, _ in against}
    return [name for name in named if name not in idle], grouped("system", against)


def _names(system: str, world: World) -> list[str]:
    """The system, and in the place of ``collection`` those of all candidates."""
    more = [f"collection-{table.name}" for table in world.table.candidates[1:]] if system == "collection" else []
    return [system, *more]


def _against(name: str, world: World, broken: Collection[str]) -> list[Lack]:
    """What stands against a system: files that the world does not name, and such as cannot be used."""
    found = []
    for need in NEEDS.get(system_kind(name), ()):
        file = _candidate(name, world) if need == "candidates" else need
        if lack := _lack(world, need):
            found.append(lack)
        elif file in broken:
            found.append(Lack(f"see '{file}'", ""))
    return found


def _lack(world: World, table: AdapterTable) -> Lack | None:
    """`World.lack`; None also of a folder that is not there, which is said of the file."""
    try:
        return world.lack(table)
    except ClbenchError:
        return None


def _candidate(name: str, world: World) -> str:
    """What `clbench doctor` calls the file of a collection."""
    first = [table.name for table in world.table.candidates[:1]]
    return " ".join(["candidate", *([name.removeprefix("collection-")] if "-" in name else first)])


def told(one: LeftOut) -> str:
    """Why systems cannot be run, in a sentence; with what the world file wants for them, where that is the reason."""
    it = "them" if len(one.names) > 1 else "it"
    why, remedy = one.lack.why, one.lack.remedy
    advice = f"; {remedy} to run {it}" if remedy else ""
    return f"{listed(shortened(one.names))}: {why}{advice}"


def shortened(names: Sequence[str]) -> list[str]:
    """``merged-<method>`` for the merges by all methods, where all are there."""
    for end in ("", ACCELERATED):
        every = [f"{MERGED}{method}{end}" for method in METHODS]
        if {*every} <= {*names}:
            names = [f"{MERGED}<method>{end}" if name == every[0] else name for name in names if name not in every[1:]]
    return list(names)
