"""`clbench doctor`: what this machine has, what the world needs, and whether a network is needed."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from clbench.cores import usable_cores
from clbench.doctor_files import Finding, backbone_here, of_files
from clbench.provenance import package_versions, platform_facts
from clbench.registry import ClbenchError
from clbench.world import World, load_world

NEEDED = ("torch", "diffusers", "transformers", "peft", "safetensors")


def examine(world_name: str) -> list[Finding]:
    """All findings, in order: what is still a template's, machine, libraries, the world's files, systems, the network."""
    lacking = ""
    try:
        world = load_world(world_name)
    except ClbenchError as error:  # of pictures alone that is one finding among others
        world, lacking = load_world(world_name, pictures=False), str(error)
    files = of_files(world, lacking)
    return [
        *_template(world), *_machine(), *_libraries(), *files, *_systems(world, files), *_prompts(world), *_gpu_memory(world),
        _network(world),
    ]  # fmt: skip


def _systems(world: World, files: Sequence[Finding]) -> list[Finding]:
    """Which systems the world can run with the `files` that were found, and why not the others."""
    from clbench.runnable import runnable, shortened, told

    missing = {finding.what for finding in files if finding.state == "missing"}
    if "backbone" in missing:
        return [Finding("systems", "note", "none: see 'backbone'")]
    can, cannot = runnable(world, missing)
    listed = [*shortened(can), "folder (with --images)"]
    return [Finding("systems", "ok", ", ".join(listed)), *(Finding("cannot run", "note", told(one)) for one in cannot)]


def _template(world: World) -> list[Finding]:
    """Whether the world file is a copy of a template whose paths are not filled in, which explains what is missing below."""
    from clbench.placeholders import unchanged

    told = unchanged(world.file)
    return [Finding("world file", "warning", told)] if told else []


def _machine() -> list[Finding]:
    facts = platform_facts()
    found = [
        Finding(
            "machine",
            "note",
            f"{facts['system']} {facts['machine']}, Python {facts['python']}, {usable_cores()} cores",
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


def _prompts(world: World) -> list[Finding]:
    """Whether the text encoder takes the prompts of the effects whole."""
    from clbench.prompt_lengths import examine as examine_prompts

    try:
        found = examine_prompts(world, backbone_here(world))
    except ClbenchError:
        return []  # said already
    return [] if found is None else [Finding("prompts", "ok" if found[0] else "warning", found[1])]


def _gpu_memory(world: World) -> list[Finding]:
    """Whether the pipeline's weights go onto the world's GPU: all its models are held there at once."""
    try:
        import torch

        weights = weight_bytes(backbone_here(world), world.backbone.dtype)
    except (ImportError, ClbenchError):
        return []  # said already
    device = world.backbone.device
    if device != "auto" and not device.startswith("cuda"):
        return []
    if not torch.cuda.is_available():
        lacking = Finding("GPU memory", "missing", f"device = '{device}' in [backbone], but torch sees no CUDA device")
        return [] if device == "auto" else [lacking]
    free, total = torch.cuda.mem_get_info("cuda" if device == "auto" else device)
    told = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free; {weights / 2**30:.1f} GiB of weights as {world.backbone.dtype}"
    if weights < free:
        return [Finding("GPU memory", "ok", told)]
    return [Finding("GPU memory", "warning", f"{told}: the pipeline will not fit")]


def weight_bytes(folder: Path, dtype: str) -> int:
    """Bytes of all models of the pipeline in `folder` (safetensors files, by their headers) once they are loaded as `dtype`.

    A tensor that two files hold, as in variants of other precision, counts once.
    """
    from clbench.tensor_file import read_header

    numbers: dict[tuple[str, str], int] = {}
    for file in sorted(folder.glob("*/*.safetensors")):
        header = read_header(file)
        numbers |= {(file.parent.name, name): math.prod(header[name]["shape"]) for name in header if name != "__metadata__"}
    return sum(numbers.values()) * (4 if dtype == "float32" else 2)


def _network(world: World) -> Finding:
    if world.backbone.hub is None:
        return Finding("network", "ok", "not needed: the backbone is a local folder")
    try:
        from clbench.backbones import hub_folder

        hub_folder(world.backbone.hub, world.backbone.revision, local_only=True)
    except ClbenchError:
        return Finding("network", "note", f"needed once, to fetch {world.backbone.hub}")
    return Finding("network", "ok", f"not needed: {world.backbone.hub} is in the hub's cache")
