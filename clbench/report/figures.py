"""Plots as inline SVG: text stays text, colours follow the page, the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.cost.curves import Curve
from clbench.metrics.derived import SHARES
from clbench.report import curves
from clbench.report.blocks import Plot
from clbench.report.cells import anchor
from clbench.report.data import Entry
from clbench.report.numbers import Numbers
from clbench.report.palette import SERIES
from clbench.report.pareto import WORDS, Price, offers
from clbench.report.tables import effect_values, short, worst_first
from clbench.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#010101", "#020202", "#030303"
MARKS = "osD^vP"
WIDTH = 5.6
"""Inches of a plot that stands beside another: equal, so that letters are of equal size."""
LEGEND_UP_TO = 10
"""With more series than this a legend would be larger than its plot."""
STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "clbench",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
}


def series_colour(index: int) -> str:
    """Placeholder colour of a series; `inline` turns it into the page's variable."""
    return f"#0{1 + index % SERIES}0000"


def by_effect(numbers: Numbers) -> Plot | None:
    """Headline metric of every effect and system, the candidate's worst effect on top; None without one."""
    results, card = numbers.results, numbers.results.headline
    entries = [entry for entry in results.finals if card is not None and card.name in entry.columns]
    if card is None or not entries or len(results.effects) < 2:
        return None
    order = [effect.id for effect in worst_first(results, card)]
    figure, axes = _figure(WIDTH, max(3.9, 1.1 + 0.3 * len(order)))
    for index, entry in enumerate(entries):
        means = effect_values(entry, card.name)
        offset = (index - (len(entries) - 1) / 2) * 0.14
        points = [(_factor(card.name) * means[e], row + offset) for row, e in enumerate(order) if e in means]
        _dots(axes, points, index, entry.label)
    axes.set_yticks(range(len(order)), [results.name(effect) for effect in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_xlabel(_axis(card.name))
    _legend(figure, len(entries))
    return _plot(figure, numbers, "by-effect", f"{short(card.name)} of every effect")


def trade(numbers: Numbers) -> Plot | None:
    """Headline metric against leak with intervals, controls hollow; None when either is missing."""
    results, card = numbers.results, numbers.results.headline
    names = [other.name for other in results.metrics]
    if card is None or "leak_total" not in names or card.name == "leak_total":
        return None
    figure, axes = _figure(WIDTH, 3.9)
    systems, drawn = list(dict.fromkeys(entry.system for entry in results.systems)), 0
    for entry in results.entries:
        up, across = numbers.estimates[entry.label, card.name], numbers.estimates[entry.label, "leak_total"]
        if np.isfinite(up.low) and np.isfinite(across.low):
            box = np.array([[across.low, across.value, across.high], [up.low, up.value, up.high]])
            index = systems.index(entry.system) if entry.system in systems else len(systems) + drawn
            _cross(axes, box[0], _factor(card.name) * box[1], index, entry)
            drawn += 1
    if drawn < 2:
        return None
    axes.set_xlabel("Leak of other effects (less is better)")
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    if drawn <= LEGEND_UP_TO:
        _legend(figure, min(drawn, 4))
    return _plot(figure, numbers, "trade", f"{short(card.name)} against leak, with 95 % intervals")


def step_curves(numbers: Numbers) -> Plot | None:
    """Headline metric against passes for every system, with intervals and the teacher's margin; None for one number."""
    results, card = numbers.results, numbers.results.headline
    found = curves.curves(results, card.name) if card is not None else []
    if card is None or not found:
        return None
    figure, axes = _figure(WIDTH, 3.9)
    for index, curve in enumerate(found):
        ones = [numbers.estimates[entry.label, card.name] for entry in curve.entries]
        box = _factor(card.name) * np.array([[one.low, one.value, one.high] for one in ones]).T
        style: dict[str, Any] = {"color": series_colour(index)}
        axes.fill_between(curve.passes, box[0], box[2], alpha=0.13, linewidth=0, **style)
        axes.plot(curve.passes, box[1], marker=MARKS[index % len(MARKS)], markersize=6, label=curve.system, **style)
    _goal(axes, numbers, card.name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel("Passes of the transformer for one picture")
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    _legend(figure, len(found) + 1)
    return _plot(figure, numbers, "steps", f"{short(card.name)} against passes, with 95 % intervals")


def _goal(axes: Axes, numbers: Numbers, metric: str) -> None:
    """The teacher at full steps as a dashed line."""
    teacher = curves.goal(numbers.results, metric)
    if teacher is not None and np.isfinite(numbers.estimates[teacher.label, metric].value):
        height = _factor(metric) * numbers.estimates[teacher.label, metric].value
        axes.axhline(height, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label=teacher.label)


def pareto(numbers: Numbers, price: Price) -> Plot | None:
    """Headline metric against a price, the front joined by a line; None with fewer than two priced systems."""
    card, found = numbers.results.headline, offers(numbers, price)
    if card is None or len(found) < 2:
        return None
    factor = _factor(card.name) * (-1 if card.direction == "lower" else 1)
    unit = 1e6 if price == "bytes" else 1
    figure, axes = _figure(WIDTH, 3.9)
    front = [offer for offer in found if offer.front]
    axes.plot([o.price / unit for o in front], [factor * o.good for o in front], color=LINE, linewidth=1.6, zorder=1)
    systems = list(dict.fromkeys(entry.system for entry in numbers.results.systems))
    for system in systems:
        mine = [(o.price / unit, factor * o.good) for o in found if o.entry.system == system]
        if mine:
            _dots(axes, mine, systems.index(system), system)
    if max(o.price for o in found) > 8 * min(o.price for o in found) > 0:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    axes.set_xlabel(WORDS[price] + (", MB" if price == "bytes" else ""))
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    _legend(figure, min(len(systems), 4))
    return _plot(figure, numbers, f"pareto-{price}", f"{short(card.name)} against {price}")


def by_count(numbers: Numbers, counts: Mapping[str, int]) -> Plot | None:
    """Headline metric of adapters against the number of effects in them, the reference as a dashed line; None without one."""
    results, card = numbers.results, numbers.results.headline
    found = [entry for entry in results.finals if card is not None and entry.system in counts and card.name in entry.columns]
    found = sorted((e for e in found if np.isfinite(_estimate(numbers, e).value)), key=lambda entry: counts[entry.system])
    if card is None or not found:
        return None
    figure, axes = _figure(WIDTH, 3.9)
    values = _factor(card.name) * np.array([[one.low, one.value, one.high] for one in (_estimate(numbers, e) for e in found)])
    across = [counts[entry.system] for entry in found]
    spread = np.nan_to_num(np.abs(values[:, [0, 2]] - values[:, [1]])).T
    style: dict[str, Any] = {"color": series_colour(0), "marker": "o", "markersize": 6, "linewidth": 1.4}
    axes.errorbar(across, values[:, 1], yerr=spread, label="one adapter", **style)
    others = [entry for entry in results.finals if entry.system == results.about.reference and card.name in entry.columns]
    for entry in others:
        height = _factor(card.name) * _estimate(numbers, entry).value
        axes.axhline(height, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), label=f"{entry.label}, all its effects")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(across)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel("Effects in one adapter")
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    _legend(figure, 1 + len(others))
    return _plot(figure, numbers, "capacity", f"{short(card.name)} against effects in one adapter, with 95 % intervals")


def bytes_curve(curve: Curve, systems: Sequence[str], suite: str, name: str) -> Plot:
    """Bytes of adapters of `systems` along a cost curve, both axes logarithmic."""
    words = {"effects": "Effects served", "teacher_rank": "Rank of the teachers"}[curve.axis]
    figure, axes = _figure(WIDTH, 3.4)
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
    _legend(figure, len(systems))
    caption = f"Bytes of adapters by {words[0].lower()}{words[1:]}"
    return Plot(f"p-{name}", caption, inline(figure, anchor(suite, name), caption))


def _estimate(numbers: Numbers, entry: Entry) -> Estimate:
    assert numbers.results.headline is not None
    return numbers.estimates[entry.label, numbers.results.headline.name]


def _factor(metric: str) -> float:
    return 100.0 if metric in SHARES else 1.0


def _plot(figure: Figure, numbers: Numbers, name: str, caption: str) -> Plot:
    unique = anchor(numbers.results.about.suite_name, name)  # ids in the drawing: unique among all suites of a page
    return Plot(f"p-{name}", caption, inline(figure, unique, caption))


def _axis(metric: str) -> str:
    return f"{short(metric)}, %" if metric in SHARES else short(metric)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.figure import Figure as NewFigure

    with matplotlib.rc_context(STYLE):
        figure = NewFigure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.tick_params(length=0)
    axes.set_axisbelow(True)
    return figure, axes


def _dots(axes: Axes, points: list[tuple[float, float]], index: int, label: str) -> None:
    across, up = np.array(points, dtype=np.float64).reshape(-1, 2).T
    style: dict[str, Any] = {
        "color": series_colour(index),
        "marker": MARKS[index % len(MARKS)],
        "markersize": 6,
    }
    axes.plot(across, up, linestyle="none", label=label, clip_on=False, **style)


def _cross(axes: Axes, across: np.ndarray, up: np.ndarray, index: int, entry: Entry) -> None:
    colour = SOFT if entry.control else series_colour(index)
    xerr = np.clip([[across[1] - across[0]], [across[2] - across[1]]], 0, None)
    yerr = np.clip([[up[1] - up[0]], [up[2] - up[1]]], 0, None)
    axes.errorbar(
        across[1],
        up[1],
        xerr=xerr,
        yerr=yerr,
        color=colour,
        marker=MARKS[index % len(MARKS)],
        markersize=7,
        markerfacecolor="none" if entry.control else colour,
        linewidth=1.2,
        linestyle="none",
        label=entry.label,
    )


def _legend(figure: Figure, columns: int) -> None:
    figure.legend(loc="outside upper left", ncols=max(columns, 1), frameon=False, handletextpad=0.2, columnspacing=1.2)


def inline(figure: Figure, name: str, words: str) -> str:
    """The figure as SVG to be put into the page: no prolog, no style sheet, ids made unique, page colours.

    Inline styles become attributes: the page's policy allows no style but its own sheet.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font:\s*([0-9.]+)px[^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r'\sstyle="([^"]*)"', lambda found: _attributes(found[1]), svg)
    head = rf'\1 viewBox="\2" role="img" aria-label="{escape(words)}">'
    svg = re.sub(r'(<svg)[^>]*?viewBox="([^"]+)"[^>]*>', head, svg, count=1)
    for placeholder, variable in _page_colours().items():
        svg = svg.replace(placeholder, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _attributes(style: str) -> str:
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)


def _page_colours() -> dict[str, str]:
    series = {series_colour(index): f"s{index}" for index in range(SERIES)}
    return {INK: "ink", SOFT: "soft", LINE: "line", **series}
