"""A suite: a question, its cases, systems and metrics; read from one strict TOML file.

Every key is documented in ``suites/bleeding.toml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from clbench.provenance import hash_value
from clbench.registry import ClbenchError, suggestion
from clbench.tables import Table, read_table, read_toml
from clbench.types import Case
from clbench.world import World, shipped_folder

KINDS = ("pictures", "memory")
"""What a suite can be about: pictures of systems, or what deploying them costs (`clbench.memory`)."""


class SuiteTable(Table):
    """The whole file. Suites of another `kind` have tables of their own (see `suite_kind`)."""

    kind: Literal["pictures"] = "pictures"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str
    effects: Literal["taught", "all"] | tuple[str, ...] = "taught"
    sources: int | tuple[str, ...]
    seeds: int | tuple[int, ...] = (0,)
    steps: tuple[int, ...] = ()
    systems: tuple[str, ...]
    controls: tuple[str, ...] = ()
    metrics: tuple[str, ...]


class Suite:
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

    @property
    def steps(self) -> list[int | None]:
        """Numbers of steps asked of every system; ``[None]`` = each system's own."""
        return list(self.table.steps) or [None]

    @cached_property
    def hash(self) -> str:
        return hash_value(self.table.model_dump(include={"effects", "sources", "seeds", "steps"}))

    def effects(self, world: World, only: Sequence[str] = ()) -> list[str]:
        """Effect ids of this suite in `world`, in catalogue order, kept to `only` if given.

        ClbenchError for an unknown effect, one outside the suite, or a suite left without effects.
        """
        asked = self.table.effects
        if asked == "taught":
            chosen = world.taught
            if not chosen:
                raise ClbenchError(
                    f"suite {self.name} asks for the taught effects, but world {world.name} has no teacher "
                    "adapter; train some with `clbench train --stage teachers` or name effects in the suite"
                )
        else:
            chosen = list(world.effects) if asked == "all" else [world.effect(e).id for e in asked]
        for effect_id in only:
            if world.effect(effect_id).id not in chosen:
                raise ClbenchError(
                    f"effect '{effect_id}' is not part of suite {self.name}.{suggestion(effect_id, chosen)}"
                )
        return [effect_id for effect_id in chosen if not only or effect_id in only]

    def sources(self, world: World, limit: int | None = None) -> list[str]:
        """Source ids, at most `limit`; ClbenchError if the world has fewer than asked for."""
        asked = self.table.sources
        if isinstance(asked, int):
            if asked > len(world.sources):
                raise ClbenchError(
                    f"suite {self.name} asks for {asked} sources, but world {world.name} has "
                    f"{len(world.sources)}"
                )
            chosen = [source.id for source in world.sources[:asked]]
        else:
            chosen = [world.source(source_id).id for source_id in asked]
        return chosen if limit is None else chosen[:limit]

    def cases(self, world: World, effects: Sequence[str] = (), limit: int | None = None) -> list[Case]:
        """All cases: effects (kept to `effects` if given) x sources (at most `limit`) x seeds x steps."""
        return [
            Case(effect, source, seed, steps)
            for effect in self.effects(world, effects)
            for source in self.sources(world, limit)
            for seed in self.seeds
            for steps in self.steps
        ]

    def _check(self) -> None:
        from clbench.metrics import METRICS
        from clbench.systems import check_system_name

        for name in self.metrics:
            if name not in METRICS:
                raise ClbenchError(f"{self.file}: unknown metric '{name}'.{suggestion(name, METRICS)}")
        for name in (*self.systems, *self.controls):
            check_system_name(name, self.file)
        if not self.seeds or not self.metrics:
            raise ClbenchError(f"{self.file}: a suite needs at least one seed and one metric")


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
