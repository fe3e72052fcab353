"""Checkpoints: adapter and trainer state only, complete or absent, and exact on resume.

A checkpoint is a folder ``<update, six digits>/`` with ``state.safetensors`` and, written last,
``complete.json``; it is prepared beside its place and renamed, so a killed run never leaves half of one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import load_file
from torch import Tensor

from clbench.disk import discard
from clbench.hashing import code_digest, file_digest
from clbench.notices import say
from clbench.registry import ClbenchError
from clbench.tensor_file import save_tensors
from reference_trainer.dice import Dice

SCHEMA = 1


@cache
def trainer_code() -> str:
    """A hash over what the trainer's Python files do, as they are when it is first asked for."""
    return code_digest(Path(__file__).parent)


class Stateful(Protocol):
    """What a checkpoint keeps."""

    def tensors(self) -> dict[str, Tensor]: ...

    def restore(self, flat: Mapping[str, Tensor]) -> None: ...


@dataclass
class DiceState:
    """Dice as something a checkpoint keeps."""

    dice: Dice

    def tensors(self) -> dict[str, Tensor]:
        return {"generator": self.dice.state()}

    def restore(self, flat: Mapping[str, Tensor]) -> None:
        self.dice.restore(flat["generator"])


class Checkpoints:
    """The checkpoints of one training; `key` names everything that decides its result."""

    def __init__(self, folder: Path, key: str, keep: int = 2) -> None:
        self.folder, self.key, self.keep = folder, key, keep
        self.code = trainer_code()  # now: files may be edited while a training runs

    def save(self, update: int, parts: Mapping[str, Stateful]) -> Path:
        """Write the state after `update` updates; older checkpoints beyond `keep` are removed afterwards.

        Where the disk has no room for it, they all stay.
        """
        flat = {f"{name}:{key}": t.contiguous() for name, part in parts.items() for key, t in part.tensors().items()}
        final, part = self.folder / f"{update:06d}", self.folder / f".{update:06d}.part"
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            save_tensors(part / "state.safetensors", flat)
            mark = {"schema": SCHEMA, "update": update, "key": self.key, "code": self.code}
            mark["sha256"] = file_digest(part / "state.safetensors")
            _put_json(part / "complete.json", mark)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)
        except OSError as error:
            discard(part)
            raise ClbenchError(f"cannot write the checkpoint {final}: {error.strerror or error}") from None
        for old in self.complete()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def complete(self) -> list[Path]:
        """Folders of complete checkpoints, oldest first."""
        found = self.folder.glob("[0-9]*") if self.folder.is_dir() else []
        return sorted(path for path in found if (path / "complete.json").is_file())

    def newest(self) -> Path | None:
        """The last good checkpoint."""
        complete = self.complete()
        return complete[-1] if complete else None

    def resume(self, parts: Mapping[str, Stateful]) -> int:
        """Restore the newest checkpoint into `parts`; returns the number of updates done, 0 without one.

        ClbenchError when the checkpoint belongs to another recipe or its file is damaged. That another version of the
        trainer wrote it is said: the result is then of two programs.
        """
        path = self.newest()
        if path is None:
            return 0
        mark = self._mark(path)
        state = path / "state.safetensors"
        if not state.is_file() or file_digest(state) != mark["sha256"]:
            raise ClbenchError(f"{state} is damaged; delete {path} to resume from the checkpoint before")
        if mark.get("code", self.code) != self.code:
            say(f"{path} was written by other code of the trainer: with --fresh all of it is made by this one", "yellow")
        flat = load_file(state)
        for name, part in parts.items():
            part.restore({key.removeprefix(f"{name}:"): t for key, t in flat.items() if key.startswith(f"{name}:")})
        return int(mark["update"])

    def check(self) -> None:
        """ClbenchError where `resume` would find the checkpoint of another recipe: to be said before long work."""
        path = self.newest()
        if path is not None:
            self._mark(path)

    def _mark(self, path: Path) -> dict[str, Any]:
        mark = read_json(path / "complete.json")
        if mark["key"] != self.key:
            raise ClbenchError(
                f"{path} was made by another recipe, world or version; use another --out, or --fresh to start anew"
            )
        return mark

    def clear(self) -> None:
        """Forget all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)


def forget(folder: Path, mark: Path | None = None) -> None:
    """Start the training in `folder` anew: its checkpoints and its completion mark are removed, what it made stays until then.

    Marks go first: stopped while large files are removed, it has begun anew, and none of what is left passes for whole.
    """
    (folder / "complete.json" if mark is None else mark).unlink(missing_ok=True)
    checkpoints = Checkpoints(folder / "checkpoints", "")
    for whole in checkpoints.complete():
        (whole / "complete.json").unlink(missing_ok=True)
    checkpoints.clear()


def finish(mark: Path, key: str, adapter: Path, facts: Mapping[str, Any]) -> None:
    """The completion mark of a finished adapter: written last, by an atomic rename."""
    write_json(mark, {"schema": SCHEMA, "key": key, "adapter": adapter.name, "sha256": file_digest(adapter), **facts})


def finished(mark: Path, key: str, adapter: Path) -> bool:
    """Whether `adapter` is complete: False without a mark or without the file.

    ClbenchError when it was made by something else, or changed since: what somebody did to it is not trained over unasked.
    """
    if not mark.is_file():
        return False
    made = read_json(mark)
    if made["key"] != key:
        raise ClbenchError(
            f"{adapter} was made by another recipe, world or version; use another --out, or --fresh to make it anew"
        )
    if not adapter.is_file():
        return False
    if file_digest(adapter) != made["sha256"]:
        raise ClbenchError(f"{adapter} was changed since it was made; move it away, or use --fresh to make it anew")
    return True


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write by an atomic rename, so that the file is whole or absent."""
    try:
        _put_json(path, value)
    except OSError as error:
        raise ClbenchError(f"cannot write {path}: {error.strerror or error}") from None


def _put_json(path: Path, value: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(part, path)
    except OSError:
        discard(part)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file; ClbenchError if it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ClbenchError(f"cannot read {path}: {error}") from None
