"""Where the numbers come from: provenance of every run, and the glossary of metrics."""

from __future__ import annotations

import math

from clbench.provenance import portable_command
from clbench.report.cells import MISSING, Cell, Head, Row, TableView, anchor
from clbench.report.data import Results
from clbench.report.tables import short

GOOD = {
    "success": "1 for every picture; the truth control shows what the meter allows",
    "bcr": "0",
    "vsa": "5; below 4 the subject changes or edits fail",
    "subject": "5; 1 means that the subject is gone",
    "perceptual": "as low as the truth and noise-floor controls",
    "clip_image": "as high as the noise-floor control",
    "clip_text": "as high as the truth control; identity shows the floor",
    "clip_directional": "as high as the truth control; identity has no direction",
    "psnr": "as high as the noise-floor control; 30 dB is hard to tell from the truth",
    "ssim": "near 1",
    "leak_total": "as low as the truth control",
    "leak": "0",
    "dose": "1; below 1 too weak, above 1 too strong",
    "attributed": "every picture on the diagonal",
    "attribution_distance": "smallest for the asked effect",
    "neutral_distance": "as small as that of the reseed control",
    "neutral_leak": "0",
    "neutral_leak_total": "as low as the reseed control",
    "both": "as high as the truth control",
    "first_shows": "as high as the truth control",
    "second_shows": "as high as the truth control",
    "in_order": "as high as the truth control",
    "order_change": "near that of the truth control",
}


def shared_facts(results: Results) -> list[tuple[str, str]]:
    """Facts that all runs share, as (name, value)."""
    about = results.about
    newest = max((entry.info.created for entry in results.entries), default=MISSING)
    facts = [
        ("World", f"{about.world_name} ({about.world_hash[:12]})"),
        ("Suite", f"{about.suite_name} ({about.suite_hash[:12]})"),
        ("Question", about.question),
        ("Truth", about.truth_kind),
        *([("Left out", about.left_out)] if about.left_out else []),
        ("Newest run", moment(newest)),
        (
            "Seeds",
            ", ".join(str(seed) for seed in sorted({s for e in results.entries for s in e.info.seeds})),
        ),
    ]
    for name in sorted({name for entry in results.entries for name in entry.info.versions}):
        found = sorted({entry.info.versions.get(name, "absent") for entry in results.entries})
        facts.append((name, " / ".join(found)))
    machines = sorted({" ".join(entry.info.platform.values()) for entry in results.entries})
    return [*facts, ("Platform", " / ".join(machines))]


def runs(results: Results) -> TableView:
    """One row per run: id, code, device, adapters, settings, when, with which command."""
    rows = []
    for entry in sorted(results.runs().values(), key=lambda entry: entry.control):
        info = entry.info
        code = info.git.sha[:10] + (" + changes" if info.git.dirty else "") if info.git.sha else "no checkout"
        adapters = ", ".join(f"{role} {digest[:10]}" for role, digest in info.system.card["adapters"].items())
        settings = ", ".join(f"{key} {value}" for key, value in info.system.card["settings"].items())
        rows.append(
            Row(
                [
                    Cell(entry.name, info.run, css="name"),
                    Cell(info.cache_key[:12], css="code"),
                    Cell(code, css="code"),
                    Cell(f"{info.device}, {info.dtype}", css="text"),
                    Cell(adapters or "none", css="code"),
                    Cell(settings or "none", css="text"),
                    Cell(moment(info.created), info.status, css="text"),
                    Cell(portable_command(info.command, entry.folder.path.parent), css="code"),
                ],
                "control" if entry.control else "",
            )
        )
    names = ("System", "Cache key", "Code", "Device", "Adapters", "Settings", "Created", "Command")
    return TableView("t-runs", "Runs", [Head(name, numeric=False) for name in names], rows, css="wide", sortable=False)


def moment(created: str) -> str:
    """An ISO time to the minute, as it is read."""
    return created[:16].replace("T", " ") + (" UTC" if created.endswith("+00:00") else "")


def glossary(results: Results) -> TableView:
    """Every metric of the report: what it is, direction, bounds, version, what is good, and its source."""
    rows = []
    for card in results.asked:
        rows.append(
            Row(
                [
                    Cell(short(card.name), card.name, css="name", title=f"m-{anchor(card.name)}"),
                    Cell(card.about, css="text"),
                    Cell(card.direction, css="text"),
                    Cell(f"{_bound(card.bounds[0])} to {_bound(card.bounds[1])}"),
                    Cell(str(card.version)),
                    Cell(GOOD.get(card.name, MISSING), css="text"),
                    Cell(card.source or MISSING, css="text"),
                ]
            )
        )
    names = ("Metric", "What it says", "Better", "Bounds", "Version", "What is good", "Source")
    heads = [Head(name, numeric=name in ("Bounds", "Version")) for name in names]
    return TableView("t-glossary", "Metrics", heads, rows, css="wide glossary", sortable=False)


def _bound(value: float) -> str:
    return ("−∞" if value < 0 else "∞") if math.isinf(value) else f"{value:g}".replace("-", "−")
