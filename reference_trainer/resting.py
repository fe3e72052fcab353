"""Adapters that rest on another device than the backbone's, which has no room for many: the recipe's `teachers_on`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from peft.tuners.lora import LoraLayer
from torch import nn


class Resting:
    """Where adapters rest; `device` is the one that passes are made on, to which each layer fetches its factors."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._homes: dict[str, torch.device] = {}

    def rest(self, name: str, layers: Iterable[LoraLayer], home: torch.device | str) -> None:
        """From now on the adapter's factors, in `layers`, rest on `home`."""
        self._homes[name] = torch.device(home)
        self._move(name, layers, self._homes[name])

    @contextmanager
    def at_hand(self, name: str | None, layers: Iterable[LoraLayer]) -> Iterator[None]:
        """Inside, an adapter that rests elsewhere is on the device, for many passes in a row; any other stays where it is."""
        home = None if name is None else self._homes.get(name)
        if name is None or home is None:
            yield
            return
        self._move(name, layers, self.device)
        try:
            yield
        finally:
            self._move(name, layers, home)

    def _move(self, name: str, layers: Iterable[LoraLayer], device: torch.device) -> None:
        """The adapter's factors to another device, for a pass to fetch from; pinned, where CUDA is to fetch them."""
        pinned = self.device.type == "cuda" and device.type == "cpu"
        for layer in layers:
            for table in (layer.lora_A, layer.lora_B):
                if name in table:
                    factor = cast(nn.Linear, table[name].to(device))
                    if pinned:
                        factor.weight.data = factor.weight.data.pin_memory()
