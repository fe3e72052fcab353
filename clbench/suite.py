"""A suite: a question, its cases, systems and metrics; read from one strict TOML file.

Every key is documented in ``suites/bleeding.toml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from clbench.hashing import code_digest
from clbench.left_out import LeftOut, grouped, listed, some
from clbench.probes import PROBES
from clbench.provenance import hash_value
from clbench.registry import ClbenchError, suggestion
from clbench.sources import GROUPS
from clbench.tables import Table, read_table, read_toml
from clbench.types import NEUTRAL, Case, seed_from
from clbench.world import World, shipped_folder, shipped_worlds
from clbench.world_adapters import Lack

KINDS = ("pictures", "memory")
"""What a suite can be about: pictures of systems, or what deploying them costs (`clbench.memory`)."""
FULL: Literal["full"] = "full"
CANDIDATES, JOINTS, MERGED = "candidates", "joints", "merged"
MERGED_BY, WRONG = "linear", "wrong-effect"
"""The method that the word "merged" stands for (peft's default), and the control that needs a second effect."""
OF_TRUTH = ("truth", WRONG, "noise-floor")
"""Controls that repeat the truth, which a teacher's pictures cannot give them."""
WORDS = ("probes.py", "neutral.py", "general.py")
"""Where the prompts of probes and compositions are made: what they do belongs to the hash of a suite that uses them."""


class SuiteTable(Table):
    """The whole file. Suites of another `kind` have tables of their own (see `suite_kind`)."""

    kind: Literal["pictures"] = "pictures"
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str
    effects: Literal["taught", "all"] | Annotated[tuple[str, ...], Field(min_length=1)] = "taught"
    sources: Annotated[int, Field(ge=1)] | Annotated[tuple[str, ...], Field(min_length=1)]
    groups: tuple[str, ...] = ()
    seeds: int | tuple[int, ...] = (0,)
    steps: tuple[Annotated[int, Field(ge=1)] | Literal["full"], ...] = ()
    probes: tuple[str, ...] = ()
    probe_sources: int | None = Field(None, ge=1)
    pairs: int | None = Field(None, ge=1)
    systems: tuple[str, ...]
    controls: tuple[str, ...] = ()
    metrics: tuple[str, ...]
    sets: tuple[str, ...] = ()
    gram: bool = False

    def asked(self) -> dict[str, object]:
        """What decides the cases; keys of later versions count only where they are used, so that older hashes hold."""
        plain = self.model_dump(include={"effects", "sources", "seeds", "steps"})
        later = self.model_dump(include={"groups", "probes", "probe_sources", "pairs"})
        plain |= {key: value for key, value in later.items() if value}
        if self.groups:
            plain["scenes of groups"] = {name: repr(GROUPS[name]) for name in self.groups}
        if self.probes or self.pairs:
            plain["words"] = code_digest(*(Path(__file__).with_name(name) for name in WORDS))
        return plain


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

    def steps(self, world: World) -> list[int | None]:
        """Numbers of steps asked of every system, "full" being the world's; ``[None]`` = each system's own."""
        full = world.backbone.full_steps
        return list(dict.fromkeys(full if step == FULL else step for step in self.table.steps)) or [None]

    @cached_property
    def hash(self) -> str:
        return hash_value(self.table.asked())

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
