"""Training logs: one JSON line per update, the same numbers for TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from clbench.registry import ClbenchError


class Logbook:
    """``log.jsonl`` (flushed line by line) and, if wanted, TensorBoard event files in one folder.

    Opened at update `start`, it drops the lines of that update and later ones: what a killed run did after its last checkpoint
    is done again. TensorBoard is told to leave them out, also at 0, where an older training lies in the folder.
    """

    def __init__(self, folder: Path, start: int = 0, tensorboard: bool = True) -> None:
        self.path = folder / "log.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _keep_before(self.path, start)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise ClbenchError(f"cannot write the log {self.path}: {error}") from None
        self._board = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def write(self, update: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one update."""
        self._file.write(json.dumps({"update": update, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, update)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """The lines of a log; a torn last line is dropped."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _keep_before(path: Path, start: int) -> None:
    if not path.is_file():
        return
    kept = [line for line in read_log(path) if line["update"] < start]
    part = path.with_name(".log.jsonl.part")
    part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    os.replace(part, path)
