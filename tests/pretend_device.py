"""A device that is not there: tensors that say they are elsewhere, compute on the CPU, and refuse what CUDA refuses.

A `Pretended` tensor holds a CPU tensor and reports the device "meta". Inside `pretended_device` everything that is moved to or
made on "meta" is one. An operation that mixes it with a CPU tensor raises as on CUDA, but for copies, scalars without
dimensions, and whole numbers on the CPU that index it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

ELSEWHERE = torch.device("meta")
TENSOR = torch.tensor
COPIES = ("copy_", "_to_copy", "_foreach_copy_")
INDEXING = ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_")


class Pretended(torch.Tensor):
    """`held` (a CPU tensor), as if it were on a device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=ELSEWHERE
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Pretended({self.held})"

    def tolist(self) -> Any:  # torch refuses to do this for subclasses
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Inside, the device is there: whatever moves to it is `Pretended`."""
    with patch.object(torch, "tensor", _from_numbers), _Everywhere():
        yield ELSEWHERE


@contextmanager
def nothing_pretended() -> Iterator[None]:
    """Inside, "meta" is torch's own again, as libraries need it while they load a model."""
    with patch.object(torch, "tensor", TENSOR), _disable_current_modes():
        yield


def _from_numbers(data: Any, *, device: Any = None, **how: Any) -> torch.Tensor:
    """`torch.tensor`, whose own way to a device passes by the modes unseen."""
    made = TENSOR(data, **how)
    return made if device is None else made.to(device)


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation on what is held; RuntimeError where tensors of two devices meet in it."""
    name = func._schema.name.removeprefix("aten::")
    flat, spec = tree_flatten((args, kwargs))
    there = any(isinstance(x, Pretended) for x in flat)
    if there and name not in COPIES:
        _refuse_mixtures(name, func, args, kwargs)
    held_args, held_kwargs = tree_unflatten([_held(x) for x in flat], spec)
    out = func(*held_args, **held_kwargs)
    if there and func._schema.is_mutable and name.startswith("_foreach"):  # torch counts the changes of others by itself
        torch.autograd.graph.increment_version(args[0])
    wanted = kwargs.get("device")
    if name == "_to_copy" and wanted is not None and not _is_elsewhere(wanted):
        return out  # home to the CPU; always a copy, as `_to_copy` is
    if name in ("copy_", "_foreach_copy_") and not isinstance(tree_flatten(args[0])[0][0], Pretended):
        return args[0]
    if not there and not _is_elsewhere(wanted):
        return out
    wrapped = tree_map(lambda x: Pretended(x) if isinstance(x, torch.Tensor) else x, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else torch.device("cpu") if _is_elsewhere(x) else x


def _is_elsewhere(x: Any) -> bool:
    return isinstance(x, torch.device) and x == ELSEWHERE


def _refuse_mixtures(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if name in INDEXING and isinstance(args[0], Pretended):
        args = (args[0], *args[2:])  # whole numbers may index from the CPU
    groups: list[Any] = [tree_flatten((args, kwargs))[0]]
    if name.startswith("_foreach"):  # the first of each list go together, and so on
        lists = [x for x in args if isinstance(x, list | tuple) and x and isinstance(x[0], torch.Tensor)]
        groups = list(zip(*lists, strict=True))
    for group in groups:
        tensors = [x for x in group if isinstance(x, torch.Tensor)]
        elsewhere = [isinstance(x, Pretended) for x in tensors]
        if any(elsewhere) and any(x.ndim > 0 and not its for x, its in zip(tensors, elsewhere, strict=True)):
            raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got two devices")
