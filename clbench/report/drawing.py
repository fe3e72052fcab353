"""How a plot is drawn and put into the page: SVG whose text stays text, whose colours follow the page, byte for byte equal."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.report.palette import SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#010101", "#020202", "#030303"
MARKS = "osD^vP"
WIDTH = 5.6
"""Inches of a plot that stands beside another: equal, so that letters are of equal size."""
LETTERS, ROW = 74, 0.21
"""Letters that fit into a line of a legend of a plot of `WIDTH` (a marker takes six), and how high a line is in inches."""
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


def series_mark(index: int) -> str:
    """Marker of a series: of series of equal colour each has another one, up to 36 of them."""
    return MARKS[(index + index // SERIES) % len(MARKS)]


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure with one plot in the page's style; `width` and `height` in inches."""
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


def dots(axes: Axes, points: list[tuple[float, float]], index: int, label: str) -> None:
    """Markers of a series without a line; its label comes up where a pointer rests on one."""
    across, up = np.array(points, dtype=np.float64).reshape(-1, 2).T
    style: dict[str, Any] = {
        "color": series_colour(index),
        "marker": series_mark(index),
        "markersize": 6,
    }
    axes.plot(across, up, linestyle="none", label=label, clip_on=False, gid=titled(label), **style)


def cross(axes: Axes, across: np.ndarray, up: np.ndarray, index: int, label: str, hollow: bool, words: str) -> None:
    """One value with its intervals along both axes, in data units (low, value, high); `words` come up under a pointer."""
    colour = SOFT if hollow else series_colour(index)
    xerr = np.clip([[across[1] - across[0]], [across[2] - across[1]]], 0, None)
    yerr = np.clip([[up[1] - up[0]], [up[2] - up[1]]], 0, None)
    line, caps, bars = axes.errorbar(
        across[1],
        up[1],
        xerr=xerr,
        yerr=yerr,
        color=colour,
        marker=series_mark(index),
        markersize=7,
        markerfacecolor="none" if hollow else colour,
        linewidth=1.2,
        linestyle="none",
        label=label,
    )
    for part in (line, *caps, *bars):
        part.set_gid(titled(words))


def legend(figure: Figure, labels: Sequence[str], below: bool = False) -> None:
    """The legend of series with these `labels`, in as many columns as fit; the figure grows by its further lines."""
    columns = max(1, min(len(labels), LETTERS // (6 + max(map(len, labels), default=0))))
    lines = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + ROW * (lines - 1))
    where = "outside lower left" if below else "outside upper left"
    figure.legend(loc=where, ncols=columns, frameon=False, handletextpad=0.2, columnspacing=1.2)


def titled(words: str) -> str:
    """The id of a part of a drawing that `inline` turns into a title in these words."""
    return f"t-{words.encode().hex()}"


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
    svg = re.sub(r'<g id="t-([0-9a-f]+)">', lambda found: f"<g><title>{escape(bytes.fromhex(found[1]).decode())}</title>", svg)
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
