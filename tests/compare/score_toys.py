"""Small scored runs without pictures: a table of values in, a run folder out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from clbench.certificate import Named, RunInfo, describe_run
from clbench.results import EditRecord, RunFolder
from clbench.score_table import Learnt, Networks
from clbench.types import Case, Score, SystemCard

WORLD, SUITE = Named(name="tiny", hash="a1" * 32), Named(name="bleeding", hash="b2" * 32)
EFFECTS, SOURCES = tuple(f"e{n}" for n in range(8)), tuple(f"s{n}" for n in range(4))
CASES = [Case(effect, source, 0) for effect in EFFECTS for source in SOURCES]


@cache
def _described() -> RunInfo:
    """One real certificate; the others are copies, so that git is asked once."""
    return describe_run(WORLD, SUITE, SystemCard("collection", "collection"), [0], "cpu", "float32", 0, "made up")


def certificate(system: str, cases: int, world: Named = WORLD, suite: Named = SUITE, kind: str = "") -> RunInfo:
    """The certificate of a finished made-up run."""
    card = {**_described().system.card, "name": system, "kind": kind or system}
    about = _described().system.model_copy(update={"card": card})
    changed = {"world": world, "suite": suite, "system": about, "n_cases": cases, "status": "complete"}
    return _described().model_copy(update=changed)


def write_run(
    path: Path, rows: Iterable[Score], failed: Mapping[Case, str] | None = None, system: str = "collection",
    world: Named = WORLD, suite: Named = SUITE, kind: str = "", competing: Iterable[str] = (),
    encoders: Networks | None = None, unasked: Mapping[Case, str] | None = None,
    learnt: Learnt | None = None,
) -> RunFolder:  # fmt: skip
    """A finished run with `rows` as its scores; cases in `failed` have a failed edit and the reason given, as have cases in
    `unasked`, which were left out on purpose.

    `competing`, `encoders`, `learnt`: what the scores say of the effects told apart, of the networks, and of effects without
    operator.
    """
    scores, lost = list(rows), {**dict.fromkeys(failed or {}, "failed"), **dict.fromkeys(unasked or {}, "unscored")}
    why = {**(failed or {}), **(unasked or {})}
    cases = list(dict.fromkeys(score.case for score in scores))
    path.mkdir(parents=True, exist_ok=True)
    run = RunFolder(path, certificate(system, len(cases), world, suite, kind))
    run._write_info()
    records = [EditRecord(case, "", "", 4, 0.5, 0, lost.get(case, "ok"), why.get(case, "")) for case in cases]
    run.edits_file.write_text("".join(record.to_line() + "\n" for record in records))
    run.write_scores(scores, competing, encoders, learnt=learnt)
    return run


def attributed(case: Case, label: str) -> Score:
    """One row of attribution."""
    return Score(case, "attributed", 1, 1.0, other=label)
