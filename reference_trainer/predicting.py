"""What a loss or a rollout knows of a backbone: the roles, what the transformer sees, and the one question asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from reference_trainer.prompting import Prompts

STUDENT, FAKE_SCORE = "student", "fake_score"


@dataclass(frozen=True)
class Inputs:
    """What the transformer sees: noisy and source latents ``(B, T, C)``, times ``(B,)`` and prompts."""

    noisy: Float[Tensor, "b t c"]
    source: Float[Tensor, "b t c"]
    time: Float[Tensor, " b"]
    prompts: Prompts

    def __len__(self) -> int:
        return len(self.noisy)

    def take(self, index: Int[Tensor, " r"]) -> Inputs:
        return Inputs(self.noisy[index], self.source[index], self.time[index], self.prompts.take(index))


@runtime_checkable
class Predicting(Protocol):
    """What a loss or a rollout asks of a `Backbone`: other layouts of transformer and adapters can answer it as well."""

    def predict(self, inputs: Inputs, adapters: str | Sequence[str | None] | None) -> Float[Tensor, "b t c"]: ...
