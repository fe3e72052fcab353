"""Stored teacher outputs y: made once, kept by content, so that a changed teacher or source is made again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from clbench.provenance import hash_value
from clbench.tensor_file import put_tensors
from reference_trainer import processes
from reference_trainer.dice import Dice
from reference_trainer.networks import Backbone
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import sample_teachers

VERSION = 1


class TargetStore:
    """Full-step outputs of teachers (or of the plain base) under ``<folder>/<key>.safetensors``."""

    def __init__(self, folder: Path, backbone: Backbone, sigmas: Tensor, guidance: float, unconditional: Prompts) -> None:
        self.folder, self.backbone = folder, backbone
        self.sigmas, self.guidance, self.unconditional = sigmas, guidance, unconditional

    def get(
        self, what: Sequence[object], adapter: str | None, source: Tensor, prompts: Prompts, seed: int, batch: int = 16
    ) -> Generator[int, None, Tensor]:
        """Outputs ``(N, T, C)`` for `source`, both on the CPU; `what` names teacher, base, sources and prompts by content.

        Yields how many outputs were done since the last time. The noise depends on `seed` alone.
        """
        key = hash_value([VERSION, list(what), self.sigmas.tolist(), self.guidance, self.backbone.precision, seed, len(source)])
        path = self.folder / f"{key[:32]}.safetensors"
        with processes.first_goes_first():
            if not path.is_file():
                yield from self._make(path, adapter, source, prompts, seed, batch)
            else:
                yield len(source)
        return load_file(path)["target"]

    def _make(
        self, path: Path, adapter: str | None, source: Tensor, prompts: Prompts, seed: int, batch: int
    ) -> Generator[int, None, None]:
        noise = Dice(torch.Generator().manual_seed(seed)).normal(len(source), tuple(source.shape[1:]))
        done = []
        for start in range(0, len(source), batch):
            rows = torch.arange(start, min(start + batch, len(source)))
            done.append(self._sample(adapter, source[rows], prompts.take(rows), noise[rows]))
            yield len(rows)
        self._write(path, torch.cat(done))

    def _sample(self, adapter: str | None, source: Tensor, prompts: Prompts, noise: Tensor) -> Tensor:
        there, names = self.backbone.device, [adapter] * len(source)
        given = source.to(there), prompts.to(there), self.unconditional.to(there), names, noise.to(there)
        return sample_teachers(self.backbone, *given, self.sigmas, self.guidance).cpu()

    def _write(self, path: Path, target: Tensor) -> None:
        put_tensors("stored targets", path, {"target": target.contiguous()})
