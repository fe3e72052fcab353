"""The lines of edits.jsonl: one for each case, written as it is done; the last one may be torn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from clbench.types import Case, Status


@dataclass(frozen=True, slots=True)
class EditRecord:
    """One line of edits.jsonl: an Edit without its pixels. `file` is relative to the run folder, or ""."""

    case: Case
    file: str
    sha256: str
    nfe: int
    seconds: float
    memory: int
    status: Status
    reason: str

    @property
    def id(self) -> str:
        return self.case.id

    def to_line(self) -> str:
        case = {name: getattr(self.case, name) for name in ("effect", "source", "seed", "steps")}
        case |= {name: value for name in ("probe", "second") if (value := getattr(self.case, name))}
        seconds = self.seconds if math.isfinite(self.seconds) else None
        row = {
            "case": case, "id": self.id, "file": self.file, "sha256": self.sha256, "nfe": self.nfe,
            "seconds": seconds, "memory": self.memory, "status": self.status, "reason": self.reason,
        }  # fmt: skip
        return json.dumps(row, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_line(cls, line: str) -> EditRecord:
        """Raises ValueError, KeyError or TypeError when the line is not a record."""
        row = json.loads(line)
        seconds = float("nan") if row["seconds"] is None else float(row["seconds"])
        record = cls(
            Case(**row["case"]), row["file"], row["sha256"], row["nfe"], seconds, row["memory"],
            row["status"], row["reason"],
        )  # fmt: skip
        if row["id"] != record.id:
            raise ValueError(f"id {row['id']} is not the id of its case ({record.id})")
        return record


def whole_lines(data: bytes) -> bytes:
    """`data` up to its last whole line that parses; a crash may leave half a line or a line of zero bytes."""
    data = data[: data.rfind(b"\n") + 1]
    start = data.rfind(b"\n", 0, len(data) - 1) + 1
    try:
        json.loads(data[start:] or b"0")
    except ValueError:
        return data[:start]
    return data

def about(records: Iterable[EditRecord]) -> list[list[str]]:
    """What of edits decides what is made from them: their cases, pictures and ends."""
    return [[record.id, record.sha256, record.status, record.reason] for record in sorted(records, key=lambda r: r.id)]
