"""sets.json of a run folder: set-level values (`clbench.score_sets`), the sizes of both sets and the features used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clbench.registry import ClbenchError
from clbench.results import RunFolder, replace_bytes
from clbench.types import Status

FILE = "sets.json"
SETS_SCHEMA = 1
DIGITS = 7


@dataclass(frozen=True, slots=True)
class SetRow:
    """One set-level value; `effect` "" means all effects. A missing value is None with a status and a reason."""

    metric: str
    effect: str
    steps: int | None
    n: int
    n_truth: int
    value: float | None
    status: Status = "ok"
    reason: str = ""


def write_sets(
    folder: RunFolder, rows: Sequence[SetRow], features: Mapping[str, str] | None, made_from: str = ""
) -> Path:
    """Write sets.json of a run; `features` are name and sha256 of the embedding network, `made_from` the hash of what decides
    the rows.
    """
    content = {
        "schema": SETS_SCHEMA, "run": folder.info.run, "features": features, "made_from": made_from,
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    target = folder.path / FILE
    replace_bytes(target, (json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode())
    return target


def read_made_from(folder: RunFolder) -> str:
    """The hash that `write_sets` was given; empty where there is no readable file, or an older clbench wrote it."""
    try:
        return str(json.loads((folder.path / FILE).read_text(encoding="utf-8")).get("made_from", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def read_sets(folder: RunFolder) -> list[SetRow]:
    """The rows of a run's sets.json, none where there is no such file.

    ClbenchError if the file is broken, of a newer schema, or left by another run.
    """
    file = folder.path / FILE
    if not file.is_file():
        return []
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        version, run = found["schema"], found["run"]
        if not isinstance(version, int) or version > SETS_SCHEMA:
            raise ClbenchError(f"{file} has schema {version}; this clbench reads up to {SETS_SCHEMA}")
        if run != folder.info.run:
            raise ClbenchError(f"{file} is of run {run}, not of {folder.info.run}; run `clbench score` again")
        return [SetRow(**row) for row in found["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ClbenchError(f"{file} is not a table of set-level values: {error}") from error
