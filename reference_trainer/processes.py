"""The processes of a data-parallel run on the CPU (gloo); in a single process nothing here does anything.

Every process holds the same weights and draws the same numbers (`Dice` cuts its share out of the whole batch), gradients
are averaged, and only the first process writes. So W processes with batch B train as one with batch W B does, up to the
order of float32 sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from clbench.registry import ClbenchError


@contextmanager
def group() -> Iterator[None]:
    """Inside, this process belongs to the group that its launcher described in the environment, if there is one.

    `accelerate launch --cpu --num_processes 2` starts one process where MPI is missing; that is a ClbenchError here
    instead of a run with half of the batch.
    """
    from accelerate import PartialState
    from accelerate.utils.environment import get_cpu_distributed_information

    if get_cpu_distributed_information().world_size == 1:
        _refuse_a_lonely_process(os.environ)
        yield
        return
    PartialState(cpu=True, backend="gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _refuse_a_lonely_process(environment: Mapping[str, str]) -> None:
    if "MASTER_ADDR" in environment and "ACCELERATE_MIXED_PRECISION" in environment and "RANK" not in environment:
        raise ClbenchError(
            "accelerate was asked for several processes but started one, as --cpu does without MPI: "
            "use `accelerate launch --multi_gpu --num_processes N` (it needs no GPU here) or torchrun"
        )


def count() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if count() > 1 else 0


def first() -> bool:
    """Whether this process writes files and speaks."""
    return rank() == 0


def wait() -> None:
    """Go on when all processes have come here."""
    if count() > 1:
        distributed.barrier()


@contextmanager
def first_goes_first() -> Iterator[None]:
    """The first process does the block alone, then the others do: what it left on disk, they find."""
    if not first():
        wait()
    yield
    if first():
        wait()


def total(number: int) -> int:
    """The sum of a whole number over all processes."""
    if count() == 1:
        return number
    held = torch.tensor(int(number))
    distributed.all_reduce(held)
    return int(held)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Mean gradient over all processes, in one exchange; a process without a gradient for its rows adds zero.

    A parameter that has no gradient in any process keeps none, as in a single process.
    """
    if count() == 1:
        return
    moved = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
    distributed.all_reduce(moved)
    moving = [parameter for parameter, times in zip(parameters, moved.tolist(), strict=True) if times]
    if not moving:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in moving])
    distributed.all_reduce(flat)
    flat /= count()
    for parameter, part in zip(moving, flat.split([p.numel() for p in moving]), strict=True):
        parameter.grad = part.view_as(parameter)


class Mean(float):
    """A logged mean that knows over how many samples it was taken, so that means of several processes can be joined."""

    samples: int

    def __new__(cls, value: float | Tensor, samples: int) -> Mean:
        mean = super().__new__(cls, value)
        mean.samples = samples
        return mean


def joined(logs: Mapping[str, float]) -> dict[str, float]:
    """The numbers of all processes as one would log them: means weighted by their samples, others (equal) weights."""
    if count() == 1:
        return dict(logs)
    gathered: list[dict[str, tuple[float, int]]] = [{} for _ in range(count())]
    mine = {name: (float(value), value.samples if isinstance(value, Mean) else 1) for name, value in logs.items()}
    distributed.all_gather_object(gathered, mine)
    return {name: _weighted(values) for name, values in _by_name(gathered).items()}


def pooled(logs: Sequence[Mapping[str, Mean]]) -> dict[str, Mean]:
    """The means of several parts of a batch as those of the whole."""
    parts = _by_name([{name: (float(mean), mean.samples) for name, mean in each.items()} for each in logs])
    return {name: Mean(_weighted(values), sum(number for _, number in values)) for name, values in parts.items()}


def _by_name(logs: Sequence[Mapping[str, tuple[float, int]]]) -> dict[str, list[tuple[float, int]]]:
    names = dict.fromkeys(name for each in logs for name in each)
    return {name: [each[name] for each in logs if name in each] for name in names}


def _weighted(values: Sequence[tuple[float, int]]) -> float:
    samples = sum(number for _, number in values)
    if len(values) == 1 and samples:
        return values[0][0]  # as it is, without the rounding of a product and a quotient
    return sum(value * number for value, number in values) / samples if samples else 0.0
