"""How the LoRA layers compute inside a pass: each row of the batch by its own adapter, or by the plain base.

All layers take their path from one shared plan, which says what rows of the batch belong to which adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

LoraForward = Literal["merged", "low-rank"]


@dataclass(frozen=True)
class Group:
    """Rows start..stop of the batch use `adapter`; None is the plain base."""

    adapter: str | None
    start: int
    stop: int


def groups_of(names: Sequence[str | None]) -> list[Group]:
    """Runs of equal neighbours."""
    groups: list[Group] = []
    for index, name in enumerate(names):
        if groups and groups[-1].adapter == name:
            groups[-1] = Group(name, groups[-1].start, index + 1)
        else:
            groups.append(Group(name, index, index + 1))
    return groups


class Paths:
    """The forward of all LoRA layers of a backbone.

    `way` chooses how a layer adds its adapter: ``merged`` forms W + s B A first, ``low-rank`` adds s B (A x). `plan` says who
    goes where in the pass under way, and is empty outside of one. `merged` keeps the weights W + s B A of passes without
    gradient by layer and adapter, each with the versions of A and B that it was made of.
    """

    def __init__(self, way: LoraForward) -> None:
        self.way: LoraForward = way
        self.plan: list[Group] = []
        self.merged: dict[tuple[str, str], tuple[tuple[int, int], Float[Tensor, "o i"]]] = {}

    @contextmanager
    def routed(self, layers: Mapping[str, LoraLayer], plan: list[Group]) -> Iterator[None]:
        """Give every LoRA layer our forward for the length of one pass; peft's own is untouched otherwise."""
        if self.plan:
            raise RuntimeError("a forward pass of this backbone is already under way")
        self.plan = plan
        for name, layer in layers.items():
            object.__setattr__(layer, "forward", partial(self._forward, name, layer))
        try:
            yield
        finally:
            self.plan = []
            for layer in layers.values():
                object.__delattr__(layer, "forward")

    def _forward(self, name: str, layer: LoraLayer, x: Float[Tensor, "*rows i"]) -> Float[Tensor, "*rows o"]:
        base = _base(layer)
        if len(self.plan) == 1:
            return self._one(name, layer, self.plan[0].adapter, x)
        if self.way == "low-rank":
            out = F.linear(x, base.weight, base.bias)
            for group in self.plan:
                _add_low_rank(out[group.start : group.stop], layer, group.adapter, x[group.start : group.stop])
            return out
        return torch.cat(
            [F.linear(x[g.start : g.stop], self._weight(name, layer, g.adapter), base.bias) for g in self.plan]
        )

    def _one(
        self, name: str, layer: LoraLayer, adapter: str | None, x: Float[Tensor, "*rows i"]
    ) -> Float[Tensor, "*rows o"]:
        base = _base(layer)
        if adapter is None or adapter not in layer.lora_A:
            return F.linear(x, base.weight, base.bias)
        a, b = _factors(layer, adapter)
        if self.way == "merged":
            return F.linear(x, self._weight(name, layer, adapter), base.bias)
        return F.linear(x, base.weight, base.bias) + F.linear(F.linear(x, a), b) * layer.scaling[adapter]

    def _weight(self, name: str, layer: LoraLayer, adapter: str | None) -> Float[Tensor, "o i"]:
        """W + s B A; without gradient it is kept until A or B changes (torch counts in-place changes)."""
        base = _base(layer).weight
        if adapter is None or adapter not in layer.lora_A:
            return base
        a, b = _factors(layer, adapter)
        if torch.is_grad_enabled():
            # autograd then forms the whole weight's gradient before A's and B's; that costs no more than skinny
            # products at these widths (measured with rank 8 and 32 at width 128)
            return _merged(base, a, b, layer.scaling[adapter])
        version = (a._version, b._version)
        kept = self.merged.get((name, adapter))
        if kept is None or kept[0] != version:
            kept = (version, _merged(base, a, b, layer.scaling[adapter]))
            self.merged[name, adapter] = kept
        return kept[1]


def _merged(
    base: Float[Tensor, "o i"], a: Float[Tensor, "r i"], b: Float[Tensor, "o r"], scale: float
) -> Float[Tensor, "o i"]:
    """W + s B A, always in the precision of the weights, which is float32: a small change is lost in a bfloat16 sum."""
    with torch.autocast(base.device.type, enabled=False):
        return torch.addmm(base, b, a, alpha=scale)


def _base(layer: LoraLayer) -> nn.Linear:
    return cast(nn.Linear, layer.base_layer)


def _factors(layer: LoraLayer, adapter: str) -> tuple[Float[Tensor, "r i"], Float[Tensor, "o r"]]:
    """A and B, on the layer's device; themselves, and no copies, where they rest there."""
    a, b = (cast(nn.Linear, table[adapter]).weight for table in (layer.lora_A, layer.lora_B))
    there = _base(layer).weight.device
    return a.to(there, non_blocking=True), b.to(there, non_blocking=True)


def _add_low_rank(
    out: Float[Tensor, "*rows o"], layer: LoraLayer, adapter: str | None, x: Float[Tensor, "*rows i"]
) -> None:
    if adapter is not None and adapter in layer.lora_A:
        a, b = _factors(layer, adapter)
        out += F.linear(F.linear(x, a), b) * layer.scaling[adapter]
