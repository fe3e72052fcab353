"""Page -> report.html and report.md. Everything but the page's own style, script and plots is escaped."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from clbench.report import palette
from clbench.report.page import Page

TEMPLATES = ("report.html.j2", "macros.html.j2", "report.md.j2")


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
    environment.filters["md"] = markdown_text
    return environment


def markdown_text(text: object) -> str:
    """Text that means nothing to Markdown or HTML: marks and brackets are escaped, lines joined."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in ("\\", "|", "`", "*", "_", "[", "]"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain


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


def to_html(page: Page) -> str:
    """One self-contained document; the only script allowed is its own, by hash."""
    script = _text("script.js").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    plots = [(caption, Markup(svg)) for caption, svg in page.plots]
    shown = _with_plots(page, plots)
    return (
        _environment(escape=True)
        .get_template("report.html.j2")
        .render(page=shown, style=Markup(style()), script=Markup(script), script_hash=f"sha256-{digest}")
    )


def _with_plots(page: Page, plots: list[tuple[str, Markup]]) -> Page:
    from dataclasses import replace

    return replace(page, plots=list(plots))


def to_markdown(page: Page) -> str:
    """The same tables for GitHub, without pictures."""
    text = _environment(escape=False).get_template("report.md.j2").render(page=page)
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(line for line, before in zip(lines, ["", *lines], strict=False) if line or before) + "\n"
