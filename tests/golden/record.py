"""Golden values of every metric on the outputs of tests/planted.py; `python tests/golden/record.py` writes metrics.json."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from planted import EFFECTS, Planted, cases, plant, scored

from clbench.calibration import to_tensor
from clbench.metrics import SET_METRICS
from clbench.score_sets import set_metrics

FILE = Path(__file__).with_name("metrics.json")
COMMAND = "python tests/golden/record.py"
PACKAGES = ("torch", "numpy", "scipy", "opencv-python-headless", "open_clip_torch", "stlpips_pytorch")
Table = dict[str, dict[str, list[float | str | None]]]
"""By metric, then by case (and `other`): one value for each system, None where there is none."""


def measured(planted: Planted) -> Table:
    found: Table = {}
    for source in planted.world.sources:
        edits = {name: [r for r in run.read_edits().values() if r.case.source == source.id] for name, run in planted.runs.items()}
        for (_, metric, case, other), value in scored(planted, source.id, edits).items():
            row = found.setdefault(metric, {}).setdefault(f"{case} {other}".strip(), [])
            row.append(None if isinstance(value, float) and math.isnan(value) else value)
    return found | {name: {"all effects": list(row)} for name, row in _sets(planted).items()}


def _sets(planted: Planted) -> dict[str, list[float]]:
    """Set-level values for each system: its outputs against the truths, both as the world's CLIP sees them."""
    clip, truths = planted.scorer.encoders.clip, planted.scorer.truths
    asked = [(effect, source.id) for effect in EFFECTS for source in planted.world.sources]
    right = clip.embed_image(to_tensor([truths.truth(*each).draws[0] for each in asked]))
    outputs = {
        name: [run.read_picture(r) for r in run.read_edits().values() if r.case.question == "effect"]
        for name, run in planted.runs.items()
    }
    distances = set_metrics(tuple(SET_METRICS))
    seen = {name: clip.embed_image(to_tensor(pictures)) for name, pictures in outputs.items()}
    return {metric: [float(f"{distance(seen[name], right):.7g}") for name in seen] for metric, distance in distances.items()}


def pictures(planted: Planted) -> dict[str, list[str]]:
    """Digests of what is measured, by case: one for each system."""
    edits = [{r.id: run.read_picture(r) for r in run.read_edits().values()} for run in planted.runs.values()]
    digest = lambda picture: hashlib.sha256(picture.tobytes()).hexdigest()[:8]  # noqa: E731
    return {case.id: [digest(made[case.id]) for made in edits] for case in cases(planted.world)}


def write(planted: Planted) -> None:
    head = {
        "command": COMMAND, "python": platform.python_version(), "machine": platform.machine(),
        "versions": {name: version(name) for name in PACKAGES}, "systems": list(planted.runs),
    }  # fmt: skip
    tables = {"pictures": pictures(planted), **measured(planted)}
    parts = [f'"{name}": {json.dumps(value)}' for name, value in head.items()]
    parts += [f'"{name}": {{\n{_lines(table)}\n}}' for name, table in tables.items()]
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _lines(table: dict[str, list]) -> str:
    return ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in table.items())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write(plant(Path(folder)))
