"""A backbone whose velocity is a formula: what a training makes of it can be worked out by hand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reference_trainer.predicting import FAKE_SCORE, STUDENT, Inputs
from reference_trainer.prompting import Prompts

ADAPTERS = (STUDENT, FAKE_SCORE, "teacher_0000", "teacher_0001", None)
SHAPE = (3, 2)


def words(values: Sequence[float]) -> Prompts:
    """Prompts that are a number each, by which they are known again."""
    row = torch.tensor(list(values))
    return Prompts(row.view(-1, 1, 1), row.view(-1, 1))


@dataclass(frozen=True)
class Pass:
    """One call of the backbone: of each row the adapter, the prompt's number and the time."""

    adapters: list[str | None]
    prompts: list[float]
    times: list[float]
    inputs: Inputs
    with_gradient: bool
    held: dict[str | None, Tensor]
    """The four numbers of each adapter as they were then."""


class FormulaBackbone:
    """``v = a noisy + b source + c time + d prompt`` with four numbers of each adapter's own; `passes` keeps what was asked."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(2)
        self.numbers = {name: [nn.Parameter(torch.randn(2, generator=generator)) for _ in range(2)] for name in ADAPTERS}
        self.passes: list[Pass] = []

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        pictures, told = self.numbers[name]
        return {"pictures": pictures, "told": told}

    def of(self, name: str | None) -> Tensor:
        """a, b, c and d of one adapter, as they are now."""
        return torch.cat([part.detach() for part in self.numbers[name]])

    def gradient(self, name: str | None) -> Tensor | None:
        """The loss's gradient in a, b, c and d; None where no pass reached the adapter."""
        found = [part.grad for part in self.numbers[name] if part.grad is not None]
        return torch.cat(found) if found else None

    def predict(self, inputs: Inputs, adapters: str | Sequence[str | None] | None) -> Tensor:
        names = [adapters] * len(inputs) if adapters is None or isinstance(adapters, str) else list(adapters)
        assert len(names) == len(inputs) == len(inputs.source) == len(inputs.time) == len(inputs.prompts)
        asked = inputs.prompts.pooled[:, 0]
        assert torch.equal(inputs.prompts.tokens[:, 0, 0], asked), "both embeddings of a prompt belong together"
        held = {name: self.of(name) for name in ADAPTERS}
        kept = Inputs(inputs.noisy.detach().clone(), inputs.source.detach().clone(), inputs.time.clone(), inputs.prompts)
        self.passes.append(Pass(names, asked.tolist(), inputs.time.tolist(), kept, torch.is_grad_enabled(), held))
        rows = torch.stack([torch.cat(list(self.numbers[name])) for name in names])
        a, b, c, d = rows.view(len(rows), 4, 1, 1).unbind(1)
        return a * inputs.noisy + b * inputs.source + c * inputs.time.view(-1, 1, 1) + d * asked.view(-1, 1, 1)
