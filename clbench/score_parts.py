"""Scores kept while a run is being scored, one file per source, so that a stopped scoring goes on where it was."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from clbench.provenance import hash_value
from clbench.types import Case, Score

FOLDER = "scores.part"


class ScoreParts:
    """Finished sources of one run. A part counts only under the `key` it was written with."""

    def __init__(self, run: Path, key: object) -> None:
        self.folder, self.key = run / FOLDER, hash_value(key)

    def read(self, source: str, about: object) -> list[Score] | None:
        """The rows of `source`, or None if they are not there, torn, or made from something else."""
        try:
            head, rows = json.loads(self._file(source).read_text(encoding="utf-8"))
            if head != {"key": self.key, "about": hash_value(about), "rows": len(rows)}:
                return None
            return [_score(row) for row in rows]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, source: str, about: object, scores: Sequence[Score]) -> None:
        """Keep the rows of `source` (atomic)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        head = {"key": self.key, "about": hash_value(about), "rows": len(scores)}
        target = self._file(source)
        part = target.with_suffix(".part")
        part.write_text(json.dumps([head, [_row(score) for score in scores]], ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, target)

    def clear(self) -> None:
        """Remove all parts: the run's scores.parquet is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, source: str) -> Path:
        return self.folder / f"{hash_value(source)[:24]}.json"


def _row(score: Score) -> list:
    case = score.case
    value = score.value if math.isfinite(score.value) else None
    return [
        [case.effect, case.source, case.seed, case.steps, case.probe, case.second], score.metric, score.metric_version,
        value, score.other, score.status, score.reason,
    ]  # fmt: skip


def _score(row: list) -> Score:
    case, metric, version, value, other, status, reason = row
    return Score(Case(*case), metric, version, float("nan") if value is None else value, other, status, reason)
