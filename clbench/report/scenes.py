"""Tables about the scenes of groups: what each system can have seen of them in training, and what they are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from clbench.report.cells import MISSING, Cell, Head, Row, TableView, plural
from clbench.report.data import Results
from clbench.scene_parts import Parts
from clbench.sources import GROUPS, LEARNED_FROM, group_of

PARTS = {
    "base": "base", "teacher": "teachers", "teacher-few": "teachers", "cascade": "teachers", "merged": "teachers",
    "joint": "joint LoRA", "collection": "collection",
}  # fmt: skip
"""Kind of a system -> the part of it that knows the effects, or the base."""
SEEN_NOTE = (
    "Of how many scenes of a group a part of the system saw subject and background, in other scenes: the reference trainer shows "
    "teachers and a joint LoRA one split of the training pictures, collections and accelerators another. So also «seen» has "
    "subjects and backgrounds that a system never saw. Of adapters that were trained elsewhere, or on a folder of pictures, "
    "nothing is known; a collection that starts from its merged teachers has what these learned."
)


def seen_table(results: Results) -> TableView | None:
    """One row per system and part of it, one column per group: of how many scenes subject and background were training
    pictures. None where nothing is known of the scenes."""
    groups = _by_group(results.about.scenes)
    learned = [
        (system, part, LEARNED_FROM[part])
        for system, entry in results.runs().items()
        if not entry.control
        for part in parts_of(entry.info.system.card)
    ]
    body = [Row([*map(Cell, words), *(_seen_cell(held, words[2]) for held in groups.values())]) for words in learned]
    if not groups or not body:
        return None
    heads = [Head(name, numeric=False) for name in ("System", "Its part", "Trained on split")]
    heads += [Head(group, GROUPS[group].told) for group in groups]
    return TableView("t-groups-training", "Scenes whose subject and background were seen in training", heads, body, SEEN_NOTE)


def parts_of(card: Mapping[str, Any]) -> list[str]:
    """The parts of a system that learned from pictures, as in `LEARNED_FROM`; of unknown systems none."""
    settings = card["settings"]
    fast = "accelerator" in card["adapters"] or "accelerator" in settings.get("merged_from", {})
    known = [PARTS[card["kind"]]] if card["kind"] in PARTS else []
    return [*known, *(["accelerator"] if fast and known else [])]


def _by_group(scenes: Mapping[str, Parts]) -> dict[str, list[Parts]]:
    found = {group: [parts for source, parts in scenes.items() if group_of(source) == group] for group in GROUPS}
    return {group: held for group, held in found.items() if held}


def _seen_cell(scenes: list[Parts], split: str) -> Cell:
    """Both of so many; below it subject and background alone."""
    seen = [parts.seen(split) for parts in scenes]
    both = sum(subject and background for subject, background in seen)
    backgrounds = sum(background for _, background in seen)
    subjects = sum(subject for subject, _ in seen)
    sub = f"subject {subjects}, background {backgrounds}" if all(parts.subject for parts in scenes) else "no subject"
    return Cell(f"{both} of {len(scenes)}", sub, both / len(scenes))


def scenes_table(results: Results) -> TableView | None:
    """One row per scene: its parts, their splits, and which other scenes share one; None where nothing is known of them."""
    scenes = results.about.scenes
    if not scenes:
        return None
    subjects, backgrounds = _named(scenes, "subject"), _named(scenes, "background")
    body, sharing = [], 0
    for source, parts in sorted(scenes.items(), key=lambda pair: (list(GROUPS).index(group_of(pair[0])), pair[0])):
        same = [*(subjects[parts.subject] if parts.subject else []), *backgrounds[parts.background]]
        others = [name for name in dict.fromkeys(same) if name != source]
        sharing += bool(others)
        body.append(Row([
            Cell(source), Cell(parts.subject or MISSING, parts.subject_split), Cell(parts.background, parts.background_split),
            Cell(", ".join(others), css="text"),
        ]))  # fmt: skip
    heads = [Head(name, numeric=False) for name in ("Scene", "Subject", "Background", "Shares one of them with")]
    note = (
        f"Below each name stands the split that it is of. {sharing} of {plural(len(scenes), 'scene')} share a subject or a "
        "background with another one, so they are fewer than their number says."
    )
    return TableView("t-groups-scenes", "The scenes of the groups", heads, body, note)


def _named(scenes: Mapping[str, Parts], what: str) -> defaultdict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for source, parts in scenes.items():
        found[getattr(parts, what)].append(source)
    return found
