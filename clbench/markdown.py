"""Text of other people inside Markdown: it must neither break a table nor mean anything."""

from __future__ import annotations


def markdown_text(text: object) -> str:
    """Text that means nothing to Markdown or HTML: marks and brackets are escaped, lines joined."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in ("\\", "|", "`", "*", "_", "[", "]"):
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def markdown_code(text: object) -> str:
    """Text as code, on one line, whatever backticks are in it."""
    plain = " ".join(str(text).split())
    fence = "`"
    while fence in plain:
        fence += "`"
    return f"`{plain}`" if fence == "`" else f"{fence} {plain} {fence}"
