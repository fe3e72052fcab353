"""LoRAs summed into the linear layers they belong to: one product for each layer, as in the plain base.

A batch has one set of adapters, so W x + s B (A x) may as well be (W + s B A) x: the same picture up to rounding
(1/255), without two thin products and peft's dispatch in every layer. The unchanged weights are kept, because
subtracting s B A again would not give them back bit for bit; that copy costs as many bytes as the adapted weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clbench.adapters import AdapterInfo, load_tensors

KEPT_LIMIT = 2**30
"""Bytes of unchanged weights kept at most: 1 GiB. A base whose adapted layers hold more keeps its LoRAs apart."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """An adapter, checked against the base, and the weight it gets."""

    info: AdapterInfo
    weight: float


class FoldedAdapters:
    """The linear layers of a transformer, `layers` by name, with some adapters summed into their weights."""

    def __init__(self, layers: Mapping[str, nn.Linear]) -> None:
        self._layers = dict(layers)
        self._kept: dict[str, Tensor] = {}
        self._changed: set[str] = set()
        self._now: tuple[tuple[str, float], ...] = ()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the unchanged weights that are kept."""
        return sum(weight.nbytes for weight in self._kept.values())

    def accepts(self, adapters: Sequence[Weighted]) -> bool:
        """Whether these may be folded: only plain float32 layers, and no more than `KEPT_LIMIT` bytes to keep.

        In half precision W + s B A would lose what the adapter adds; a quantised weight cannot take a sum at all.
        """
        touched = {module for one in adapters for module in one.info.shapes}
        if not all(is_plain(self._layers[module]) for module in touched):
            return False
        return sum(self._layers[module].weight.nbytes for module in touched | set(self._kept)) <= KEPT_LIMIT

    @torch.no_grad()
    def fold(self, adapters: Sequence[Weighted]) -> None:
        """Make the weights W + the sum of w s B A over exactly these adapters; an empty list restores the base."""
        wanted = tuple((one.info.sha256, one.weight) for one in adapters)
        if wanted == self._now:
            return
        factors = [(one, load_tensors(one.info)) for one in adapters]  # a file that cannot be read changes nothing
        self._restore()
        for one, tensors in factors:
            for module in one.info.shapes:
                self._add(module, tensors, one.info.scale(module) * one.weight)
        self._now = wanted

    def _restore(self) -> None:
        for module in self._changed:
            self._layers[module].weight.copy_(self._kept[module])
        self._changed.clear()
        self._now = ()

    def _add(self, module: str, tensors: Mapping[str, Tensor], scale: float) -> None:
        weight = self._layers[module].weight
        if module not in self._kept:
            self._kept[module] = weight.detach().clone()
        self._changed.add(module)
        a, b = (tensors[f"{module}.lora_{side}.weight"].to(weight) for side in "AB")
        weight.addmm_(b, a, alpha=scale)


def is_plain(layer: nn.Linear) -> bool:
    """A float32 linear layer of torch itself, not one whose weight or forward pass is somebody's replacement."""
    weight = layer.weight
    return type(layer) is nn.Linear and type(weight.data) is Tensor and weight.dtype == torch.float32
