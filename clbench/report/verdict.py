"""The verdict in plain words, and the checks of the instrument; both only say what the numbers carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clbench.metrics.derived import SHARES
from clbench.report import curves
from clbench.report.cells import interval, metric_value, plural
from clbench.report.data import SOURCE, Entry, Results
from clbench.report.differences import correction_words, hopeless
from clbench.report.numbers import Compared, Numbers
from clbench.report.tables import counts, noun, short
from clbench.stats import NO_VARIATION

SURE = 0.99
"""Controls must read right in this share of their cases."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of the verdict; `key` ones carry the answer and are printed stronger, `why` ones say what it rests on."""

    text: str
    key: bool = False
    why: bool = False


@dataclass(frozen=True)
class Check:
    """One thing that must hold for the numbers to mean anything; `control`: it was read from a control."""

    ok: bool
    text: str
    control: bool = False


def verdict(numbers: Numbers) -> list[Sentence]:
    """One paragraph as sentences: the suite's own answer, what is proven against the reference, who leads, bleeding, cost."""
    results = numbers.results
    if not results.systems:
        return [
            Sentence("Only controls were asked, so there is no verdict.", key=True),
            Sentence(f"They show whether the meters read right: {plural(len(results.controls), 'control')} on "
                     f"{plural(len(results.effects), 'effect')}.", why=True),
        ]  # fmt: skip
    if results.headline is None:
        return [Sentence("No system was scored on a metric with a direction, so there is no verdict.", key=True)]
    compared = [*_own_answer(numbers), *(_answer(numbers, results.candidate) if results.candidate is not None else [])]
    plain = [
        _scope(results), *_leader(numbers), *_by_definition(results), *_bleeding(results), *_cost(results), *_failures(numbers),
    ]  # fmt: skip
    return [*compared, *_reference(results), *(Sentence(text) for text in plain)]


def _reference(results: Results) -> list[Sentence]:
    """Why differences are not to the usual reference, where some are taken to another one."""
    taken = results.about.reference_words and any(results.reference_for(entry) for entry in results.systems)
    return [Sentence(results.about.reference_words, why=True)] if taken else []


def _own_answer(numbers: Numbers) -> list[Sentence]:
    """The answer to what only some suites ask, such as when the teacher is reached, before what every suite says."""
    found = [said for said in (curves.answer(numbers),) if said is not None]
    return [one for key, why in found for one in (Sentence(key, key=True), Sentence(why, why=True)) if one.text]


def _answer(numbers: Numbers, candidate: Entry) -> list[Sentence]:
    """What is proven against the reference: of the candidate (and of further extended adapters where it is one), or of its
    variants where it is the reference itself.
    """
    results = numbers.results
    variants = [entry for entry in results.systems if entry.collection and results.reference_for(entry) is candidate]
    if variants:
        return _variants(numbers, variants)
    further = [e for e in results.finals if candidate.extended and e.collection and e.extended and e is not candidate]
    return [sentence for entry in (candidate, *further) for sentence in _against_reference(numbers, entry)]


def _scope(results: Results) -> str:
    edits = max(len(entry.cases) for entry in results.systems)
    sources = len({case.source for entry in results.systems for case in entry.cases})
    systems = len({entry.system for entry in results.systems})
    steps = len({entry.steps for entry in results.systems})
    often = f" at each of {steps} numbers of steps" if steps > 1 else ""
    many = f"{plural(len(results.effects), 'effect')} on {plural(sources, 'source picture')}"
    return f"{plural(systems, 'system')} made up to {plural(edits, 'edit')} each{often}: {many}."


def _leader(numbers: Numbers) -> list[str]:
    results, card = numbers.results, numbers.results.headline
    assert card is not None
    found = [(numbers.estimates[entry.label, card.name], entry) for entry in results.whole]
    known = [(one, entry) for one, entry in found if np.isfinite(one.value)]
    if not known:
        return [f"None of them could be scored on {short(card.name)}."]
    flip = 1 if card.direction == "higher" else -1
    known.sort(key=lambda pair: (-flip * pair[0].value, pair[1].label))
    best, entry = known[0]
    tied = [other.label for one, other in known[1:] if abs(one.value - best.value) < 1e-9]
    who = _and([entry.label, *tied])
    value, bounds = metric_value(card.name, best.value), interval(card.name, best.low, best.high)
    measured = f"{value} (95 % interval {bounds})" if bounds else value
    extreme = "highest" if card.direction == "higher" else "lowest"
    verb = "share the" if tied else "has the"
    words = [f"{who} {verb} {extreme} measured {noun(card.name)}, {measured}."]
    if results.partial:
        some = f"{_and([entry.label for entry in results.partial])} {'was' if len(results.partial) == 1 else 'were'}"
        words.append(f"{some} asked of fewer effects: means over those are not ranked among the others.")
    return words


def _by_definition(results: Results) -> list[str]:
    """That the teacher's own pictures are the truth of effects that it was asked for."""
    own = [effect for effect in results.effects if effect.id in results.about.by_teacher]
    if not own or not any(entry.system == "teacher" for entry in results.systems):
        return []
    of_what = "every effect" if len(own) == len(results.effects) else f"{len(own)} of {len(results.effects)} effects"
    return [f"The right answer of {of_what} is the teacher's own picture at full steps, so there it is right by definition."]


def _against_reference(numbers: Numbers, entry: Entry) -> list[Sentence]:
    results, card = numbers.results, numbers.results.headline
    assert card is not None
    found = numbers.compared.get((entry.label, card.name))
    reference = results.reference_for(entry)
    if reference is None and entry.system == results.about.reference:
        return []
    if reference is None:
        return [Sentence(f"Without a run of {results.reference_name} nothing is said about differences to it.")]
    if found is None or not math.isfinite(found.difference.value):
        return [Sentence(f"{entry.label} could not be compared with {reference.label} on {noun(card.name)}.", key=True)]
    if not math.isfinite(found.difference.low):
        return [_no_interval({entry.label: found}, reference.label, card.name)]
    return _compared_sentences(entry.label, reference.label, card.name, found)


def _no_interval(found: Mapping[str, Compared], other: str, metric: str) -> Sentence:
    """Differences to `other` that have no interval, and the reason why (there is one effect alone)."""
    (first, gap), *more = ((name, metric_value(metric, one.difference.value, signed=True)) for name, one in found.items())
    said = [f"the {noun(metric)} of {first} differs by {gap}", *(f"that of {name} by {gap}" for name, gap in more)]
    reason = next(iter(found.values())).difference.reason
    return Sentence(f"On the same cases {_and(said)} from that of {other}; {reason}.", key=True)


def _variants(numbers: Numbers, variants: list[Entry]) -> list[Sentence]:
    """Which variants of the reference are better or worse than it, and which cannot be told apart from it."""
    card, reference = numbers.results.headline, numbers.results.reference_name
    assert card is not None
    found = {e.label: one for e in variants if (one := numbers.compared.get((e.label, card.name))) is not None}
    parts = []
    for better, words in ((False, "worse than {}"), (True, "better than {}"), (None, "not told apart from {}")):
        names = [label for label, one in found.items() if one.better is better and math.isfinite(one.adjusted)]
        parts += [f"{_and(names)} {'is' if len(names) == 1 else 'are'} {words.format(reference)}"] if names else []
    known = {label: one for label, one in found.items() if math.isfinite(one.difference.value)}
    single = {label: one for label, one in known.items() if not math.isfinite(one.difference.low)}
    alone = [_no_interval(single, reference, card.name)] if single else []
    if not parts:
        return alone or [Sentence(f"No variant could be compared with {reference} on {noun(card.name)}.", key=True)]
    tests = next(iter(found.values())).tests
    why = f"Each on the same cases, corrected for all {tests} systems compared. {hopeless({card.name: found.values()})}".strip()
    return [Sentence(f"On {noun(card.name)}, {'; '.join(parts)}.", key=True), Sentence(why, why=True), *alone]


def _compared_sentences(label: str, reference: str, metric: str, found: Compared) -> list[Sentence]:
    gap, what = found.difference, noun(metric)
    value = metric_value(metric, gap.value, signed=True)
    bounds = interval(metric, gap.low, gap.high, signed=True)
    measured = f"On the same cases the {what} of {label} differs by {value}, 95 % interval {bounds}"
    if found.better is not None:
        word = "better" if found.better else "worse"
        return [
            Sentence(f"{label} is {word} than {reference} on {what}.", key=True),
            Sentence(f"{measured}.", why=True),
        ]
    shown = _would_show(metric, found)
    if not gap.decided:
        why = f"{measured}, which covers 0; {shown}."
    elif math.isinf(gap.detectable):
        why = f"{measured}; it leaves 0 out, but {shown}."
    else:
        why = f"{measured}; it leaves 0 out, but corrected for all systems compared it may be chance."
    return [Sentence(f"{label} and {reference} cannot be told apart on {what}.", key=True), Sentence(why, why=True)]


def _would_show(metric: str, found: Compared) -> str:
    """What this comparison could have found, corrected for all systems compared."""
    gap = found.difference
    if math.isinf(gap.detectable):
        return correction_words(found)
    if not gap.detectable > NO_VARIATION:
        return "nothing varied between effects, so it cannot be said which differences would show"
    detectable = metric_value(metric, gap.detectable, unit=False) + (" points" if metric in SHARES else "")
    return f"with {gap.n_effects} effects only differences of about {detectable} or more would show"


def _bleeding(results: Results) -> list[str]:
    candidate = results.candidate
    reference = results.reference_for(candidate) if candidate is not None else None
    words = []
    for entry in (reference, candidate):
        if entry is not None and entry.read:
            other = sum(seen != asked and seen in results.about.effects for asked, seen in entry.read) / len(entry.read)
            source = sum(seen == SOURCE for _, seen in entry.read) / len(entry.read)
            words.append(
                f"{_percent(other)} of {entry.label}'s pictures are read as another effect and "
                f"{_percent(source)} as the untouched source"
            )
    return [f"Bleeding: {'; '.join(words)}."] if words else []


def _cost(results: Results) -> list[str]:
    words = []
    for name in dict.fromkeys(entry.name for entry in results.systems):
        found = [e.passes for e in results.systems if e.name == name and np.isfinite(e.passes)]
        if found:
            ends = f"{min(found):.0f}" if min(found) == max(found) else f"{min(found):.0f} to {max(found):.0f}"
            words.append(f"{name} {ends}")
    return [f"Passes of the transformer for one picture: {', '.join(words)}."] if words else []


def _failures(numbers: Numbers) -> list[str]:
    words = []
    for entry in numbers.results.systems:
        total, _, failed = counts(entry, numbers)
        if failed:
            words.append(f"{failed} of {total} ({entry.label})")
    return [f"Edits that failed and are missing from the means, not counted as 0: {', '.join(words)}."] if words else []


def _percent(share: float) -> str:
    return metric_value("success", share)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def checks(numbers: Numbers) -> list[Check]:
    """Do the controls read right, and does mean VSA <= 5 (1 - mean BCR) hold for every entry?"""
    results = numbers.results
    found = [check for entry in results.controls for check in _control(entry, results)]
    for entry in results.entries:
        if {"vsa", "bcr"} <= set(entry.columns) and (bound := _invariant(entry)) is not None:
            found.append(bound)
    if not results.controls:
        found.append(Check(False, "No control was run, so nothing shows that the meters read right here."))
    unfinished = [entry.label for entry in results.entries if entry.info.status != "complete"]
    if unfinished:
        found.append(Check(False, f"Not finished: {', '.join(unfinished)}. More edits may change these numbers."))
    return found


def settled(found: Sequence[Check]) -> str:
    """What it means that all of `found` hold: only a control that was read shows that the meters read right."""
    if any(check.control for check in found):
        return "controls read right"
    return "none of them reads a control, so nothing shows that the meters read right here"


def _control(entry: Entry, results: Results) -> list[Check]:
    read = entry.read
    wanted = {
        "truth": ("read as the asked effect", lambda asked, seen: seen == asked),
        "noise-floor": ("read as the asked effect", lambda asked, seen: seen == asked),
        "identity": ("read as the untouched source", lambda _, seen: seen == SOURCE),
        "wrong-effect": (
            "read as another effect",
            lambda asked, seen: seen != asked and seen in results.about.effects,
        ),
    }
    if "both" in entry.columns:
        # Of pairs of effects the truth shows both, and the untouched source does not.
        return _by_share(entry, "both", {"truth": ("show both effects", 1.0), "identity": ("do not show both effects", 0.0)})
    if not read:
        return _by_share(entry, "success", {"truth": ("count as a success", 1.0), "identity": ("count as a failure", 0.0)})
    if entry.system not in wanted:
        return []
    words, right = wanted[entry.system]
    hits = sum(right(asked, seen) for asked, seen in read)
    return [Check(hits / len(read) >= SURE, f"Control {entry.label}: {hits} of {len(read)} {words}.", control=True)]


def _by_share(entry: Entry, metric: str, wanted: Mapping[str, tuple[str, float]]) -> list[Check]:
    """How many cases of a control have the value of `metric` that is wished of it: control -> words and value."""
    if entry.system not in wanted or metric not in entry.columns:
        return []
    found = entry.columns[metric].values
    known = found[np.isfinite(found)]
    if not len(known):
        return [Check(False, f"Control {entry.label}: no case was scored, so it shows nothing here.")]
    said, right = wanted[entry.system]
    hits = int((known == right).sum())
    return [Check(hits / len(known) >= SURE, f"Control {entry.label}: {hits} of {len(known)} {said}.", control=True)]


def _invariant(entry: Entry) -> Check | None:
    """VSA's bound by BCR; None where no case has both."""
    vsa, bcr = entry.columns["vsa"].values, entry.columns["bcr"].values
    both = np.isfinite(vsa) & np.isfinite(bcr)
    if not both.any():
        return None
    left, right = float(vsa[both].mean()), 5 * (1 - float(bcr[both].mean()))
    sign = "≤" if left <= right + 1e-9 else ">"
    return Check(left <= right + 1e-9, f"{entry.label}: mean VSA over cases {left:.3f} {sign} 5 (1 − BCR) = {right:.3f}.")
