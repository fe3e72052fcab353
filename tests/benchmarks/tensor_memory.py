"""Bytes that tensors take, apart from what a process holds besides: exact, and the same on every machine."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Inside, `now` counts the bytes of storages that were made here and still live, `peak` their highest sum.

    What was there before does not count, nor do buffers that one operation makes and drops within itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        for given in tree_leaves((args, named)):
            if isinstance(given, Tensor):
                self._meet(given.untyped_storage(), 0)
        out = func(*args, **named)
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                storage = made.untyped_storage()
                self._meet(storage, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _meet(self, storage: torch.UntypedStorage, size: int) -> None:
        """Count a storage that is seen for the first time with `size` bytes, until it is freed."""
        known = storage._cdata
        if known not in self._known:
            self._known.add(known)
            self.now += size
            weakref.finalize(storage, self._forget, known, size)

    def _forget(self, known: int, size: int) -> None:
        self._known.discard(known)
        self.now -= size
