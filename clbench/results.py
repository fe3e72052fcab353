"""The run folder: what one system did on one suite in one world, and where that came from.

``run.json`` (birth certificate), ``edits.jsonl`` (one flushed line per case), ``pictures/<case id>.png`` and
``scores.parquet``. A stopped run is finished by the same command; a folder made under another cache key is
refused, never mixed. Imports no heavy library.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from clbench.certificate import RUN_SCHEMA, Named, RunInfo, describe_run, differences
from clbench.disk import check_writable, replace_bytes
from clbench.edit_log import EditRecord, whole_lines
from clbench.images import hash_pixels, read_rgb, write_png
from clbench.provenance import cache_key, hash_file, hash_value
from clbench.registry import ClbenchError
from clbench.score_table import Learnt, Networks, read_score_table, write_score_table
from clbench.types import Case, Edit, Score

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RUN_SCHEMA", "EditRecord", "Named", "RunFolder", "RunInfo", "cache_key", "check_writable",
    "describe_run", "differences", "find_runs", "hash_file", "hash_value", "read_all_scores", "replace_bytes",
]  # fmt: skip

AGAIN = "run the same `clbench edit` again, which makes what is missing"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"


class RunFolder:
    """One run on disk. Make it with `create` (new or resumed) or `open` (for reading and scoring)."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        self.path = path
        self.info = info
        self._mended = False

    @classmethod
    def create(cls, path: Path, info: RunInfo, overwrite: bool = False) -> RunFolder:
        """Start a run, or take up a stopped one of the same cache key.

        A folder of another key raises ClbenchError naming what differs, unless `overwrite` (its edits,
        pictures and scores are then removed). A resumed run keeps its certificate but takes `n_cases`, the world's parts (of
        the same hash) where it has none, and the command too, unless that asks for fewer cases than are there and so does not
        say how to make the whole again.
        """
        check_writable(path)
        if (path / "run.json").exists() and not overwrite:
            folder = cls.open(path)
            folder._refuse_other_key(info)
            told = info if info.n_cases >= len(folder.read_edits()) else folder.info
            parts = folder.info.world_parts or info.world_parts
            changed = {"n_cases": info.n_cases, "status": "running", "command": told.command}
            changed |= {"world_parts": parts, "schema_": RUN_SCHEMA}
            folder.info = folder.info.model_copy(update=changed)
        else:
            if not overwrite:
                _refuse_rest(path)
            clear(path)
            folder = cls(path, info)
        folder._write_info()
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run; ClbenchError when run.json is absent, broken or of a newer schema."""
        file = path / "run.json"
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ClbenchError(f"{path} is not a run folder: no {file.name} ({error.strerror})") from error
        except ValueError as error:
            raise ClbenchError(f"{file} is not valid JSON: {error}") from error
        version = plain.get("schema") if isinstance(plain, dict) else None
        if not isinstance(version, int) or version > RUN_SCHEMA:
            raise ClbenchError(f"{file} has schema {version}; this clbench reads up to {RUN_SCHEMA}")
        try:
            return cls(path, RunInfo.model_validate(plain))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ClbenchError(f"{file}: {where}: {first['msg']}") from error

    def _refuse_other_key(self, asked: RunInfo) -> None:
        if self.info.cache_key == asked.cache_key:
            return
        differing = "; ".join(differences(self.info, asked))
        remedy = "choose another --out, or add --overwrite to make it anew"
        raise ClbenchError(f"{self.path} holds another run: {differing}; {remedy}")

    def _write_info(self) -> None:
        text = json.dumps(self.info.model_dump(by_alias=True), indent=1, ensure_ascii=False) + "\n"
        replace_bytes(self.path / "run.json", text.encode())

    @property
    def edits_file(self) -> Path:
        return self.path / "edits.jsonl"

    @property
    def scores_file(self) -> Path:
        return self.path / "scores.parquet"

    def picture_path(self, case: Case) -> Path:
        """Where the picture of `case` is kept; ClbenchError when its id would leave the folder."""
        parts = case.id.split("/")
        if len(parts) != 3 or any(part in ("", ".", "..") or "\\" in part for part in parts):
            raise ClbenchError(f"case id '{case.id}' cannot be a file name; ids take no slashes")
        return self.path / "pictures" / f"{case.id}.png"

    def append_edit(self, edit: Edit) -> EditRecord:
        """Keep one edit: first its picture (atomic rename), then its line (flushed and synced to disk)."""
        if edit.status == "ok" and edit.picture is None:
            raise ClbenchError(f"edit {edit.case.id} has status ok but no picture")
        if edit.status != "ok" and not edit.reason:
            raise ClbenchError(f"edit {edit.case.id} is {edit.status} without a reason")
        file, sha256 = "", ""
        if edit.status == "ok" and edit.picture is not None:
            target = self.picture_path(edit.case)
            sha256 = _write_picture(target, edit.picture)
            file = target.relative_to(self.path).as_posix()
        record = EditRecord(edit.case, file, sha256, edit.nfe, edit.seconds, edit.memory, edit.status, edit.reason)
        self._mend_tail()
        with self.edits_file.open("ab") as handle:
            handle.write((record.to_line() + "\n").encode())
            handle.flush()
            os.fsync(handle.fileno())
        return record

    def _mend_tail(self) -> None:
        """Before the first append of this process: a torn last line would spoil the next one."""
        if self._mended or not self.edits_file.exists():
            self._mended = True
            return
        data = self.edits_file.read_bytes()
        whole = len(whole_lines(data))
        if whole < len(data):
            os.truncate(self.edits_file, whole)
        self._mended = True

    def read_edits(self, verify: bool = False) -> dict[str, EditRecord]:
        """Records by case id in the order of their first line; a later line of the same case wins.

        A torn last line is dropped. `verify` reads every picture and compares its sha256.
        Raises ClbenchError for a broken line elsewhere, and for a picture that fails verification.
        """
        records: dict[str, EditRecord] = {}
        if not self.edits_file.exists():
            return records
        lines = whole_lines(self.edits_file.read_bytes()).decode().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = EditRecord.from_line(line)
            except (ValueError, KeyError, TypeError) as error:
                broken = f"{self.edits_file} line {number} is not an edit: {error}"
                raise ClbenchError(f"{broken}; delete that line and {AGAIN}") from error
            records[record.id] = record
        if verify:
            for defect in filter(None, map(self._picture_defect, records.values())):
                raise ClbenchError(defect)
        return records

    def _picture_defect(self, record: EditRecord) -> str:
        if record.status != "ok":
            return ""
        path = self.path / record.file
        if not path.is_file():
            return f"picture {path} is missing"
        try:
            found = hash_pixels(self.read_picture(record))
        except ClbenchError as error:
            return str(error)
        if found == record.sha256:
            return ""
        return f"picture {path} was changed: sha256 {found}, recorded {record.sha256}"

    def read_picture(self, record: EditRecord) -> np.ndarray:
        """The picture of a record, uint8 (H, W, 3); ClbenchError, which says what to do, when it cannot be read."""
        path = self.path / record.file
        try:
            return read_rgb(path)
        except ClbenchError as error:
            raise ClbenchError(f"{error}; {'delete that file and ' if path.exists() else ''}{AGAIN}") from None

    def pending(self, cases: Iterable[Case], retry_failed: bool = False) -> list[Case]:
        """The cases still to do, in the order given: no line yet, or an ok line whose picture is gone or was cut off.

        A recorded failure counts as done unless `retry_failed`.
        """
        records = self.read_edits()

        def done(case: Case) -> bool:
            record = records.get(case.id)
            if record is None:
                return False
            return _is_whole(self.path / record.file) if record.status == "ok" else not retry_failed

        return [case for case in cases if not done(case)]

    def finish(self) -> None:
        """Mark the run complete; ClbenchError when cases are still without a line."""
        done = len(self.read_edits())
        if done < self.info.n_cases:
            asked = self.info.n_cases
            raise ClbenchError(f"{self.path} has {done} of {asked} cases and cannot be marked complete")
        self.info = self.info.model_copy(update={"status": "complete"})
        self._write_info()

    def write_scores(
        self, scores: Iterable[Score], competing: Iterable[str] = (), encoders: Networks | None = None, made_from: str = "",
        learnt: Learnt | None = None,
    ) -> int:  # fmt: skip
        """Write scores.parquet for this run (replacing an older one), with the effects told apart, the networks that scored,
        the hash of what decides the rows and what was learnt of effects without operator; returns the number of rows.
        """
        about = self.info.run, self.info.system_name, self.info.suite.name
        return write_score_table(self.scores_file, scores, *about, competing, encoders, made_from, learnt)

    def read_scores(self) -> pd.DataFrame:
        """The rows of scores.parquet, see `score_table.read_score_table`."""
        return read_score_table(self.scores_file)

    def validate(self) -> list[str]:
        """Every defect as one sentence; an empty list means that the folder is sound."""
        try:
            records = self.read_edits()
        except ClbenchError as error:
            return [str(error)]
        defects = [defect for defect in map(self._picture_defect, records.values()) if defect]
        if self.info.status == "complete" and len(records) < self.info.n_cases:
            defects.append(f"{self.path} is marked complete with {len(records)} of {self.info.n_cases} cases")
        known = {self.path / record.file for record in records.values() if record.file}
        for stray in sorted(set((self.path / "pictures").rglob("*.png")) - known):
            defects.append(f"picture {stray} belongs to no line of edits.jsonl")
        return defects + self._score_defects(records)

    def _score_defects(self, records: dict[str, EditRecord]) -> list[str]:
        if not self.scores_file.exists():
            return []
        try:
            frame = self.read_scores()
        except ClbenchError as error:
            return [str(error)]
        defects = []
        others = sorted(set(frame["run"]) - {self.info.run})
        if others:
            defects.append(f"{self.scores_file} holds rows of another run: {', '.join(others)}")
        cases = frame[["effect", "source", "seed", "steps", "probe", "second"]].drop_duplicates()
        rows = zip(*(cases[name].tolist() for name in cases), strict=True)
        ids = {Case(effect, source, seed, _steps(steps), probe, second).id for effect, source, seed, steps, probe, second in rows}
        for unknown in sorted(ids - set(records)):
            defects.append(f"{self.scores_file} scores {unknown}, which has no line in edits.jsonl")
        return defects


def _is_whole(picture: Path) -> bool:
    """Whether a PNG is there from its first bytes to its last ones; what lies between is read when it is scored."""
    try:
        with picture.open("rb") as file:
            start, size = file.read(len(PNG_START)), file.seek(0, os.SEEK_END)
            file.seek(max(size - len(PNG_END), 0))
            return (start, file.read()) == (PNG_START, PNG_END)
    except OSError:
        return False


def runs_in(out: Path) -> list[RunFolder]:
    """Every run folder directly in `out`, sorted by name; none where there is no such folder yet."""
    return [RunFolder.open(file.parent) for file in sorted(out.glob("*/run.json"))]


def require_named(runs: Sequence[RunFolder], world: str) -> None:
    """ClbenchError for the first of `runs` that was made in a world of another name.

    Two worlds may share pictures and backbone, and so their hash, and have teachers of different effects: a suite of the taught
    ones would tell the same pictures apart among others.
    """
    for folder in runs:
        if folder.info.world.name != world:
            raise ClbenchError(f"{folder.path} was made in world '{folder.info.world.name}', not in '{world}': name that one")


def find_runs(out: Path) -> list[RunFolder]:
    """Every run folder directly in `out`, sorted by name; ClbenchError when there is none."""
    if not out.is_dir():
        raise ClbenchError(f"no results at {out}; run `clbench edit` first")
    runs = runs_in(out)
    if not runs:
        raise ClbenchError(f"{out} holds no run folder (a folder with run.json); run `clbench edit` first")
    return runs


def read_all_scores(runs: Sequence[RunFolder]) -> pd.DataFrame:
    """The scores of several runs in one table, in the order given."""
    import pandas as pd

    return pd.concat([run.read_scores() for run in runs], ignore_index=True)


def _steps(value: Any) -> int | None:
    """A nullable Int64 as Python sees it: pandas' NA is neither equal to itself nor an int."""
    return int(value) if isinstance(value, (int, np.integer)) else None


def _write_picture(target: Path, picture: np.ndarray) -> str:
    sha256 = write_png(target, picture)
    with target.open("rb") as handle:
        os.fsync(handle.fileno())
    return sha256


def _refuse_rest(path: Path) -> None:
    """ClbenchError where results lie without a certificate."""
    if left := _there(path):
        raise ClbenchError(f"{path} holds {', '.join(left)} but no run.json; choose another --out, or add --overwrite")


def clear(path: Path) -> None:
    """Empty a run's folder for a new run; strangers' files are never touched. The certificate goes last, so that a folder of
    which only a part is removed still says what it was.
    """
    for name in [*_there(path), "run.json"]:
        target = path / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def _there(path: Path) -> list[str]:
    """Those of a run's results that lie in its folder."""
    results = ("edits.jsonl", "pictures", "scores.parquet", "sets.json", "prompts.json")
    return [name for name in results if (path / name).exists()]
