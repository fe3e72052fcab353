"""Every random draw of training: one explicit generator, the same numbers for one process or many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reference_trainer import processes


@dataclass
class Dice:
    """Draws for this process's share of a batch.

    Each draw is made for the batch of all processes and then cut, so that `world` processes with batch B see
    exactly what one process with batch ``world * B`` sees. The state belongs into every checkpoint.
    """

    generator: torch.Generator
    rank: int = 0
    world: int = 1
    device: torch.device | str = "cpu"

    @classmethod
    def seeded(cls, seed: int, device: torch.device | str = "cpu") -> Dice:
        """Dice of this process in a data-parallel run, or of the only process. Drawing happens on the CPU."""
        return cls(torch.Generator().manual_seed(seed), processes.rank(), processes.count(), device)

    def _share(self, drawn: Tensor, count: int) -> Tensor:
        return drawn[self.rank * count : (self.rank + 1) * count].to(self.device)

    def normal(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers ``(count, *shape)``."""
        return self._share(torch.randn(count * self.world, *shape, generator=self.generator), count)

    def uniform(self, count: int) -> Tensor:
        """Uniform numbers ``(count,)`` in [0, 1)."""
        return self._share(torch.rand(count * self.world, generator=self.generator), count)

    def integers(self, count: int, high: int) -> Tensor:
        """Whole numbers ``(count,)`` in 0..high-1."""
        return self._share(torch.randint(high, (count * self.world,), generator=self.generator), count)

    def state(self) -> Tensor:
        return self.generator.get_state()

    def restore(self, state: Tensor) -> None:
        self.generator.set_state(state)
