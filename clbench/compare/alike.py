"""Which two runs must not be compared: those whose numbers mean different things."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clbench.certificate import differing_parts
from clbench.metrics import METRICS
from clbench.registry import ClbenchError
from clbench.results import RunFolder
from clbench.score_table import network_words, other_encoders

if TYPE_CHECKING:
    from clbench.compare.sides import Side

NAMED = 4
"""Effects that a sentence names; of more it says how many there are."""


def refuse_other(one: RunFolder, other: RunFolder) -> None:
    """ClbenchError where two runs have another suite or world, with what of the world is another."""
    for what in ("suite", "world"):
        held, asked = getattr(one.info, what), getattr(other.info, what)
        if held.hash != asked.hash:
            parts = differing_parts(one.info.world_parts, other.info.world_parts) if what == "world" else ""
            raise ClbenchError(
                f"{one.path} was made with {what} '{held.name}' ({held.hash[:8]}), {other.path} with '{asked.name}' "
                f"({asked.hash[:8]}){parts}; only runs of the same {what} can be compared"
            )


def refuse_effects(one: Side, other: Side) -> None:
    """ClbenchError where the meter told outputs apart among other effects: then success and leak say something else.

    Worlds with the same effects, but teachers for other ones of them, have the same hash. Nothing is refused where a run
    does not say its effects.
    """
    if not one.competing or not other.competing or one.competing == other.competing:
        return
    counts = f"{one.folder.path} was judged among {len(one.competing)} effects, {other.folder.path} among {len(other.competing)}"
    alone = [
        f"only {side.folder.path} has {_some(gone)}"
        for side, gone in ((one, one.competing - other.competing), (other, other.competing - one.competing))
        if gone
    ]
    raise ClbenchError(f"{counts} ({'; '.join(alone)}); only runs in which the same effects compete can be compared")


def refuse_versions(one: Side, other: Side) -> None:
    """ClbenchError where a metric that both have was computed by two versions of it."""
    for metric, version in one.versions.items():
        found = other.versions.get(metric, version)
        if found != version:
            raise ClbenchError(
                f"metric '{metric}' has version {version} in {one.folder.path} and {found} in {other.folder.path}; "
                "score both with the same clbench"
            )


def refuse_encoders(one: Side, other: Side) -> None:
    """ClbenchError where a metric that both have was made with two networks, of which a world's hash knows nothing.

    Nothing is refused where a run does not say its networks.
    """
    for role in other_encoders(one.encoders, other.encoders):
        metrics = [metric for metric in one.versions if metric in other.versions and role in METRICS.get(metric).needs]
        if metrics:
            said = [f"{network_words(side.encoders[role])} in {side.folder.path}" for side in (one, other)]
            raise ClbenchError(f"{', '.join(metrics)}: scored with {said[0]} and with {said[1]}; score both with one network")


def refuse_judgement(one: Side, other: Side) -> None:
    """ClbenchError where effects without known operator were judged by two rules, or by an older clbench in one of the runs.

    Nothing is refused where neither run says its rule: every effect has an operator, or both are old.
    """
    versions = [None if side.learnt is None else side.learnt.version for side in (one, other)]
    if versions[0] != versions[1]:
        older = min((one, other), key=lambda side: 0 if side.learnt is None else side.learnt.version)
        raise ClbenchError(
            f"effects without a known operator were judged by an older rule in {older.folder.path}; score it again with "
            "`clbench score`"
        )


def _some(effects: frozenset[str]) -> str:
    """``fog, night``; of many ``confetti, fog, night, rain and 38 more``."""
    names = sorted(effects)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
