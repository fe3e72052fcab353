"""The system that differences are taken to: the cascade, or what stands in its place where there is none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

USUAL, TEACHER, BASE = "cascade", "teacher", "base"
OF_SUITES = {"ablation": "collection"}
"""Suites whose question is about other differences than those to the cascade: variants against the world's first candidate."""


@dataclass(frozen=True)
class Reference:
    """Its name, and a sentence why it is not the usual one; "" where it is."""

    system: str
    words: str = ""


def reference_of(suite: str, ran: Collection[str], judged_by_teacher: bool, lack: str = "") -> Reference:
    """The reference of a report of `suite` about the systems that `ran`, controls aside; `lack` is why there is no cascade.

    In its place: the teachers, whom a distilled adapter is to equal; but where their own pictures are the truth
    (`judged_by_teacher`) they are right by construction, and where only the base ran beside them they are what is asked about:
    then the base. Without any of the three it is the usual one, of which the report says that it was not run.
    """
    usual = OF_SUITES.get(suite, USUAL)
    if usual != USUAL or USUAL in ran:
        return Reference(usual)
    absent = f"{USUAL} was not run{f' ({lack})' if lack else ''}"
    told = f"Differences are to {{}}: {absent}"
    further = {*ran} - {TEACHER, BASE}
    if TEACHER in ran and further and not judged_by_teacher:
        return Reference(TEACHER, f"{told.format(TEACHER)}.")
    if BASE not in ran or len({*ran}) < 2:
        return Reference(USUAL)
    truth = f", and {TEACHER} made the truth here" if TEACHER in ran and judged_by_teacher else ""
    return Reference(BASE, f"{told.format(BASE)}{truth}.")
