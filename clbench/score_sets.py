"""Set-level metrics (KID, CMMD) of a run: sets.json beside scores.parquet.

They compare the distribution of a system's outputs with that of the truths, in the embeddings of the world's CLIP: per effect
and over all effects. They have no value per case, so they stand apart from the scores, each with the sizes of both sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clbench.calibration import to_tensor
from clbench.edit_log import about
from clbench.encoders import ClipEncoder, open_encoders
from clbench.encoders.common import AT_ONCE
from clbench.metrics import SET_METRICS
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.results import EditRecord, RunFolder
from clbench.score_kept import code_key
from clbench.set_table import DIGITS, SetRow, read_made_from, read_sets, write_sets
from clbench.suite import Suite
from clbench.truth import Truths
from clbench.world import World

SMALLEST = 16
"""Pictures from which on a set is compared: with fewer, the spread of the estimate is larger than what it measures."""

SetMetric = Callable[[Tensor, Tensor], float]


def set_metrics(names: Sequence[str]) -> dict[str, SetMetric]:
    """The functions behind the names that a suite may list."""
    from clbench.metrics.sets import cmmd, kid

    known: dict[str, SetMetric] = {"kid": kid, "cmmd": cmmd}
    return {name: known[name] for name in names}


def score_sets(folders: Sequence[RunFolder], world: World, suite: Suite, keep: bool = False) -> list[Path]:
    """Write sets.json of every run in `folders`; the truths are embedded once for all of them.

    With `keep`, a run that has this very file already is left alone. Returns the files that were written.
    """
    metrics = set_metrics(suite.table.sets)
    clip = open_encoders(world, ["clip_image"]).clip
    teacher = next((folder for folder in folders if folder.info.system_name == "teacher"), None)
    truths = _Truths(Truths(world, teacher, draws=1, subjects=False), clip)
    written = []
    for folder in folders:
        key = _made_from(folder, world, suite, clip, truths)
        if not keep or not _is_kept(folder, key):
            features = None if clip is None else {"name": clip.card.name, "sha256": clip.card.sha256}
            written.append(write_sets(folder, _rows(folder, metrics, clip, truths), features, key))
    return written


def _is_kept(folder: RunFolder, key: str) -> bool:
    try:
        return read_made_from(folder) == key and bool(read_sets(folder))
    except ClbenchError:
        return False


def _made_from(folder: RunFolder, world: World, suite: Suite, clip: ClipEncoder | None, truths: _Truths) -> str:
    """The hash of everything that decides the rows of a run."""
    versions = {name: SET_METRICS.get(name).version for name in suite.table.sets}
    network = None if clip is None else [clip.card.name, clip.card.sha256]
    asked = about(folder.read_edits().values())
    return hash_value([code_key(), folder.info.run, world.hash, versions, network, asked, truths.truths.made_from])


def rows_of(
    outputs: Mapping[str, Tensor], truths: Mapping[str, Tensor], steps: int | None, metrics: Mapping[str, SetMetric]
) -> list[SetRow]:
    """Rows of all effects together ("") and of each, from embeddings (n, D) of outputs and (m, D) of truths by effect."""
    sets = {"": (torch.cat([*outputs.values()]), torch.cat([*truths.values()]))} if outputs else {}
    sets |= {effect: (found, truths[effect]) for effect, found in outputs.items()}
    return [_row(name, effect, steps, *pair, metric) for name, metric in metrics.items() for effect, pair in sets.items()]


def _row(name: str, effect: str, steps: int | None, found: Tensor, truth: Tensor, metric: SetMetric) -> SetRow:
    n, m = len(found), len(truth)
    if min(n, m) < SMALLEST:
        reason = f"{n} pictures and {m} truths; a set-level metric needs {SMALLEST} of each"
        return SetRow(name, effect, steps, n, m, None, "unscored", reason)
    value = metric(found, truth)
    if not math.isfinite(value):
        return SetRow(name, effect, steps, n, m, None, "unscored", "the value is not finite")
    return SetRow(name, effect, steps, n, m, float(f"{value:.{DIGITS}g}"))


def embed(clip: ClipEncoder, pictures: Iterable[np.ndarray]) -> Tensor:
    """(n, D) of `pictures` uint8 (H, W, 3); those of one pass of the network are in memory at a time."""
    waiting = iter(pictures)
    parts = iter(lambda: list(islice(waiting, AT_ONCE)), [])
    return torch.cat([clip.embed_image(to_tensor(part)) for part in parts])


class _Truths:
    """Embeddings of the first draw of each truth, remembered."""

    def __init__(self, truths: Truths, clip: ClipEncoder | None) -> None:
        self.truths, self.clip = truths, clip
        self._known: dict[tuple[str, str], Tensor | None] = {}

    def embedded(self, effect: str, sources: Iterable[str]) -> dict[str, Tensor]:
        """(D,) for each of `sources` that has a truth, in their order; those that are new are embedded together."""
        asked = list(dict.fromkeys(sources))
        fresh = {source: self.truths.truth(effect, source) for source in asked if (effect, source) not in self._known}
        self._known |= {(effect, source): None for source in fresh}
        if known := {source: truth.draws[0] for source, truth in fresh.items() if truth.known}:
            assert self.clip is not None
            rows = embed(self.clip, known.values())
            self._known |= {(effect, source): row for source, row in zip(known, rows, strict=True)}
        return {source: row for source in asked if (row := self._known[effect, source]) is not None}


def _rows(folder: RunFolder, metrics: Mapping[str, SetMetric], clip: ClipEncoder | None, truths: _Truths) -> list[SetRow]:
    records = [r for r in folder.read_edits().values() if r.status == "ok" and r.case.question == "effect" and not r.case.probe]
    if clip is None:
        return [SetRow(name, "", None, 0, 0, None, "unscored", "the world names no CLIP") for name in metrics]
    found: list[SetRow] = []
    for steps in sorted({record.case.steps for record in records}, key=lambda step: step or 0):
        mine = [record for record in records if record.case.steps == steps]
        found += rows_of(*_embedded(folder, mine, clip, truths), steps, metrics)
    return found


def _embedded(
    folder: RunFolder, records: Sequence[EditRecord], clip: ClipEncoder, truths: _Truths
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Embedded outputs (N, D) and truths (M, D) by effect; the truth of a source once, however many seeds were asked."""
    asked: dict[str, list[EditRecord]] = {}
    for record in sorted(records, key=lambda record: record.id):
        asked.setdefault(record.case.effect, []).append(record)
    outputs, right = {}, {}
    for effect, mine in asked.items():
        if known := truths.embedded(effect, (record.case.source for record in mine)):
            pictures = (folder.read_picture(record) for record in mine if record.case.source in known)
            outputs[effect], right[effect] = embed(clip, pictures), torch.stack([*known.values()])
    return outputs, right
