"""Whether a file that a training starts from is what the training in its own output folder ended with."""

from __future__ import annotations

from pathlib import Path

from clbench.adapters import AdapterInfo, adapter_digest
from clbench.hashing import file_digest
from clbench.lock import FILE as LOCK
from clbench.lock import holder
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header
from reference_trainer.checkpoint import Checkpoints, read_json
from reference_trainer.loop import kept

WRITTEN = frozenset({"accelerator", "collection", "extension", "joint"})
"""Stems of the files that stages write, each beside the folder of that name in which it is trained."""


def require_finished(start: Path, made: Path) -> None:
    """ClbenchError where `start` is what a training of clbench is to write and has not ended with, or lies in that of `made`.

    A stage writes its file at the end; until then the file of the training before lies there, which ``--fresh`` leaves. A file
    whose training has no folder, or left nothing in it, is taken as it is. ``<stage>-warm.safetensors`` is whole as soon as its
    training has a checkpoint behind the warm start.
    """
    if made.with_suffix("").resolve() in start.resolve().parents:
        raise ClbenchError(f"{start} lies in the folder of the training that starts from it: use another --out")
    work, warm = _work_of(start.resolve()), _is_warm(start.resolve())
    if work is None:
        return
    mark, remedy = work / "complete.json", "start from a copy of the file to take it as it is"
    if who := holder(work):
        raise ClbenchError(f"{start} may be replaced by {who}, which trains in {work}: wait until it has ended, or {remedy}")
    if not mark.is_file() and _has_begun(work, start) and not (warm and _is_behind(work, start)):
        raise ClbenchError(
            f"{start} is not the result of its training, which has not ended: {kept(work)}; finish it by its own command without "
            f"--fresh, or {remedy}"
        )
    if mark.is_file() and not warm and read_json(mark).get("sha256") != file_digest(start):
        raise ClbenchError(f"{start} is not the file that its training in {work} ended with: {remedy}")


def _work_of(start: Path) -> Path | None:
    """The folder in which the training that writes `start` works, there or not; None for a name that no stage gives."""
    if _is_warm(start):
        return start.parent
    if start.parent.name == "teachers":
        return start.parent / "work" / start.stem
    return start.with_suffix("") if start.stem in WRITTEN else None


def _is_warm(start: Path) -> bool:
    return start.name == f"{start.parent.name}-warm.safetensors"


def _has_begun(work: Path, start: Path) -> bool:
    """Whether a training has left anything in `work` but `start`; a lock alone is of one that was refused."""
    return work.is_dir() and any(entry.name not in (LOCK, start.name) for entry in work.iterdir())


def _is_behind(work: Path, warm: Path) -> bool:
    """Whether the training in `work` has a checkpoint of the update at which `warm` was written, or of a later one."""
    newest = Checkpoints(work / "checkpoints", "").newest()
    written = read_header(warm).get("__metadata__", {}).get("clbench.warm_start", "0")
    return newest is not None and int(newest.name) >= int(written)


def require_unchanged(info: AdapterInfo) -> None:
    """ClbenchError if the adapter's file is another one than when it was described, hours ago perhaps."""
    if adapter_digest(info.path) != info.sha256:
        raise ClbenchError(f"{info.path}, which the training starts from, was changed while outputs were made: start it again")
