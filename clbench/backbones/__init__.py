"""Base models behind one small Protocol. Importing this package loads no heavy library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clbench.backbones.hub import hub_commit, hub_file, hub_folder
from clbench.backbones.parts import INDEX, TRANSFORMER_CONFIG, VAE_CONFIG, check_parts, check_resolution
from clbench.registry import ClbenchError

if TYPE_CHECKING:
    from clbench.world import World

__all__ = [
    "Backbone", "Job", "RoundTrip", "Sampler", "backbone_folder", "hub_commit", "hub_folder", "open_backbone",
    "transformer_config",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make: source uint8 ``(R, R, 3)``, prompt, and the seed of all its noise."""

    picture: np.ndarray
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Sampler:
    """How a picture is sampled. `guidance` is the true classifier-free scale, 1 = none; `embedded_guidance` the value that
    guidance-distilled transformers take as an input, None = the world's.

    `stochastic`: predict x0 and re-noise to the next sigma with fresh noise (the few-step student's sampler),
    else Euler. `shift` None keeps the backbone's own schedule; a number is a static shift,
    sigma = shift s / (1 + (shift - 1) s) for s = 1, (n-1)/n, ..., 1/n.
    """

    steps: int
    guidance: float = 1.0
    stochastic: bool = False
    shift: float | None = None
    embedded_guidance: float | None = None

    @property
    def nfe(self) -> int:
        """Forward passes of the transformer for one picture: guidance counts twice."""
        return self.steps * (2 if self.guidance > 1 else 1)

    def settings(self) -> dict[str, Any]:
        """Plain values for a system's card, which has the embedded guidance under that name whoever gave it."""
        return {key: value for key, value in asdict(self).items() if key != "embedded_guidance" or value is not None}


RoundTrip = Callable[[Sequence[np.ndarray]], list[np.ndarray | None]]
"""Pictures uint8 (H, W, 3) through the encoder and decoder of a backbone's VAE; None for one that comes back not finite."""


class Backbone(Protocol):
    """A frozen image-editing model with switchable adapters."""

    def sample(self, jobs: Sequence[Job], sampler: Sampler) -> list[np.ndarray | None]:
        """One uint8 ``(R, R, 3)`` per job, sampled as one batch.

        In float32 it is the same picture in any batch (1/255); half precision rounds sums, which differ with the batch.
        None for a picture whose values are not finite: never a black square.
        """
        ...

    def use_adapters(self, adapters: Sequence[tuple[Path, float]]) -> None:
        """Make exactly these LoRA files active with these weights; an empty list is the plain base."""
        ...

    def prompt_vectors(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        """One vector per prompt (N, D) in each space of the text encoders, by the name of the space.

        ClbenchError where prompts are embedded together with the source picture.
        """
        ...

    def peak_memory(self) -> int:
        """Peak bytes: allocated on the GPU since the last call, or of the whole process on a CPU."""
        ...


def open_backbone(world: World) -> Backbone:
    """The world's backbone, loaded; ClbenchError if its folder is missing or no pipeline of that kind."""
    folder = backbone_folder(world)
    if world.backbone.kind == "flux-kontext":
        from clbench.backbones.flux import FluxKontextBackbone

        return FluxKontextBackbone.open(folder, world)
    from clbench.backbones.qwen import QwenEditBackbone

    return QwenEditBackbone.open(folder, world)


def backbone_folder(world: World) -> Path:
    """The backbone's folder on disk, whole (`check_parts`); a hub name is fetched to the hub's cache first (unless offline)."""
    table, path = world.backbone, world.backbone_path
    if path is None:
        folder = hub_folder(str(table.hub), table.revision, local_only=False)
        _check_snapshot(folder, table.kind, world.resolution)
        return folder
    if not (path / INDEX).is_file():
        raise ClbenchError(
            f"backbone of world {world.name} not found: {path} holds no {INDEX} "
            "(a folder made by save_pretrained, or by `clbench train --stage base`)"
        )
    check_parts(path, table.kind, world.resolution)
    return path


def check_size(world: World) -> None:
    """ClbenchError for a resolution that the world's backbone cannot edit at, where the config of its VAE is on this machine.

    Also for systems that need no backbone: at another resolution, which a model asks for later, their pictures would be others.
    """
    folder = world.backbone_path
    if folder is None:
        try:
            folder = hub_folder(str(world.backbone.hub), world.backbone.revision, local_only=True)
        except ClbenchError:
            return
    if (folder / VAE_CONFIG).is_file():
        check_resolution(folder, world.backbone.kind, world.resolution)


@cache
def _check_snapshot(folder: Path, kind: str, resolution: int) -> None:
    """`check_parts`, once: a snapshot's content is named by its commit, and tokenizers take a while to read."""
    check_parts(folder, kind, resolution)


def transformer_config(world: World, local_only: bool = False) -> Path:
    """The config.json of the backbone's transformer, without its weights; of a hub name that file alone is fetched.

    ClbenchError if it is not there, or (`local_only`) not yet.
    """
    path = world.backbone_path
    if path is None:
        return hub_file(str(world.backbone.hub), TRANSFORMER_CONFIG, world.backbone.revision, local_only)
    if not (path / TRANSFORMER_CONFIG).is_file():
        raise ClbenchError(f"backbone of world {world.name} not found: {path} holds no {TRANSFORMER_CONFIG}")
    return path / TRANSFORMER_CONFIG
