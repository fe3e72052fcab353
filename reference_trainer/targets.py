"""Stored teacher outputs y: made once, kept by content, so that a changed teacher or source is made again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clbench.disk import discard
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

        Yields how many outputs were done since the last time. The noise depends on `seed` alone. At real size one call may take
        hours, so each batch is stored when it is done, in a folder beside the file: what a killed run leaves there is not made
        again.
        """
        key = hash_value([VERSION, list(what), self.sigmas.tolist(), self.guidance, self.backbone.precision, seed, len(source)])
        path, parts = self.folder / f"{key[:32]}.safetensors", self.folder / f"{key[:32]}.parts"
        with processes.first_goes_first():
            if not path.is_file():
                with self.backbone.at_hand(adapter):
                    target = yield from self._make(parts, adapter, source, prompts, seed, batch)
                put_tensors("stored targets", path, {"target": target})
            else:
                yield len(source)
            discard(parts)
        return load_file(path)["target"]

    def _make(
        self, parts: Path, adapter: str | None, source: Tensor, prompts: Prompts, seed: int, batch: int
    ) -> Generator[int, None, Tensor]:
        """All outputs; those of each batch are also put into the folder `parts`, or taken from there."""
        noise = Dice(torch.Generator().manual_seed(seed)).normal(len(source), tuple(source.shape[1:]))
        done = []
        for start in range(0, len(source), batch):
            rows = torch.arange(start, min(start + batch, len(source)))
            part = parts / f"{start:06d}-{start + len(rows):06d}.safetensors"
            made = _kept(part)
            if made is None:
                made = self._sample(adapter, source[rows], prompts.take(rows), noise[rows]).contiguous()
                put_tensors("stored targets", part, {"target": made})
            done.append(made)
            yield len(rows)
        return torch.cat(done)

    def _sample(self, adapter: str | None, source: Tensor, prompts: Prompts, noise: Tensor) -> Tensor:
        there, names = self.backbone.device, [adapter] * len(source)
        given = source.to(there), prompts.to(there), self.unconditional.to(there), names, noise.to(there)
        return sample_teachers(self.backbone, *given, self.sigmas, self.guidance).cpu()


def _kept(part: Path) -> Tensor | None:
    """The outputs of a batch that was done before; None without them, and where a crash of the machine tore the file."""
    try:
        return load_file(part)["target"] if part.is_file() else None
    except SafetensorError:
        return None
