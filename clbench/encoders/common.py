"""What every metric network needs: its card, passes of equal size, and errors in one sentence."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.registry import ClbenchError

if TYPE_CHECKING:
    from torch import Tensor

AT_ONCE, PIXELS_AT_ONCE = 8, 2**18
"""Pictures (or texts) of a forward pass, and the pixels that they may have together. Every pass over pictures of one size has
the same number of rows (`in_passes`), so that the same kernels run and a row's last digits do not depend on its batch."""


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """Which network scored: its name and the sha256 of its weight file(s)."""

    name: str
    sha256: str


def in_passes(run: Callable[[Tensor], list[Tensor]], rows: Tensor) -> list[Tensor]:
    """The tensors (N, ...) that `run` makes of `rows` (N, ...), by passes of equal size; the last is filled up with its last row.

    A pass has `AT_ONCE` rows, or fewer where rows are pictures (3, H, W) of more than ``PIXELS_AT_ONCE / AT_ONCE`` pixels.
    """
    import torch

    size = rows_of_pass(rows[0])
    found = []
    for part in rows.split(size):
        full = torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])]) if len(part) < size else part
        found.append([made[: len(part)] for made in run(full)])
    if len(found) == 1:
        return found[0]
    columns = [list(column) for column in zip(*found, strict=True)]
    del found
    # one after the other, so that of the largest layer alone there are two copies
    return [torch.cat(columns.pop(0)) for _ in range(len(columns))]


def rows_of_pass(row: Tensor) -> int:
    """How many rows like `row` (a picture (3, H, W), or tokens) go through a network at a time."""
    return max(1, min(AT_ONCE, PIXELS_AT_ONCE // row[0].numel())) if row.ndim == 3 else AT_ONCE


def is_offline() -> bool:
    """Whether the environment forbids the network: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set."""
    return any(
        os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def frozen(model: Any, device: str) -> Any:
    return model.eval().requires_grad_(False).to(device)


def channels_last(model: Any) -> Any:
    """Convolutions on the CPU run a third faster with the channels as the last axis in memory."""
    import torch

    return model.to(memory_format=torch.channels_last)


def local_path(written: str, root: Path | None) -> Path:
    return (Path(root or ".") / Path(written).expanduser()).resolve()


def require_package(module: str, distribution: str = "") -> None:
    if importlib.util.find_spec(module) is None:
        raise ClbenchError(f"the package {distribution or module} is not installed; pip install {distribution or module}")


@contextmanager
def explained(name: str, file: Path | None) -> Iterator[None]:
    """A weight file that is no weight file, or of another network, becomes one sentence."""
    try:
        yield
    except ClbenchError:
        raise
    except Exception as error:  # torch, safetensors and open_clip raise many kinds for a bad file
        reason = " ".join(str(error).split())[:200]
        raise ClbenchError(f"cannot load {name}{f' from {file}' if file else ''}: {reason}") from error
