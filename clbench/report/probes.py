"""Tables about probes: what appears for each way to put the question, and how a neutral question is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clbench.probe_words import PARAPHRASE, prompt_words
from clbench.probes import PROBES
from clbench.report.cells import Cell, Head, Row, TableView, number
from clbench.report.rows import LAST, Frame, as_made, estimate_cell, mean_of, share_of
from clbench.stats import Ratio, draws_for, paired_ratio
from clbench.types import NEUTRAL, OTHER_TRIGGER, Effect

NOTE = (
    "Read by attribution on the same sources: which effect a picture shows. «plain» is each system's own prompt. «trigger's» "
    "is the effect whose trigger was given beside another effect's caption; an orthogonal prompt lets the trigger decide."
)
NEUTRAL_NOTE = (
    "A general instruction without trigger should be answered as the base answers it. Distance is perceptual, in units of the "
    "distance between two bases that differ in their noise alone (control reseed); 1 is as near as the base comes to itself. "
    "Leak is what each effect changes of the source, found in the output beyond the base's own picture."
)


def probe_table(frame: Frame, neighbours: Mapping[str, str], effects: Sequence[Effect] = ()) -> TableView | None:
    """One row per system and probe that was asked of it; None without probes.

    `neighbours`: effect id -> the effect whose trigger probe "other-trigger" gives (`clbench.probes.neighbour_in`). `effects`:
    those asked for, which may have paraphrases of their own.
    """
    seen = as_made(frame[(frame["metric"] == "attributed") & (frame["second"] == "") & (frame["probe"] != NEUTRAL)])
    asked = set(seen[(seen["probe"] != "") & (seen["status"] == "ok")]["system"])
    rows = []
    for system in dict.fromkeys(name for name in seen["system"] if name in asked):
        mine = seen[seen["system"] == system]
        probed = mine[(mine["probe"] != "") & (mine["status"] == "ok")]
        same = mine["source"].isin(probed["source"])
        for probe in ("", *(name for name in PROBES if name in set(probed["probe"]))):
            words = prompt_words(probe, effects) if probe else "the system's own prompt"
            rows.append(_probe_row(system, probe, words, mine[(mine["probe"] == probe) & same], neighbours))
    if not rows:
        return None
    heads = [
        Head("System", numeric=False), Head("Prompt", numeric=False), Head("Asked effect"), Head("Trigger's effect"),
        Head("Another effect"), Head("Untouched source"), Head("Nothing clearly"),
    ]  # fmt: skip
    paraphrased = any(row.cells[1].text == PARAPHRASE for row in rows)
    note = f"{NOTE} «{PARAPHRASE}» is {prompt_words(PARAPHRASE, effects)}." if paraphrased else NOTE
    return TableView("t-probes", "What appears, by the way the question is put", heads, rows, note)


def _probe_row(system: str, probe: str, words: str, rows: Frame, neighbours: Mapping[str, str]) -> Row:
    own, found = rows["effect"].to_numpy(dtype=object), rows["other"].to_numpy(dtype=object)
    beside = np.array([neighbours.get(effect, "") if probe == OTHER_TRIGGER else "" for effect in own], dtype=object)
    nothing = np.isin(found.astype(str), ("source", "none"))
    another = ~nothing & (found != own) & (found != beside)
    hits = (found == own, (found == beside) & (beside != ""), another, found == "source", found == "none")
    cells = [Cell(system), Cell(probe or "plain", title=words)]
    cells += [estimate_cell("success", share_of(rows, hit)) for hit in hits]
    if probe != OTHER_TRIGGER:
        cells[3] = Cell("", title="no other trigger was given")
    return Row(cells)


def neutral_table(frame: Frame, name: Callable[[str], str] = str) -> TableView | None:
    """One row per system: distance to the base in units of the reseed floor, and leak; None if nothing neutral was asked.

    `name` turns the id of an effect into its name.
    """
    every = frame[frame["probe"] == NEUTRAL]
    rows, fine = as_made(every), every["status"] == "ok"
    if not fine.any():
        return None
    floor = every[fine & (every["metric"] == "neutral_distance") & (every["system"] == "reseed")]
    asked = rows[rows["status"] != "unscored"]["system"]  # failed edits count; most controls are not asked at all
    systems = dict.fromkeys(name for name in asked if name != "base")
    body = [_neutral_row(system, rows[rows["system"] == system], floor, name) for system in systems]
    heads = [
        Head("System", numeric=False), Head("Distance / reseed floor"), Head("Leak of all effects"),
        Head("Largest leak", numeric=False), Head("Shows an effect"),
    ]  # fmt: skip
    return TableView("t-neutral", "Neutral questions: does a system behave like the base?", heads, body, NEUTRAL_NOTE)


def _neutral_row(system: str, rows: Frame, floor: Frame, name: Callable[[str], str]) -> Row:
    fine = rows[rows["status"] == "ok"]
    distance = _floor_cell(floor_ratio(fine[fine["metric"] == "neutral_distance"], floor, same=system == "reseed"))
    leaks = fine[fine["metric"] == "neutral_leak"].groupby("other")["value"].mean()
    most = leaks.max() if len(leaks) else float("nan")
    largest = Cell(name(str(leaks.idxmax())), number(most, 3), most, key=True) if most > 0 else Cell("none", sort=0.0)
    seen = rows[rows["metric"] == "attributed"]
    caught = share_of(seen, ~seen["other"].isin(("base", "source", "none")).to_numpy())
    leaks = mean_of(rows[rows["metric"] == "neutral_leak_total"], "neutral_leak_total")
    total = estimate_cell("neutral_leak_total", leaks)
    return Row(
        [Cell(system), distance, total, largest, estimate_cell("success", caught)], "control" if system == "reseed" else ""
    )


def _floor_cell(found: Ratio) -> Cell:
    if not found.n_pairs:
        return Cell(number(found.value, 2), "no run of control reseed to compare with", LAST)
    counted = f"{found.n_pairs} questions answered by both"
    if np.isnan(found.low):
        return Cell(number(found.value, 2), found.reason, found.value if np.isfinite(found.value) else LAST, title=counted)
    top, high = ("no upper bound", float("nan")) if np.isinf(found.high) else (number(found.high, 2), found.high)
    return Cell(number(found.value, 2), f"[{number(found.low, 2)}, {top}]", found.value, title=counted, bounds=(found.low, high))


def floor_ratio(rows: Frame, floor: Frame, same: bool = False) -> Ratio:
    """Mean of `rows` over mean of `floor` on the cases that both have, with its 95 % interval over effects (`paired_ratio`).

    A ratio of means, since single floors can be near 0. `same`: `rows` are those of the floor.
    """
    keys = ["effect", "source", "seed", "steps"]
    both = rows.merge(floor, on=keys, suffixes=("", "_floor"))
    one, two = (both[name].to_numpy(dtype=np.float64) for name in ("value", "value_floor"))
    drawn = draws_for("ratio", "neutral_distance")
    return paired_ratio(one, two, both["effect"].tolist(), both["source"].tolist(), drawn, same=same)


def gram_table(gram: Mapping[str, Mapping], name: Callable[[str], str] = str) -> TableView:
    """The coherence numbers of gram.json (`clbench.gram`): one row per space and kind of prompt; `name` as above."""
    rows = []
    for space, kinds in gram["spaces"].items():
        for kind, told in kinds.items():
            apart = told["centred"]
            between = " and ".join(name(effect) for effect in told["between"] or ())
            cells = [Cell(space), Cell(kind), *(_plain(told[n]) for n in ("mean", "largest")), Cell(between)]
            rows.append(Row([*cells, _plain(apart["largest"]), _plain(told["effective_rank"])]))
    heads = [
        Head("Encoder", numeric=False), Head("Prompts", numeric=False), Head("Mean |cosine|"), Head("Largest |cosine|"),
        Head("Between", numeric=False), Head("Largest, mean taken out"),
        Head("Effective rank", f"of {len(gram['effects'])} at most"),
    ]  # fmt: skip
    note = "How alike the prompts of different effects are to the text encoders; orthogonal prompting wants triggers far apart."
    return TableView("t-gram", "Prompts to the text encoders", heads, rows, note)


def _plain(value: float | None) -> Cell:
    return Cell(number(float("nan") if value is None else value, 3), sort=-1.0 if value is None else value)


def neighbours_of(effects: Mapping, asked: Sequence[str]) -> dict[str, str]:
    """What `probe_table` needs, for the effects `asked` of a suite; `effects` are the world's, by id."""
    from clbench.probes import neighbour_in

    return {effect: neighbour_in(effects[effect], asked) for effect in asked} if len(asked) > 1 else {}
