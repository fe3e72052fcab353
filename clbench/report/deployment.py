"""What a report says about deployment: the measured ledger (memory.json), and what the same costs by configuration alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from clbench.cost.answer import Answer
from clbench.cost.units import binary
from clbench.memory.points import ALONE, POOLS, Point
from clbench.memory.record import Measurement, MemoryFile
from clbench.memory.table import seconds
from clbench.report import figures, foretold, ledger
from clbench.report.blocks import Command, Facts, Section, Side, folded, there
from clbench.report.cells import Cell, Head, Row, TableView, plural
from clbench.report.origin import moment
from clbench.report.verdict import Check, Sentence

SHOWN = {"effects": (1, 2, 5, 10, 20, 50, 100, 180), "teacher_rank": (4, 8, 16, 32, 64, 128, 256)}


@dataclass(frozen=True)
class Deployment:
    """One memory.json, the command that makes it again, and cost answers, each with the words that say where."""

    found: MemoryFile
    command: str
    costs: Sequence[tuple[str, Answer]] = ()

    @property
    def question(self) -> str:
        return self.found.question


def verdict(found: MemoryFile) -> list[Sentence]:
    """What the largest pool costs and what one adapter does, and what switching takes."""
    largest = pool(found)
    told = [point for point in (largest, collection(found)) if point is not None]
    held = [_held(found, point) for point in told if _median(found, point, "disk_bytes") is not None]
    if not held:
        return [Sentence("No pool was measured to its end, so there is no verdict.", key=True)]
    same = [point for point in found.points() if largest and (point.system, point.effects) == (largest.system, largest.effects)]
    switching = [words for point in same if (words := _switching(found, point))]
    words = "; ".join(held)
    sentences = [Sentence(f"{words[0].upper()}{words[1:]}.", key=True)]
    if largest and switching:
        sentences.append(Sentence(f"Another effect takes the {ledger.CALLED[largest.system]} {', '.join(switching)}.", why=True))
    return sentences


def pool(found: MemoryFile) -> Point | None:
    """The largest pool as the first of `ledger.CALLED` that was measured; None where none was."""
    points = [point for system in ledger.CALLED for point in found.points() if point.system == system]
    return max((point for point in points if point.system == points[0].system), key=lambda point: point.effects, default=None)


def collection(found: MemoryFile) -> Point | None:
    """The point of the collection; None where it was not measured."""
    return next((point for point in found.points() if point.system == "collection"), None)


def _held(found: MemoryFile, point: Point) -> str:
    disk, resident = (_median(found, point, name) for name in ("disk_bytes", "factor_bytes"))
    loaded = f", {binary(resident)} loaded" if resident is not None else ""
    return f"{_who(found, point)} has {binary(disk or 0)} of adapters on disk{loaded}{_for_all(found, point, disk or 0)}"


def _for_all(found: MemoryFile, point: Point, disk: float) -> str:
    """What as many effects as the largest pool has would take of a collection that holds fewer; "" of another."""
    most = max((other.effects for other in found.points() if other.system != "collection"), default=0)
    if point.system != "collection" or not found.holds or point.effects >= most:
        return ""
    files = -(-most // point.effects)
    return f" (for {most} effects {files} such adapters, {binary(files * disk)})"


def _who(found: MemoryFile, point: Point) -> str:
    """A point in words, with the number of effects that it serves and, of a collection, who says that number."""
    if point.system != "collection":
        return f"the {ledger.CALLED[point.system]} of {plural(point.effects, 'effect')}"
    return f"the collection, {ledger.held(found, point)},"


def _switching(found: MemoryFile, point: Point) -> str:
    """The time of a switch of a pool, by where its teachers wait."""
    quantity = "swap_seconds" if point.slots else "switch_seconds"
    time = _median(found, point, quantity)
    if time is None:
        return ""
    where = {"all": "with all teachers loaded", "disk": "from disk", "ram": "from RAM"}[point.policy]
    return f"{seconds(time)} {where}"


def _median(found: MemoryFile, point: Point, quantity: str) -> float | None:
    row = found.find(point, quantity)
    return None if row is None else row.median


def checks(found: MemoryFile) -> list[Check]:
    """Do predictions hold: adapters to the byte, peaks and what they grow by nearly? Is the file whole?"""
    said = []
    exact = [row for row in _predicted(found) if row.quantity in foretold.EXACT]
    peaks = [row for row in _predicted(found) if row.quantity == "peak_bytes"]
    if exact:
        hits = sum(row.min == row.max == row.predicted for row in exact)
        said.append(Check(hits == len(exact), f"Bytes of adapters: {hits} of {len(exact)} figures as foretold, to the byte."))
    if peaks:
        near = sum(foretold.near(row) for row in peaks)
        base = f"; {binary(grounds)} of each are the base's own, as measured" if (grounds := foretold.ground(found)) else ""
        words = f"Peak memory: {near} of {len(peaks)} points within {foretold.OF_PEAK} of what was foretold{base}."
        said += [Check(near == len(peaks), words), *_growth(peaks, found)]
    if found.failed():
        failed = ", ".join(sorted(point.id for point in found.failed()))
        said.append(Check(False, f"Could not be measured: {failed}. The same command tries again."))
    elif found.status != "complete":
        said.append(Check(False, "Not finished: points are still to be measured."))
    return said


def _growth(peaks: Sequence[Measurement], found: MemoryFile) -> list[Check]:
    """Whether peaks grow over the base as foretold; nothing where the base was not measured."""
    grown = [row for row in peaks if foretold.growth_of(row, found) is not None]
    if not grown:
        return []
    near = sum(foretold.near_growth(row, found) for row in grown)
    words = f"Growth of the peak over the base: {near} of {len(grown)} points within {foretold.OF_GROWTH} of what was foretold."
    return [Check(near == len(grown), words)]


def _predicted(found: MemoryFile) -> list[Measurement]:
    return [row for row in found.rows if row.predicted is not None and row.median is not None and row.point.system != "base"]


def facts(found: MemoryFile) -> list[tuple[str, str]]:
    """What stands in the head of a group."""
    return [
        ("Pools", str(len({point.effects for point in found.points() if point.effects and point.system != "collection"}))),
        ("Teachers", str(found.teachers)), ("Repeats", str(found.repeats)), ("Device", f"{found.device}, {found.dtype}"),
        ("Threads", str(found.threads)), ("Measured", found.created[:10]),
        *([("Without accelerator", found.alone)] if found.alone else []),
        *([("Left out", found.left_out)] if found.left_out else []),
    ]  # fmt: skip


def sections(deployment: Deployment, suite: str) -> list[Section]:
    """Ledger, predictions, cost by configuration, what is missing, and where it comes from; `suite` names plots."""
    found = deployment.found
    made = [
        Section("ledger", "Ledger", "Each point was measured in processes of its own.", there([
            ledger.measured(found), *(ledger.growth(found, system) for system in POOLS),
        ])),
        Section("foretold", "Predictions", "What was foretold before anything was loaded.", [foretold.table(found)]),
    ]  # fmt: skip
    if deployment.costs:
        blocks = [block for place, cost in enumerate(deployment.costs) for block in _cost(suite, place, *cost)]
        made.append(Section("scale", "Cost by configuration", "From shapes and ranks alone; no weights are needed.", blocks))
    gone = missing(found)
    if gone is not None:
        made.append(Section("missing", "Missing", "", [gone]))
    origin = [Command(deployment.command), Facts(_origin(found))]
    return [*made, Section("provenance", "Provenance", "To measure this again:", origin)]


def _cost(suite: str, place: int, words: str, answer: Answer) -> list:
    """Table of systems, both curves as plots, and their points folded away."""
    table = replace(ledger.scale(answer.systems, words, answer.assumptions), id=f"t-scale-{place}")
    both, curved = (answer.effects_curve, answer.rank_curve), _curved(answer)
    plots = [figures.bytes_curve(curve, curved, suite, f"bytes-{curve.axis}-{place}") for curve in both]
    points = [ledger.scale_curve(curve, curved, SHOWN[curve.axis]) for curve in both]
    return [table, Side(plots), *(folded(replace(view, id=f"{view.id}-{place}")) for view in points)]


def _curved(answer: Answer) -> tuple[str, str]:
    """The systems of the curves: one adapter, and the pool that is deployed, without an accelerator that of the teachers."""
    return ("cascade" if answer.deployment.accelerator.stored else ALONE), "collection"


def missing(found: MemoryFile) -> TableView | None:
    """Every reason for a missing figure, which quantities it hit, and at how many points."""
    hit: defaultdict[tuple[str, str], dict[str, set[Point]]] = defaultdict(lambda: defaultdict(set))
    for row in found.rows:
        if row.median is None:
            hit[row.reason, row.status][row.quantity].add(row.point)
    rows = []
    for (reason, status), quantities in sorted(hit.items()):
        points = set.union(*quantities.values())
        what = ", ".join(name.replace("_", " ") for name in quantities)
        cells = [Cell(reason, css="name"), Cell(status, css="text"), Cell(what, css="text")]
        rows.append(Row([*cells, Cell(str(len(points)), sort=len(points))]))
    heads = [Head(name, numeric=False) for name in ("Reason", "Status", "What is missing")]
    return TableView("t-missing", "What is missing, and why", [*heads, Head("Points")], rows, css="reasons") if rows else None


def _origin(found: MemoryFile) -> list[tuple[str, str]]:
    code = found.git.sha[:10] + (" + changes" if found.git.dirty else "") if found.git.sha else "no checkout"
    return [
        ("World", f"{found.world.name} ({found.world.hash[:12]})"), ("Suite", f"{found.suite.name} ({found.suite.hash[:12]})"),
        ("Adapters", found.adapters[:12]), ("Measured", moment(found.created)), ("Code", code),
        *sorted(found.versions.items()), ("Platform", " ".join(found.platform.values())), ("Peak by", found.peak_by),
    ]  # fmt: skip
