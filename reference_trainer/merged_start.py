"""Where a student begins with `warm_start_from = "merged"`: at the mean of all teachers, as near as its rank comes to it.

The same mean as that of `clbench.merging`'s method ``svd``, by another way: there peft makes every teacher's product of each
layer and takes the SVD of their sum, which at real size takes hours. Here the factors of all teachers stand side by side: their
one product is that sum, and where they are narrower than the layer, QR makes it small before the SVD.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import torch
from torch import Tensor

from clbench.adapters import describe_adapter, load_tensors
from clbench.hashing import cache_folder
from clbench.merging import Merge, Opened, Part, common_dtype, save_merged, usual_weight
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from reference_trainer import processes
from reference_trainer.config import LoraTable
from reference_trainer.loop import Progress
from reference_trainer.networks import Backbone
from reference_trainer.predicting import STUDENT
from reference_trainer.taught import Taught

VERSION = 1


def start_from_merged(backbone: Backbone, taught: Sequence[Taught], lora: LoraTable) -> Iterator[Progress]:
    """Put the mean of all teachers into the student: its best approximation of the student's rank, by SVD of the products.

    It is kept in the cache folder, where the same teachers find it again. Merged factors have scale 1, so the student's own scale
    is taken out of B. ClbenchError where teachers and student have other modules.
    """
    parts = [Part(describe_adapter(item.teacher), usual_weight("svd", len(taught))) for item in taught]
    merge = Merge("svd", tuple(parts), rank=lora.rank)
    path = cache_folder() / "merged" / f"{hash_value([VERSION, 'mean', merge.key])}.safetensors"
    with processes.first_goes_first():
        if not path.is_file():
            save_merged(merge, (yield from mean_of(merge, lora.rank)), path)
    scale = lora.alpha_value / lora.rank
    tensors = load_tensors(describe_adapter(path))
    backbone.load(STUDENT, {key: t.float() / (scale if ".lora_B." in key else 1) for key, t in tensors.items()}, str(path))


def mean_of(merge: Merge, rank: int) -> Generator[Progress, None, dict[str, Tensor]]:
    """The weighted sum of the parts, which have the same modules, as factors of `rank` with scale 1, like `merge_adapters`.

    One module of all parts is in memory at a time.
    """
    parts = [Opened(part) for part in merge.parts]
    dtype, modules = common_dtype(parts), sorted(parts[0].info.modules)
    factors: dict[str, Tensor] = {}
    for done, module in enumerate(modules, 1):
        a, b = best(*_side_by_side(parts, module), rank)
        factors |= {f"{module}.lora_A.weight": a.to(dtype), f"{module}.lora_B.weight": b.to(dtype)}
        yield Progress("mean of teachers", done, len(modules), {})
    return factors


def _side_by_side(parts: Sequence[Opened], module: str) -> tuple[Tensor, Tensor]:
    """A ``(R, in)`` and B ``(out, R)`` with B A the weighted sum of the parts' products; R is the sum of their ranks."""
    down, up = [], []
    for part in parts:
        read = part.read(module)
        assert read is not None, f"{part.info.path} lacks '{module}'"
        if not bool(read.a.isfinite().all() and read.b.isfinite().all()):
            raise ClbenchError(f"{part.info.path} holds a value of '{module}' that is not finite: train that teacher again")
        down.append(read.a.float())
        up.append(read.b.float() * (read.scale * read.weight))
    return torch.cat(down), torch.cat(up, dim=1)


def best(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors A ``(rank, in)``, of orthonormal rows, and B ``(out, rank)`` of the best approximation of b a.

    `rank` is at most the shorter side of b a. Where the given factors are narrower than that side, b a is never made: with
    b = Qb Rb and a' = Qa Ra its singular values are those of the small Rb Ra', its vectors those of that, turned by Qb and Qa.
    Zeros bring narrow factors up to `rank`: QR then finds rows for A that nothing has filled yet, which can be trained.
    """
    width, short = max(len(a), rank), min(len(b), a.shape[1])
    if width >= short:
        u, s, vh = torch.linalg.svd(b @ a, full_matrices=False)
        return vh[:rank], u[:, :rank] * s[:rank]
    filled = width - len(a)
    a, b = torch.nn.functional.pad(a, (0, 0, 0, filled)), torch.nn.functional.pad(b, (0, filled))
    (q_b, r_b), (q_a, r_a) = torch.linalg.qr(b), torch.linalg.qr(a.T)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T)
    return vh[:rank] @ q_a.T, q_b @ (u[:, :rank] * s[:rank])
