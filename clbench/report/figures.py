"""Plots as inline SVG: text stays text, colours follow the page, the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.report.cells import SHARES
from clbench.report.data import Entry
from clbench.report.numbers import Numbers
from clbench.report.palette import SERIES
from clbench.report.tables import effect_values, short, worst_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#010101", "#020202", "#030303"
MARKS = "osD^vP"
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


def by_effect(numbers: Numbers) -> str:
    """Headline metric of every effect and system, the candidate's worst effect on top; "" without one."""
    results, card = numbers.results, numbers.results.headline
    entries = [entry for entry in results.systems if card is not None and card.name in entry.columns]
    if card is None or not entries or len(results.effects) < 2:
        return ""
    scale = 100 if card.name in SHARES else 1
    order = [effect.id for effect in worst_first(results, card)]
    figure, axes = _figure(7.2, 1.1 + 0.3 * len(order))
    for index, entry in enumerate(entries):
        means = effect_values(entry, card.name)
        offset = (index - (len(entries) - 1) / 2) * 0.14
        points = [(scale * means[e], row + offset) for row, e in enumerate(order) if e in means]
        _dots(axes, points, index, entry.label)
    axes.set_yticks(range(len(order)), [results.name(effect) for effect in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_xlabel(_axis(card.name))
    _legend(figure, len(entries))
    return inline(figure, "by-effect", f"{short(card.name)} of every effect")


def trade(numbers: Numbers) -> str:
    """Headline metric against leak with intervals, controls hollow; "" when either is missing."""
    results, card = numbers.results, numbers.results.headline
    names = [other.name for other in results.metrics]
    if card is None or "leak_total" not in names or card.name == "leak_total":
        return ""
    figure, axes = _figure(5.2, 3.9)
    scale, drawn = 100 if card.name in SHARES else 1, 0
    for index, entry in enumerate([*results.systems, *results.controls]):
        up, across = numbers.estimates[entry.label, card.name], numbers.estimates[entry.label, "leak_total"]
        if np.isfinite(up.low) and np.isfinite(across.low):
            box = np.array([[across.low, across.value, across.high], [up.low, up.value, up.high]])
            _cross(axes, box[0], scale * box[1], index, entry)
            drawn += 1
    if drawn < 2:
        return ""
    axes.set_xlabel("Leak of other effects (less is better)")
    axes.set_ylabel(_axis(card.name))
    axes.grid(color=LINE, linewidth=0.6)
    _legend(figure, min(drawn, 4))
    return inline(figure, "trade", f"{short(card.name)} against leak")


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
    """The figure as SVG to be put into the page: no prolog, no metadata, ids made unique, page colours."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\s(xmlns(:xlink)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font:\s*([0-9.]+)px[^;\"]*", r"font: \1px var(--font)", svg)
    svg = re.sub(
        r'(<svg)[^>]*?viewBox="([^"]+)"[^>]*>',
        rf'\1 viewBox="\2" role="img" aria-label="{words}">',
        svg,
        count=1,
    )
    for placeholder, variable in _page_colours().items():
        svg = svg.replace(placeholder, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()


def _page_colours() -> dict[str, str]:
    series = {series_colour(index): f"s{index}" for index in range(SERIES)}
    return {INK: "ink", SOFT: "soft", LINE: "line", **series}
