"""A suite: a question, its cases, systems and metrics; read from one strict TOML file.

Every key is documented in ``suites/bleeding.toml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from clbench.left_out import some
from clbench.probes import PROBES
from clbench.provenance import hash_value
from clbench.registry import ClbenchError, suggestion
from clbench.sources import GROUPS
from clbench.suite_file import SuiteTable
from clbench.suite_systems import CANDIDATES, JOINTS, MERGED, AskedSystems
from clbench.tables import read_table, read_toml
from clbench.types import Case, seed_from
from clbench.world import World, shipped_folder, shipped_worlds

__all__ = ["Suite", "SuiteTable", "find_suite", "load_suite", "ordered_pairs", "shipped_suites", "suite_kind"]
KINDS = ("pictures", "memory")
"""What a suite can be about: pictures of systems, or what deploying them costs (`clbench.memory`)."""
FULL: Literal["full"] = "full"


class Suite(AskedSystems):
    """What is asked. `hash` covers what the cases are; metrics carry their own versions."""

    def __init__(self, file: Path, table: SuiteTable) -> None:
        self.file, self.table = file, table
        self.name, self.question = table.name, table.question
        self.systems, self.controls, self.metrics = (
            list(table.systems),
            list(table.controls),
            list(table.metrics),
        )
        self._check()

    @property
    def seeds(self) -> list[int]:
        return list(range(self.table.seeds)) if isinstance(self.table.seeds, int) else list(self.table.seeds)

    def steps(self, world: World) -> list[int | None]:
        """Numbers of steps asked of every system, "full" being the world's; ``[None]`` = each system's own."""
        full = world.backbone.full_steps
        return list(dict.fromkeys(full if step == FULL else step for step in self.table.steps)) or [None]

    @cached_property
    def hash(self) -> str:
        return hash_value(self.table.asked())

    def effects(self, world: World, only: Sequence[str] = ()) -> list[str]:
        """Effect ids of this suite in `world`, in catalogue order, kept to `only` if given.

        In a world without any teacher, "taught" stands for the effects whose right answer is known (see `asked_instead`).
        ClbenchError for an unknown effect, one outside the suite, or a suite left without effects.
        """
        asked, taught = self.table.effects, world.taught if self.table.effects == "taught" else []
        if asked == "taught":
            chosen = taught or self._without_teachers(world)
        else:
            chosen = list(world.effects) if asked == "all" else [world.effect(e).id for e in asked]
        for effect_id in only:
            if world.effect(effect_id).id not in chosen:
                which = "have a teacher LoRA" if taught else "have an operator or reference pairs, as there is no teacher"
                why = f", which asks the effects that {which}" if asked == "taught" else ""
                raise ClbenchError(f"effect '{effect_id}' is not part of suite {self.name}{why}")
        return [effect_id for effect_id in chosen if not only or effect_id in only]

    def _without_teachers(self, world: World) -> list[str]:
        """What "taught" stands for without teachers; ClbenchError where no right answer is known or their folder is not there."""
        if world.lack("teachers") and (known := world.known):
            return known
        raise ClbenchError(
            f"suite {self.name} asks for the taught effects, but world {world.name} has no teacher adapter, and no effect has an "
            f"operator or reference pairs; {world.teachers_wanted}, train some with `clbench train --stage teachers`, give pairs "
            "in [references] or name effects in the suite"
        )

    def asked_instead(self, world: World) -> str:
        """Which effects are asked in a world without teachers, and which are not, in a sentence; "" where the taught ones are."""
        if self.table.effects != "taught" or world.taught or not (lack := world.lack("teachers")):
            return ""
        known = self.effects(world)
        told = f"{lack.why}, so instead of taught effects those with an operator or reference pairs are asked: {some(known)}"
        unknown = [effect_id for effect_id in world.effects if effect_id not in known]
        return f"{told}; not asked, since nothing tells their right answer: {some(unknown)}" if unknown else told

    def sources(self, world: World, limit: int | None = None) -> list[str]:
        """Source ids, at most `limit` (of each group); ClbenchError if the world has fewer than asked for."""
        asked = self.table.sources
        if self.table.groups:
            assert isinstance(asked, int)
            count = asked if limit is None else min(asked, limit)
            return [source for group in self.table.groups for source in world.source_group(group, count)]
        if isinstance(asked, int):
            asked = asked if limit is None else min(asked, limit)
            if asked > len(world.sources):
                raise ClbenchError(
                    f"suite {self.name} asks for {asked} sources, but world {world.name} has {len(world.sources)}; "
                    f"--limit {len(world.sources)} asks for so many"
                )
            chosen = [source.id for source in world.sources[:asked]]
        else:
            chosen = [world.source(source_id).id for source_id in asked]
        return chosen if limit is None else chosen[:limit]

    def cases(self, world: World, effects: Sequence[str] = (), limit: int | None = None) -> list[Case]:
        """All cases: effects (kept to `effects` if given) x sources (at most `limit`) x seeds x steps, plain and by probes.

        A suite with `pairs` asks for ordered pairs of effects instead of single ones.
        """
        kept, sources = self.effects(world, effects), self.sources(world, limit)
        probed = set(sources if self.table.probe_sources is None else sources[: self.table.probe_sources])
        if self.table.pairs is None:
            what = [(effect, "") for effect in kept]
        else:
            what = [pair for pair in ordered_pairs(self.effects(world), self.table.pairs) if set(pair) <= set(kept)]
        return [
            Case(effect, source, seed, steps, probe, second)
            for effect, second in what
            for source in sources
            for seed in self.seeds
            for steps in self.steps(world)
            for probe in ("", *(self.table.probes if source in probed else ()))
        ]

    def _check(self) -> None:
        from clbench.metrics import METRICS, SET_METRICS
        from clbench.systems import check_system_name

        for name in self.metrics:
            if name not in METRICS:
                raise ClbenchError(f"{self.file}: unknown metric '{name}'.{suggestion(name, METRICS)}")
        for name in (*self.systems, *self.controls):
            if name not in (CANDIDATES, JOINTS, MERGED):
                check_system_name(name, self.file)
        for name in self.table.sets:
            if name not in SET_METRICS:
                raise ClbenchError(f"{self.file}: unknown set-level metric '{name}'.{suggestion(name, SET_METRICS)}")
        if not self.seeds or not self.metrics:
            raise ClbenchError(f"{self.file}: a suite needs at least one seed and one metric")
        self._check_probes()
        self._check_groups()

    def _check_probes(self) -> None:
        for name in self.table.probes:
            if name not in PROBES:
                raise ClbenchError(f"{self.file}: unknown probe '{name}'.{suggestion(name, PROBES)}")
            if PROBES.get(name).composed != (self.table.pairs is not None):
                asks = "pairs of effects" if PROBES.get(name).composed else "single effects"
                raise ClbenchError(f"{self.file}: probe '{name}' is one of {asks}; this suite has none ('pairs')")

    def _check_groups(self) -> None:
        for name in self.table.groups:
            if name not in GROUPS:
                raise ClbenchError(f"{self.file}: unknown group of sources '{name}'.{suggestion(name, GROUPS)}")
        if self.table.groups and not isinstance(self.table.sources, int):
            raise ClbenchError(f"{self.file}: with 'groups', 'sources' is the number of sources of each group, not a list")


def ordered_pairs(effects: Sequence[str], count: int) -> list[tuple[str, str]]:
    """At most `count` ordered pairs of different `effects`, always in both orders: (a, b), (b, a).

    The choice depends on the effects alone. They are shuffled, so that pairs cross families, and paired at growing
    distance around a ring, so that every effect comes about equally often. An odd `count` is rounded up.
    """
    ring = sorted(effects, key=lambda effect: seed_from("pair", effect))
    size = len(ring)
    found: dict[frozenset[str], tuple[str, str]] = {}
    for gap in range(1, size // 2 + 1):
        for start in (*range(0, size, 2), *range(1, size, 2)):
            pair = ring[start], ring[(start + gap) % size]
            found.setdefault(frozenset(pair), pair)
    kept = list(found.values())[: -(-count // 2)]
    return [both for a, b in kept for both in ((a, b), (b, a))]


def load_suite(name: str | Path) -> Suite:
    """A shipped suite by name (``bleeding``), or a TOML file; ClbenchError if it is not about pictures."""
    file = find_suite(name)
    if (kind := suite_kind(file)) != "pictures":
        raise ClbenchError(f"suite {name} is of kind '{kind}': it makes no pictures; run it with `clbench eval --suite {name}`")
    return Suite(file, read_table(file, SuiteTable))


def suite_kind(file: Path) -> str:
    """The file's `kind`: ``pictures`` (the default) or ``memory``; ClbenchError for another one."""
    kind = str(read_toml(file)[0].get("kind", "pictures"))
    if kind not in KINDS:
        raise ClbenchError(f"{file}: unknown kind '{kind}'.{suggestion(kind, KINDS)}")
    return kind


def find_suite(name: str | Path) -> Path:
    """The TOML file meant by `name`; ClbenchError with the nearest shipped name otherwise."""
    shipped = {suite: file for kind in KINDS for suite, file in shipped_suites(kind).items()}
    if str(name) in shipped:
        return shipped[str(name)]
    if Path(name).is_file():
        return Path(name).resolve()
    raise ClbenchError(
        f"no suite '{name}': neither a shipped suite nor a TOML file.{suggestion(str(name), shipped)}"
    )


def shipped_suites(kind: str = "pictures") -> dict[str, Path]:
    """Name -> file of every shipped suite of a kind."""
    found = sorted(shipped_folder().glob("*.toml"))
    return {path.stem: path for path in found if suite_kind(path) == kind}


def require_shipped(what: Literal["world", "suite"], name: str) -> str:
    """`name` if a shipped world or suite has it, so that runs can be read by it alone; ClbenchError otherwise."""
    if name not in (shipped_worlds() if what == "world" else shipped_suites()):
        raise ClbenchError(f"the runs are of {what} '{name}', which is not a shipped one; name its file with --{what}")
    return name
