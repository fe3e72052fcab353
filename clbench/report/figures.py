"""The plots of a report; how they are drawn is in `clbench.report.drawing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.cost.curves import Curve
from clbench.metrics.derived import SHARES
from clbench.report import curves
from clbench.report.blocks import Plot
from clbench.report.cells import anchor, interval, metric_value
from clbench.report.data import Entry
from clbench.report.drawing import (
    LINE,
    SOFT,
    WIDTH,
    cross,
    dots,
    inline,
    legend,
    new_figure,
    series_colour,
    series_mark,
)
from clbench.report.numbers import Numbers, estimate_entry
from clbench.report.pareto import WORDS, Price, offers
from clbench.report.tables import effect_values, short, worst_first
from clbench.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def by_effect(numbers: Numbers) -> Plot | None:
    """Headline metric of every effect and system, the candidate's worst effect on top; None without one."""
    results, card = numbers.results, numbers.results.headline
    entries = [entry for entry in results.finals if card is not None and card.name in entry.columns]
    if card is None or not entries or len(results.effects) < 2:
        return None
    order = [effect.id for effect in worst_first(results, card)]
    figure, axes = new_figure(WIDTH, max(3.9, 1.1 + 0.3 * len(order)))
    for index, entry in enumerate(entries):
        means = effect_values(entry, card.name)
        offset = (index - (len(entries) - 1) / 2) * min(0.14, 0.8 / len(entries))  # never into the next effect's row
        points = [(_factor(card.name) * means[e], row + offset) for row, e in enumerate(order) if e in means]
        dots(axes, points, index, entry.label)
    axes.set_yticks(range(len(order)), [results.name(effect) for effect in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_xlabel(_axis(card.name))
    legend(figure, [entry.label for entry in entries])
    return _plot(figure, numbers, "by-effect", f"{short(card.name)} of every effect")


def trade(numbers: Numbers) -> Plot | None:
    """Headline metric against leak with intervals, controls hollow; None when either is missing."""
    results, card = numbers.results, numbers.results.headline
    names = [other.name for other in results.metrics]
    if card is None or "leak_total" not in names or card.name == "leak_total":
        return None
    figure, axes = new_figure(WIDTH, 3.9)
    systems, drawn = list(dict.fromkeys(entry.system for entry in results.systems)), []
    for entry in results.entries:
        up, across = numbers.estimates[entry.label, card.name], numbers.estimates[entry.label, "leak_total"]
        if np.isfinite(up.low) and np.isfinite(across.low):
            box = np.array([[across.low, across.value, across.high], [up.low, up.value, up.high]])
            index = systems.index(entry.system) if entry.system in systems else len(systems) + len(drawn)
            words = f"{entry.label}: {_told(card.name, up)}, {_told('leak_total', across)}"
            cross(axes, box[0], _factor(card.name) * box[1], index, entry.label, entry.control, words)
            drawn.append(entry.label)
    if len(drawn) < 2:
        return None
    axes.set_xlabel("Leak of other effects (less is better)")
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    legend(figure, drawn, below=True)
    return _plot(figure, numbers, "trade", f"{short(card.name)} against leak, with 95 % intervals")


def step_curves(numbers: Numbers) -> Plot | None:
    """Headline metric against passes for every system, with intervals and the teacher's margin; None for one number."""
    results, card = numbers.results, numbers.results.headline
    found = curves.curves(results, card.name) if card is not None else []
    if card is None or not found:
        return None
    figure, axes = new_figure(WIDTH, 3.9)
    for index, curve in enumerate(found):
        ones = [numbers.estimates[entry.label, card.name] for entry in curve.entries]
        box = _factor(card.name) * np.array([[one.low, one.value, one.high] for one in ones]).T
        style: dict[str, Any] = {"color": series_colour(index)}
        axes.fill_between(curve.passes, box[0], box[2], alpha=0.13, linewidth=0, **style)
        axes.plot(curve.passes, box[1], marker=series_mark(index), markersize=6, label=curve.name, **style)
    labels = [*(curve.name for curve in found), *_goal(axes, numbers, card.name)]
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel("Passes of the transformer for one picture")
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    legend(figure, labels)
    return _plot(figure, numbers, "steps", f"{short(card.name)} against passes, with 95 % intervals")


def _goal(axes: Axes, numbers: Numbers, metric: str) -> list[str]:
    """The teacher at full steps as a dashed line; its label, if it was scored."""
    teacher = curves.goal(numbers.results, metric)
    if teacher is not None and np.isfinite(numbers.estimates[teacher.label, metric].value):
        height = _factor(metric) * numbers.estimates[teacher.label, metric].value
        axes.axhline(height, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label=teacher.label)
        return [teacher.label]
    return []


def pareto(numbers: Numbers, price: Price) -> Plot | None:
    """Headline metric with its interval against a price, the front joined by a line; None with fewer than two priced systems.

    Without intervals two systems that cannot be told apart would stand at the two ends of the axis.
    """
    card, found = numbers.results.headline, offers(numbers, price)
    if card is None or len(found) < 2:
        return None
    factor = _factor(card.name) * (-1 if card.direction == "lower" else 1)
    unit = 1e6 if price == "bytes" else 1
    figure, axes = new_figure(WIDTH, 3.9)
    front = [offer for offer in found if offer.front]
    axes.plot([o.price / unit for o in front], [factor * o.good for o in front], color=LINE, linewidth=1.6, zorder=1)
    names, shown = list(dict.fromkeys(entry.name for entry in numbers.results.systems)), []
    for name in names:
        mine = [(o.price / unit, factor * o.good) for o in found if o.entry.name == name]
        if mine:
            for offer in (offer for offer in found if offer.entry.name == name):
                one, scale = _estimate(numbers, offer.entry), _factor(card.name)
                style: dict[str, Any] = {"color": series_colour(names.index(name)), "linewidth": 1, "alpha": 0.55, "zorder": 1}
                axes.vlines(offer.price / unit, scale * one.low, scale * one.high, **style)
            dots(axes, mine, names.index(name), name)
            shown.append(name)
    if max(o.price for o in found) > 8 * min(o.price for o in found) > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    axes.set_xlabel(WORDS[price] + (", MB" if price == "bytes" else ""))
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    legend(figure, shown)
    return _plot(figure, numbers, f"pareto-{price}", f"{short(card.name)} against {price}, with 95 % intervals")


def by_count(numbers: Numbers, counts: Mapping[str, int], across_words: str = "Effects in one adapter") -> Plot | None:
    """Headline metric of adapters against the number of effects in them, the reference as a dashed line; None without one.

    All on the effects that every one of them was asked of, so that a fall is not that of harder effects. `counts` may be another
    number of each adapter, which `across_words` then name.
    """
    results, card = numbers.results, numbers.results.headline
    found = [entry for entry in results.finals if card is not None and entry.system in counts and card.name in entry.columns]
    found = sorted((e for e in found if np.isfinite(_estimate(numbers, e).value)), key=lambda entry: counts[entry.system])
    if card is None or not found:
        return None
    others = [entry for entry in results.finals if entry.system == results.about.reference and card.name in entry.columns]
    common = set.intersection(*(entry.answered for entry in (*found, *others)))
    if not common:
        return None
    figure, axes = new_figure(WIDTH, 3.9)
    ones = [estimate_entry(entry, card.name, common) for entry in found]
    values = _factor(card.name) * np.array([[one.low, one.value, one.high] for one in ones])
    across = [counts[entry.system] for entry in found]
    spread = np.nan_to_num(np.abs(values[:, [0, 2]] - values[:, [1]])).T
    style: dict[str, Any] = {"color": series_colour(0), "marker": "o", "markersize": 6, "linewidth": 1.4}
    axes.errorbar(across, values[:, 1], yerr=spread, label="one adapter", **style)
    labels = ["one adapter"]
    for entry in others:
        height = _factor(card.name) * estimate_entry(entry, card.name, common).value
        labels.append(entry.label)
        axes.axhline(height, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label=labels[-1])
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(across)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel(across_words)
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    legend(figure, labels)
    what = f"{short(card.name)} against {across_words[0].lower()}{across_words[1:]}"
    name = "capacity" if across_words.startswith("Effects") else "ranks"
    return _plot(figure, numbers, name, f"{what}, on the {len(common)} effects of all, with 95 % intervals")


def bytes_curve(curve: Curve, systems: Sequence[str], suite: str, name: str) -> Plot:
    """Bytes of adapters of `systems` along a cost curve, both axes logarithmic."""
    words = {"effects": "Effects served", "teacher_rank": "Rank of the teachers"}[curve.axis]
    figure, axes = new_figure(WIDTH, 3.4)
    for index, system in enumerate(systems):
        points = [(x, cost.adapters / 2**20) for x, cost in curve.of(system)]
        axes.plot(*zip(*points, strict=True), color=series_colour(index), linewidth=1.8, label=system)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.minorticks_off()
    axes.set_xlabel(words)
    axes.set_ylabel("Adapters, MiB")
    axes.grid(color=LINE, linewidth=0.6)
    legend(figure, systems)
    caption = f"Bytes of adapters by {words[0].lower()}{words[1:]}"
    return Plot(f"p-{name}", caption, inline(figure, anchor(suite, name), caption))


def _estimate(numbers: Numbers, entry: Entry) -> Estimate:
    assert numbers.results.headline is not None
    return numbers.estimates[entry.label, numbers.results.headline.name]


def _told(metric: str, one: Estimate) -> str:
    """A metric with its value and interval, as a table would show them."""
    return f"{short(metric)} {metric_value(metric, one.value)} {interval(metric, one.low, one.high)}".strip()


def _factor(metric: str) -> float:
    return 100.0 if metric in SHARES else 1.0


def _plot(figure: Figure, numbers: Numbers, name: str, caption: str) -> Plot:
    unique = anchor(numbers.results.about.suite_name, name)  # ids in the drawing: unique among all suites of a page
    return Plot(f"p-{name}", caption, inline(figure, unique, caption))


def _axis(metric: str) -> str:
    return f"{short(metric)}, %" if metric in SHARES else short(metric)
