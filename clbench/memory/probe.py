"""One measurement in a process of its own: ``python -m clbench.memory.probe < request.json``, answer on stdout.

Nothing heavy is loaded before the clock is read, so that imports count as a user meets them.
"""

from __future__ import annotations

import json
import sys
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.memory.meter import Meter


@dataclass(frozen=True)
class Request:
    """What to measure. `slots` 0: load all `parts`. `sequence` holds indices of parts, one for each query.

    `full`: the `steps` are the full ones of a teacher, with the world's guidance; else few ones without it. `started` is the time
    at which this process was asked for, so that its start counts.
    """

    world: str
    parts: list[str]
    fixed: list[str]
    part_weight: float
    fixed_weight: float
    slots: int
    from_ram: bool
    sequence: list[int]
    steps: int
    full: bool = False
    started: float = 0.0


@dataclass
class Reading:
    """What was found. Seconds of each query that switched, with a load (`swaps`) or without (`switches`)."""

    factor_bytes: int = 0
    resident_bytes: int = 0
    peak_bytes: int = 0
    open_seconds: float = 0.0
    load_seconds: float = 0.0
    first_picture_seconds: float = 0.0
    edit_seconds: float = 0.0
    queries: int = 0
    switches: list[float] = field(default_factory=list)
    swaps: list[float] = field(default_factory=list)
    device: str = ""
    threads: int = 0
    peak_by: str = ""


class Shelf:
    """The parts of a system over an opened backbone: which are loaded, least recently used first."""

    def __init__(self, backbone: Any, request: Request) -> None:
        from clbench.adapters import describe_adapter

        self.backbone, self.request = backbone, request
        self.infos = [describe_adapter(path) for path in request.parts]
        self.fixed = [(f"fixed{i}", describe_adapter(path)) for i, path in enumerate(request.fixed)]
        self.loaded: OrderedDict[int, None] = OrderedDict()
        self.ram = [_owned(info) for info in self.infos] if request.from_ram else []

    def fill(self) -> None:
        """Load what always stays, and the parts that the first edit needs: all, or the first."""
        for handle, info in self.fixed:
            self._attach(handle, info, None)
        for part in range(len(self.infos) if not self.request.slots else 1):
            self._load(part)
        self.use(0)

    def use(self, part: int) -> bool:
        """Make a part active, loading it if need be and giving up the least recently used; True if it was loaded."""
        if not self.infos:
            return False
        missed = part not in self.loaded
        if missed:
            if self.request.slots and len(self.loaded) >= self.request.slots:
                oldest, _ = self.loaded.popitem(last=False)
                self.backbone.detach(f"part{oldest}")
            self._load(part)
        self.loaded.move_to_end(part)
        handles = [f"part{part}", *(handle for handle, _ in self.fixed)]
        self.backbone.activate(handles, [self.request.part_weight, *(self.request.fixed_weight for _ in self.fixed)])
        return missed

    def _load(self, part: int) -> None:
        self._attach(f"part{part}", self.infos[part], self.ram[part] if self.ram else None)
        self.loaded[part] = None

    def _attach(self, handle: str, info: Any, tensors: Any) -> None:
        from clbench.adapters import load_tensors
        from clbench.memory.meter import drop_cached

        if tensors is None:
            drop_cached(info.path)
            tensors = load_tensors(info)
        self.backbone.attach(handle, info, tensors)


def _owned(info: Any) -> dict[str, Any]:
    """Factors in memory of our own, read from the disk: those of `load_tensors` may be pages of the file."""
    from clbench.adapters import load_tensors
    from clbench.memory.meter import drop_cached

    drop_cached(info.path)
    return {name: tensor.clone() for name, tensor in load_tensors(info).items()}


def measure(request: Request) -> Reading:
    """Open, load, edit, run the queries, edit again under the meter."""
    import torch

    from clbench.backbones import open_backbone
    from clbench.memory.meter import Meter
    from clbench.world import load_world

    found = Reading()
    world = load_world(request.world)
    backbone: Any = open_backbone(world)
    found.open_seconds = time.time() - request.started
    meter = Meter(str(backbone.device))
    start = time.perf_counter()
    shelf = Shelf(backbone, request)
    shelf.fill()
    meter.held()  # waits for a GPU
    found.load_seconds = time.perf_counter() - start
    _edit(world, backbone, request)
    found.first_picture_seconds = time.time() - request.started
    _run_queries(shelf, request, found, meter)
    found.resident_bytes, found.factor_bytes = meter.held(), backbone.factor_bytes()
    meter.start()
    found.edit_seconds = _edit(world, backbone, request)
    found.peak_bytes, found.peak_by = meter.peak(), meter.how
    found.device, found.threads = str(backbone.device), torch.get_num_threads()
    return found


def _edit(world: Any, backbone: Any, request: Request) -> float:
    """Seconds of one edit of one picture. Guidance costs passes and no memory: pipelines make its two passes one by one."""
    from clbench.backbones import Job, Sampler

    effect = next(iter(world.effects.values()))
    picture = world.source_image(world.sources[0].id, world.resolution)
    table, steps = world.backbone, request.steps
    sampler = Sampler(steps, table.guidance, False, table.full_shift) if request.full else Sampler(steps, 1.0, True, table.shift)
    start = time.perf_counter()
    backbone.sample([Job(picture, effect.instruction, 0)], sampler)
    return time.perf_counter() - start


def _run_queries(shelf: Shelf, request: Request, found: Reading, meter: Meter) -> None:
    """Fill the cache, then time every query that asks for another part than the one before."""
    active = 0
    for part in range(request.slots or 0):
        shelf.use(part)
        active = part
    for part in request.sequence:
        start = time.perf_counter()
        missed = shelf.use(part) if part != active else False
        if part != active:
            meter.held()
            (found.swaps if missed else found.switches).append(time.perf_counter() - start)
        active = part
    found.queries = len(request.sequence)


def main() -> None:
    """Request on stdin, reading on stdout; a mistake is one sentence on stderr and code 2."""
    from clbench.registry import ClbenchError

    try:
        found = measure(Request(**json.load(sys.stdin)))
    except ClbenchError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
