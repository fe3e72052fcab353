"""The base's training set: latents of scenes and of their edits, made once in chunks and kept on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from clbench.general import draw_edit
from clbench.images import reduce_to
from clbench.scenes import Pool, scene_of
from clbench.tensor_file import put_tensors
from clbench.types import seed_from
from reference_trainer.latents import LatentSpace

CHUNK = 500


@dataclass(slots=True)
class EditExamples:
    """`sources` (S, tokens, channels) and `targets` (E, tokens, channels) float16; `source_of` (E,) row of each
    target's source; `instructions` and `kinds`, one per target."""

    sources: Tensor
    targets: Tensor
    source_of: Tensor
    instructions: list[str]
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, list[str]]:
        """(sources, targets, instructions) of some examples, float32."""
        return (
            self.sources[self.source_of[index]].float(),
            self.targets[index].float(),
            [self.instructions[i] for i in index.tolist()],
        )


def make_chunk(pool: Pool, split: str, space: LatentSpace, first: int, edits: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Scenes `first` to `first + CHUNK` of a split with `edits` drawn edits each, as tensors and text."""
    sources, targets, instructions, kinds = [], [], [], []
    for index in range(first, first + CHUNK):
        scene = scene_of(pool, split, index)
        rng = np.random.default_rng(seed_from("general edits", split, index))
        sources.append(reduce_to(scene.image, space.size))
        for _ in range(edits):
            edit = draw_edit(scene, pool, rng)
            targets.append(reduce_to(edit.target, space.size))
            instructions.append(edit.instruction)
            kinds.append(edit.kind)
    tensors = {"sources": space.encode(sources).half(), "targets": space.encode(targets).half()}
    return tensors, {"instructions": json.dumps(instructions), "kinds": json.dumps(kinds)}


def load_examples(
    pool: Pool, split: str, space: LatentSpace, scenes: int, edits: int, folder: Path, report: Callable[[int], None]
) -> EditExamples:
    """The examples of the first `scenes` scenes, rounded up to whole chunks; missing chunks are made and kept in `folder`.

    The folder's name must stand for everything else that they are made of: chunks that lie there are taken as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources, targets, source_of, instructions, kinds = [], [], [], [], []
    for first in range(0, scenes, CHUNK):
        path = folder / f"{first:06d}.safetensors"
        if not path.is_file():
            tensors, text = make_chunk(pool, split, space, first, edits)
            put_tensors("the examples", path, tensors, text)
        with safe_open(path, "pt") as opened:
            sources.append(opened.get_tensor("sources"))
            targets.append(opened.get_tensor("targets"))
            text = opened.metadata()
        source_of.append(first + torch.arange(CHUNK).repeat_interleave(edits))
        instructions += json.loads(text["instructions"])
        kinds += json.loads(text["kinds"])
        report(first + CHUNK)
    return EditExamples(torch.cat(sources), torch.cat(targets), torch.cat(source_of), instructions, kinds)
