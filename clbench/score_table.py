"""scores.parquet: one tidy row per score, the same bytes for the same rows.

Columns and types are fixed (`COLUMNS`); rows are sorted; the file carries no time and no pandas metadata, only the effects
that were told apart (`read_competing`), the networks that looked at the pictures (`read_encoders`) and what was learnt of
effects without known operator (`read_learnt`).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.registry import ClbenchError
from clbench.types import Score

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCORE_SCHEMA = 2
ADDED = {"probe": 2, "second": 2}
"""Text columns that older files lack, with the schema that brought them; they read as ""."""
COMPETING, ENCODERS, MADE_FROM = b"clbench.effects", b"clbench.encoders", b"clbench.made_from"
LEARNT = b"clbench.learnt"
Networks = Mapping[str, tuple[str, str]]
"""Role of an encoder ("perceptual", "clip") -> its name and the sha256 of its weights."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """How effects without known operator were judged: the rule's `version`, the number of right `answers` that it was shown,
    and a hash of those that teachers made ("" where all are the world's own pairs).
    """

    version: int
    answers: int
    pictures: str = ""


COLUMNS: dict[str, str] = {
    "schema": "int64", "run": "string", "system": "string", "suite": "string", "effect": "string",
    "source": "string", "seed": "int64", "steps": "int64", "probe": "string", "second": "string",
    "metric": "string", "metric_version": "int64", "other": "string", "value": "float64", "status": "string", "reason": "string",
}  # fmt: skip


def check_score(score: Score) -> None:
    """ClbenchError unless a finite value is "ok" and a missing one is NaN with a status and a reason."""
    wrong = ""
    if score.status == "ok" and not math.isfinite(score.value):
        wrong = f"is {score.value} with status ok; missing needs a status and a reason"
    elif score.status != "ok" and not math.isnan(score.value):
        wrong = f"is {score.status} with value {score.value}; a missing value must be NaN"
    elif score.status != "ok" and not score.reason:
        wrong = f"is {score.status} without a reason"
    if wrong:
        raise ClbenchError(f"score {score.metric} of {score.case.id} {wrong}")


def _rows(scores: Iterable[Score], run: str, system: str, suite: str) -> list[tuple[Any, ...]]:
    """One tuple per score, in the order of `COLUMNS`; sorted."""
    rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for score in scores:
        check_score(score)
        case = score.case
        what = (score.metric, score.metric_version, score.other)
        steps = -1 if case.steps is None else case.steps
        key = (case.effect, case.source, case.seed, steps, case.probe, case.second, *what)
        if key in rows:
            about = f" (other = '{score.other}')" if score.other else ""
            raise ClbenchError(f"score {score.metric}{about} of {case.id} was given twice")
        asked = (case.effect, case.source, case.seed, case.steps, case.probe, case.second)
        rows[key] = (SCORE_SCHEMA, run, system, suite, *asked, *what, score.value, score.status, score.reason)
    return [rows[key] for key in sorted(rows)]


def write_score_table(
    path: Path, scores: Iterable[Score], run: str, system: str, suite: str, competing: Iterable[str] = (),
    encoders: Networks | None = None, made_from: str = "", learnt: Learnt | None = None,
) -> int:  # fmt: skip
    """Write `scores` sorted and checked, by an atomic rename; returns the number of rows.

    `competing`: the effects among which the meter told outputs apart, kept in the file's own header, as are the `encoders`,
    `made_from`, the hash of everything that decides the rows, and what was `learnt` of effects without known operator.
    Raises ClbenchError for a value that is missing without a reason and for two scores of one thing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _rows(scores, run, system, suite)
    kinds = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    told = {COMPETING: sorted(competing), ENCODERS: dict(sorted((encoders or {}).items())), MADE_FROM: made_from}
    told[LEARNT] = asdict(learnt) if learnt is not None else {}
    schema = schema.with_metadata({key: json.dumps(value) for key, value in told.items() if value} or None)
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    part = path.with_name(f".{path.name}.part")
    pq.write_table(table, part, compression="zstd", version="2.6")
    os.replace(part, path)
    return len(rows)


def read_competing(path: Path) -> list[str]:
    """The effects that `write_score_table` was given for a readable file, sorted; empty in a file of an older clbench."""
    return _told(path, COMPETING, [])


def read_encoders(path: Path) -> Networks:
    """The networks that `write_score_table` was given for a readable file; empty in a file of an older clbench."""
    return {role: (name, sha256) for role, (name, sha256) in _told(path, ENCODERS, {}).items()}


def read_learnt(path: Path) -> Learnt | None:
    """What `write_score_table` was given for a readable file; None where every effect has an operator, and in an older file."""
    told = _told(path, LEARNT, {})
    return Learnt(**told) if told else None


def read_made_from(path: Path) -> str:
    """The hash that `write_score_table` was given; empty where there is no readable file, or an older clbench wrote it."""
    import pyarrow as pa

    try:
        return _told(path, MADE_FROM, "")
    except (pa.ArrowException, OSError, ValueError):
        return ""


def other_encoders(one: Networks, other: Networks) -> list[str]:
    """Roles, sorted, in which both have a network and not the same one: then their scores are in different units."""
    return sorted(role for role in one.keys() & other.keys() if one[role] != other[role])


def network_words(network: tuple[str, str]) -> str:
    """A network in a sentence: ``st-lpips-vgg (ab12cd34)``."""
    name, sha256 = network
    return f"{name} ({sha256[:8]})"


def _told(path: Path, key: bytes, default: Any) -> Any:
    """What the header of a readable file says under `key`."""
    import pyarrow.parquet as pq

    said = (pq.read_schema(path).metadata or {}).get(key)
    return default if said is None else json.loads(said)


def _texts(column: pa.ChunkedArray) -> pd.api.extensions.ExtensionArray:
    """A text column with few distinct texts, each made once: several times faster than text by text."""
    import pandas as pd

    coded = column.combine_chunks().dictionary_encode()
    distinct = pd.array(coded.dictionary.to_pylist(), dtype=pd.StringDtype("python"))
    return distinct.take(coded.indices.to_numpy())


def read_score_table(path: Path) -> pd.DataFrame:
    """The rows of scores.parquet; `steps` is nullable Int64, text columns are str, a missing value is NaN.

    A file of an older schema gets the columns it lacks (`ADDED`), filled with "".

    Raises ClbenchError when the file is absent, unreadable, of a newer schema, or has other columns.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ClbenchError(f"no scores at {path}; run `clbench score` first")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ClbenchError(f"{path} is not a readable parquet file: {error}") from error
    table = _with_added_columns(table)
    if table.column_names != list(COLUMNS):
        raise ClbenchError(f"{path} has columns {table.column_names}, expected {list(COLUMNS)}")
    numbers = table.select([name for name, kind in COLUMNS.items() if kind != "string"])
    frame = numbers.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    for place, (name, kind) in enumerate(COLUMNS.items()):
        if kind == "string":
            frame.insert(place, name, _texts(table[name]))
    whole = {name: "int64" for name, kind in COLUMNS.items() if kind == "int64" and name != "steps"}
    frame = frame.astype(whole)
    newest = int(frame["schema"].max()) if len(frame) else SCORE_SCHEMA
    if newest > SCORE_SCHEMA:
        raise ClbenchError(f"{path} has score schema {newest}; this clbench reads up to {SCORE_SCHEMA}")
    return frame


def _with_added_columns(table: Any) -> Any:
    """`table` (a pyarrow table) with the columns that its schema did not have yet, as empty texts in their places."""
    import pyarrow as pa

    held = table["schema"].to_pylist() if "schema" in table.column_names else []
    oldest = min(held, default=SCORE_SCHEMA)
    for place, name in enumerate(COLUMNS):
        if name in ADDED and name not in table.column_names and oldest < ADDED[name]:
            table = table.add_column(place, name, pa.array([""] * len(table), pa.string()))
    return table
