"""`clbench doctor`: what this machine has, what the world needs, and whether a network is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clbench.provenance import package_versions, platform_facts
from clbench.registry import ClbenchError
from clbench.world import World, load_world

State = Literal["ok", "missing", "note"]
NEEDED = ("torch", "diffusers", "transformers", "peft", "safetensors")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    state: State
    detail: str

    def row(self) -> list[str]:
        return [self.what, self.state, self.detail]


def examine(world_name: str) -> list[Finding]:
    """All findings, in order: machine, libraries, the world's files, the network."""
    world = load_world(world_name)
    return [*_machine(), *_libraries(), *_files(world), _network(world)]


def _machine() -> list[Finding]:
    facts = platform_facts()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [
        Finding(
            "machine",
            "note",
            f"{facts['system']} {facts['machine']}, Python {facts['python']}, {cores} cores",
        ),
        Finding("memory", "note", _memory()),
    ]
    try:
        import torch
    except ImportError as error:
        return [*found, Finding("torch", "missing", f"does not import: {error}")]
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; everything runs on the CPU"
    return [
        *found,
        Finding("GPU", "note", gpu),
        Finding("torch threads", "note", str(torch.get_num_threads())),
    ]


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, ValueError, OSError):
        return "unknown"


def _libraries() -> list[Finding]:
    versions = package_versions()
    absent = [Finding(name, "missing", "pip install it") for name in NEEDED if name not in versions]
    return [Finding("libraries", "ok", ", ".join(f"{k} {v}" for k, v in versions.items())), *absent]


def _files(world: World) -> list[Finding]:
    pool = [e for e in world.effects.values() if e.pool == "collection"]
    found = [_look("backbone", lambda: _backbone(world))]
    taught = len(world.taught)
    found.append(
        Finding(
            "teachers",
            "ok" if taught else "missing",
            f"{taught} of {len(pool)} effects of the collection pool",
        )
    )
    if world.table.accelerator is not None:
        found.append(_look("accelerator", lambda: _adapter(world, world.accelerator().path)))
    for candidate in world.table.candidates:
        what = f"candidate {candidate.name}"
        found.append(_look(what, lambda name=candidate.name: _adapter(world, world.candidate(name).path)))
    if world.table.joint is not None:
        found.append(_look("joint", lambda: _adapter(world, world.joint().path)))
    found.append(_look("sources", lambda: f"{len(world.sources)} pictures"))
    found.append(_look("encoders", lambda: _encoders(world)))
    return found


def _look(what: str, see: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", see())
    except ClbenchError as error:
        return Finding(what, "missing", str(error))


def _backbone(world: World) -> str:
    from clbench.backbones import hub_folder
    from clbench.backbones.parts import check_parts

    path = world.backbone_path
    if path is None:
        path = hub_folder(str(world.backbone.hub), world.backbone.revision, local_only=True)
    elif not (path / "model_index.json").is_file():
        raise ClbenchError(f"{path} holds no model_index.json")
    check_parts(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{world.backbone.kind}, {size / 2**20:.1f} MiB, {path}"


def _adapter(world: World, path: Path) -> str:
    from clbench.adapters import base_shapes, check_adapter, describe_adapter

    info = describe_adapter(path)
    if world.backbone_path is not None and (shapes := base_shapes(world.backbone_path / "transformer")):
        check_adapter(info, shapes, f"the backbone of world {world.name}")
    return f"rank {info.rank}, {len(info.modules)} modules, {info.bytes / 2**20:.2f} MiB"


def _encoders(world: World) -> str:
    from clbench.encoders import check_encoders

    return check_encoders(world)


def _network(world: World) -> Finding:
    if world.backbone.hub is None:
        return Finding("network", "ok", "not needed: the backbone is a local folder")
    try:
        from clbench.backbones import hub_folder

        hub_folder(world.backbone.hub, world.backbone.revision, local_only=True)
    except ClbenchError:
        return Finding("network", "note", f"needed once, to fetch {world.backbone.hub}")
    return Finding("network", "ok", f"not needed: {world.backbone.hub} is in the hub's cache")
