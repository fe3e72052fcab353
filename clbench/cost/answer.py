"""From options to an answer, and from an answer to JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.cost.bases import find_base
from clbench.cost.curves import Curve, over_effects, over_rank, plain, rows
from clbench.cost.deployment import NAN, Deployment, Size, SystemCost, system_costs
from clbench.cost.options import CAPACITY, PAPER_BASE, Options, cache, failure_rates, router, targets, zipf_exponent
from clbench.cost.routing import PAPER_LOAD_BYTES, PAPER_LOAD_SECONDS
from clbench.cost.shapes import Base
from clbench.cost.targets import adapter_bytes, dtype_bytes, select
from clbench.cost.units import binary
from clbench.cost.worlds import AdapterPrediction, WorldSizes, world_sizes
from clbench.holds import holds
from clbench.provenance import portable_path
from clbench.registry import ClbenchError

if TYPE_CHECKING:
    from clbench.world import World

SCHEMA = 1
FROM_FILES = ("targets", "rank", "dtype", "accelerator_rank", "accelerator_targets", "collection_rank")


@dataclass(frozen=True)
class Answer:
    """The question with everything filled in, every system's cost, both curves, and what was assumed."""

    base: Base
    deployment: Deployment
    systems: list[SystemCost]
    effects_curve: Curve
    rank_curve: Curve
    predictions: list[AdapterPrediction]
    assumptions: list[str]


def answer(options: Options) -> Answer:
    """Everything that `clbench cost` says. ClbenchError for an option that does not fit the others."""
    base, deployment, per_rank, predictions, assumptions = _world(options) if options.world else _published(options)
    deployed = _traffic(deployment, options, base)
    return Answer(
        base, deployed, system_costs(deployed), over_effects(deployed), over_rank(deployed, per_rank), predictions,
        [*assumptions, *_assumptions(deployed, options)],
    )  # fmt: skip


Sizes = tuple[int, Size, Size, Size]
"""Bytes of base, teacher, accelerator and collection."""
Found = tuple[Base, tuple[Sizes, int, int], Size, list[AdapterPrediction], list[str]]
"""Base, (sizes, number of effects, effects in a collection adapter), bytes of a teacher for each rank, files, sentences."""


def _published(options: Options) -> Found:
    """Sizes by arithmetic: rank x (in + out) of the target layers."""
    base = find_base(options.base or PAPER_BASE)
    dtype, rank = options.dtype or "bfloat16", 128 if options.rank is None else options.rank
    fast, wide = (64 if options.accelerator_rank is None else options.accelerator_rank), options.collection_rank or rank
    for what, value in (("rank", rank), ("collection rank", wide)):
        if value < 1:
            raise ClbenchError(f"the {what} must be at least 1, not {value}")
    layers = select(base, targets(options.targets or "paper"))
    fast_layers = select(base, targets(options.accelerator_targets or "no-modulation"))
    one = Size.same(adapter_bytes(layers, 1, dtype))
    accelerator = Size.same(adapter_bytes(fast_layers, fast, dtype))
    sizes = (base.parameters * dtype_bytes(dtype), one * rank, accelerator, one * wide)
    said = [
        f"base {base.name}: {base.parameters:,} parameters of its transformer, {dtype}",
        f"teachers of rank {rank} on {len(layers)} layers, collection of rank {wide} on the same",
        f"accelerator of rank {fast} on {len(fast_layers)} layers",
    ]
    return base, (sizes, options.effects or 50, CAPACITY if options.capacity is None else options.capacity), one, [], said


def _world(options: Options) -> Found:
    """Sizes of a world's own files; what files decide cannot be asked for as well."""
    from clbench.world import load_world

    asked = [name for name in ("base", *FROM_FILES) if getattr(options, name) is not None]
    if asked:
        raise ClbenchError(f"--{asked[0].replace('_', '-')} does not go with --world, whose files decide it")
    world = load_world(str(options.world), pictures=False)
    sizes = world_sizes(world)
    largest = max(sizes.teachers.values(), key=lambda one: one.predicted)
    named = portable_path(str(options.world), Path())
    said = [
        f"base of world {named}: {sizes.base.parameters:,} parameters, {sizes.dtype}; adapters on disk and in RAM as stored, on "
        f"the device in {sizes.dtype}, with factors of its own for each module"
    ]
    if any(one.predicted != largest.predicted for one in sizes.teachers.values()):
        said.append(f"teachers differ in size; every effect counts as much as the largest, {largest.name}")
    fast = _size(sizes.accelerator) if sizes.accelerator else Size.same(0)
    if not sizes.accelerator:
        said.append("the world has no accelerator; it counts 0 bytes")
    wide = _size(sizes.collection or largest)
    capacity, words = _capacity(world if sizes.collection else None, options.capacity)
    said.append(words)
    bytes_of = (sizes.base.parameters * dtype_bytes(sizes.dtype), _size(largest), fast, wide)
    effects = options.effects or len(sizes.teachers)
    return sizes.base, (bytes_of, effects, capacity), _per_rank(sizes, largest), sizes.all(), said


def _capacity(world: World | None, asked: int | None) -> tuple[int, str]:
    """Effects in one collection adapter, and what is assumed of it; `world` None: one without a candidate."""
    if world is None:
        counted = CAPACITY if asked is None else asked
        return counted, "the world has no candidate; a collection adapter counts as much as a teacher"
    held = holds(world)
    if asked is None:
        return held.effects, f"a collection adapter holds {held.words}; more effects take further ones of its bytes"
    return asked, f"a collection adapter has the bytes of the world's, which holds {held.words}; capacity as asked: {asked}"


def _size(one: AdapterPrediction) -> Size:
    return Size(one.predicted, one.resident, one.waiting)


def _per_rank(sizes: WorldSizes, one: AdapterPrediction) -> Size:
    """Bytes of a rank-1 adapter on the layers of a file, each with factors of its own."""
    from clbench.adapters import describe_adapter

    layers = select(sizes.base, describe_adapter(one.path).modules)
    stored = adapter_bytes(layers, 1, one.dtype)
    return Size(stored, adapter_bytes(layers, 1, sizes.dtype), stored)


def _traffic(found: tuple[Sizes, int, int], options: Options, base: Base) -> Deployment:
    (base_bytes, teacher, fast, wide), effects, capacity = found
    kept = cache(options.cache)
    known = kept.kind == "disk" and base.name == PAPER_BASE
    published = PAPER_LOAD_SECONDS * teacher.stored / PAPER_LOAD_BYTES if known else NAN
    return Deployment(
        base_bytes, teacher, fast, wide, effects, capacity, zipf_exponent(options.mix), kept,
        router(options.router), options.route, failure_rates(options.bcr, base.name),
        published if options.load_seconds is None else options.load_seconds,
    )  # fmt: skip


def _assumptions(asked: Deployment, options: Options) -> list[str]:
    said = [
        "bytes are tensors of the transformer and of LoRA factors; text encoders, VAE, activations, headers not counted",
        f"queries are independent, {options.mix}; loads and switches in the steady state, the cache filled",
        f"router: {options.router}, chooses among {asked.route}",
    ]
    if asked.router.beyond(asked.effects):
        said.append("the router's published curve ends at 150 effects; its last value is used beyond")
    if not asked.bcr:
        said.append("no failure rate is known for this base; give --bcr SYSTEM=SHARE to get expected success")
    elif not options.bcr:
        said.append("the published failure rates were measured at 50 effects and rank 128; here they stand for all")
    if asked.cache.kind != "all" and math.isnan(asked.load_seconds):
        said.append("no time of a load is known here; give --load-seconds to get the time spent loading")
    elif asked.cache.kind != "all":
        one = f"a teacher of {binary(asked.teacher.stored)} {asked.load_seconds:.3g} s"
        there = f"; published are {PAPER_LOAD_SECONDS} s for {binary(PAPER_LOAD_BYTES)}"
        said.append(f"loading takes time in proportion to bytes, {one}" + (there if options.load_seconds is None else ""))
    return said


def as_json(found: Answer) -> dict[str, Any]:
    """Plain data with a schema version; NaN is None."""
    asked = asdict(found.deployment)
    for name in ("teacher", "accelerator", "collection"):  # `<name>_bytes` are those of the file, as they always were
        size = asked.pop(name)
        asked |= {f"{name}_bytes": size["stored"], f"{name}_resident": size["resident"], f"{name}_waiting": size["waiting"]}
    asked["router"]["curve"] = {str(k): v for k, v in found.deployment.router.curve.items()}
    asked["load_seconds"] = None if math.isnan(asked["load_seconds"]) else asked["load_seconds"]
    files = [{**asdict(one), "path": one.path.name, "exact": one.exact} for one in found.predictions]
    return {
        "schema": SCHEMA, "base": {"name": found.base.name, "parameters": found.base.parameters}, "deployment": asked,
        "assumptions": found.assumptions, "systems": [{"about": c.about} | plain(c) for c in found.systems],
        "adapters": files,
        "curves": {curve.axis: rows(curve) for curve in (found.effects_curve, found.rank_curve)},
    }  # fmt: skip
