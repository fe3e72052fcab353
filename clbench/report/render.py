"""Page -> report.html and report.md. Everything but the page's own style, script and plots is escaped."""

from __future__ import annotations

import base64
import hashlib
import math
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from clbench.markdown import markdown_text
from clbench.report import palette
from clbench.report.blocks import Section
from clbench.report.page import Page

TEMPLATES = ("report.html.j2", "group.html.j2", "macros.html.j2", "report.md.j2")
PICTURES = ("gallery", "strips", "plot", "filter")
"""Kinds of blocks that Markdown leaves out."""


def _text(name: str) -> str:
    return (files("clbench.report") / "templates" / name).read_text(encoding="utf-8")


def _environment(escape: bool) -> Environment:
    loader = DictLoader({name: _text(name) for name in TEMPLATES})
    environment = Environment(
        loader=loader,
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=not escape,
        lstrip_blocks=not escape,
    )
    environment.filters |= {"md": markdown_text, "trusted": Markup, "exact": exact, "tells": tells, "tight": tight}
    return environment


def exact(value: float | str) -> str:
    """A number for sorting and copying, to nine digits; "" for NaN; text as it is."""
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.9g}"


def tight(text: str) -> str:
    """Text in which a number stays on the line of its unit."""
    return text.replace(" %", "\u00a0%").replace(" pt", "\u00a0pt")


def tells(section: Section) -> bool:
    """Whether Markdown can show anything of a section."""
    return any(block.kind not in PICTURES for block in section.blocks)


def style() -> str:
    """The style sheet: tokens of both schemes (by preference, or by the reader's choice), then the rules."""
    light, dark = palette.variables(dark=False), palette.variables(dark=True)
    schemes = (
        f":root{{color-scheme:light;{light}}}"
        f"@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}"
        f":root:has(#theme-light:checked){{color-scheme:light;{light}}}"
        f":root:has(#theme-dark:checked){{color-scheme:dark;{dark}}}"
    )
    return schemes + "\n" + _text("style.css") + palette.heat_rules()


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def to_html(page: Page) -> str:
    """One self-contained document; style and script are its own, and allowed by their hashes only."""
    environment, solo = _environment(escape=True), len(page.groups) == 1
    sheet, script = style().strip(), _text("script.js").strip()
    template = environment.get_template("group.html.j2")
    groups = [
        Markup(template.render(group=group, prefix=group.prefix, solo=solo, top=2 if solo else 3)) for group in page.groups
    ]
    return environment.get_template("report.html.j2").render(
        page=page,
        groups=groups,
        solo=solo,
        style=Markup(sheet),
        style_hash=_digest(sheet),
        script=Markup(script),
        script_hash=_digest(script),
    )


def to_markdown(page: Page) -> str:
    """The same tables for GitHub, without pictures."""
    text = _environment(escape=False).get_template("report.md.j2").render(page=page, solo=len(page.groups) == 1)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line, before in zip(lines, ["", *lines], strict=False) if line or before) + "\n"
