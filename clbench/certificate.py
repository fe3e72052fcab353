"""run.json: a run's birth certificate. Which world, suite and system, and under what versions it was made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from clbench import provenance
from clbench.provenance import cache_key, card_dict, hash_value
from clbench.types import SystemCard

RUN_SCHEMA = 4
"""2: cases may have `probe` and `second` (absent means ""). 3: `among`. 4: `world_parts`. Folders of earlier schemas are read as
they are."""
PICTURES = "system settings pictures"
"""What differs where pictures made elsewhere (system `folder`) do: their digest on the card."""


class Named(BaseModel):
    """A world or a suite: its name and the hash of its content."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    hash: str


class SystemInfo(BaseModel):
    """The system's card as plain data and its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    card: dict[str, Any]
    hash: str


class GitInfo(BaseModel):
    """Commit of the checkout ("" outside one) and whether tracked files were changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha: str
    dirty: bool


class RunInfo(BaseModel):
    """run.json. `cache_key` covers world, suite, system card, seeds, versions, device, dtype and `among`.

    `among` are the effects whose triggers stand in for each other (probe other-trigger), where the world's teachers decide them.

    `world_parts` are the hashes of which the world's is made, for messages; empty where an older clbench made the run.

    `dtype` also says what else of the arithmetic changes a picture: rounded products, and the batch in half precision.
    """

    model_config = ConfigDict(extra="forbid")
    schema_: int = Field(RUN_SCHEMA, alias="schema")
    run: str
    world: Named
    suite: Named
    system: SystemInfo
    cache_key: str
    seeds: list[int]
    git: GitInfo
    versions: dict[str, str]
    platform: dict[str, str]
    device: str
    dtype: str
    command: str
    created: str
    status: Literal["running", "complete"] = "running"
    n_cases: int
    among: list[str] = []
    world_parts: dict[str, str] = {}

    @property
    def system_name(self) -> str:
        return str(self.system.card["name"])


def describe_run(
    world: Named, suite: Named, card: SystemCard, seeds: Sequence[int], device: str, dtype: str, n_cases: int,
    command: str | None = None, among: Sequence[str] = (), world_parts: Mapping[str, str] | None = None,
) -> RunInfo:  # fmt: skip
    """A new run's certificate, with git state, versions, platform and command line of this process."""
    plain = card_dict(card)
    versions = provenance.package_versions()
    parts = {
        "world": world.hash, "suite": suite.hash, "system": plain, "seeds": list(seeds), "versions": versions,
        "device": device, "dtype": dtype,
    }  # fmt: skip
    if among:
        parts["among"] = list(among)
    key = cache_key(parts)
    return RunInfo(
        schema=RUN_SCHEMA, run=f"{suite.name}-{card.name}-{key[:12]}", world=world, suite=suite,
        system=SystemInfo(card=plain, hash=hash_value(plain)), cache_key=key, seeds=list(seeds),
        git=GitInfo(**provenance.git_state()), versions=versions, platform=provenance.platform_facts(),
        device=device, dtype=dtype, command=command if command is not None else provenance.command_line(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"), n_cases=n_cases,
        among=list(among), world_parts=dict(world_parts or {}),
    )  # fmt: skip


def differences(held: RunInfo, asked: RunInfo) -> list[str]:
    """What differs between two certificates, each as a short clause; at least one clause."""
    clauses = []
    for what in ("world", "suite"):
        old, new = getattr(held, what), getattr(asked, what)
        if old != new:
            parts = differing_parts(held.world_parts, asked.world_parts) if what == "world" else ""
            clauses.append(f"{what} '{old.name}' ({old.hash[:8]}) is not '{new.name}' ({new.hash[:8]}){parts}")
    for what, old, new in _pairs(held, asked):
        if old != new and what == PICTURES and old and new:
            clauses.append(f"the pictures in the folder have changed since ({old[:8]}, now {new[:8]})")
        elif old != new:
            clauses.append(f"{what} is {_short(old)}, asked for {_short(new)}")
    return clauses or ["the cache key differs"]


def _short(value: object) -> str:
    """As Python writes it; of a sha256 the first eight digits."""
    return re.sub(r"\b[0-9a-f]{64}\b", lambda match: match[0][:8], repr(value))


def differing_parts(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """What differs between two worlds by their `world_parts`, to stand behind their names: ``: backbone differs``.

    "" where one of them does not tell its parts, or both are alike.
    """
    differing = [part for part in {**old, **new} if old.get(part) != new.get(part)] if old and new else []
    words = [f"{part} {'differs' if part == 'backbone' else 'differ'}" for part in differing]
    return f": {', '.join(words)}" if words else ""


def _pairs(held: RunInfo, asked: RunInfo) -> Iterable[tuple[str, Any, Any]]:
    old, new = _flat("system", held.system.card), _flat("system", asked.system.card)
    for key in sorted(set(old) | set(new)):
        yield key, old.get(key), new.get(key)
    for key in sorted(set(held.versions) | set(asked.versions)):
        yield f"version of {key}", held.versions.get(key), asked.versions.get(key)
    yield "seeds", held.seeds, asked.seeds
    yield "device", held.device, asked.device
    yield "dtype", held.dtype, asked.dtype
    yield "effects among which triggers are exchanged", held.among, asked.among


def _flat(prefix: str, tree: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix} {key}"
        flat.update(_flat(name, value) if isinstance(value, dict) else {name: value})
    return flat
