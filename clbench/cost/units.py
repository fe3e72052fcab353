"""How bytes are written for people. Pure."""

from __future__ import annotations

import math

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def binary(count: float) -> str:
    """Bytes in the largest unit of 2^10 that keeps a number of at least 1, five significant digits; "–" for NaN."""
    if math.isnan(count):
        return "–"
    power = min(len(UNITS) - 1, int(math.log2(abs(count)) // 10)) if abs(count) >= 1 else 0
    value = count / 1024**power
    if power == 0:
        return f"{value:.0f} B"
    return f"{value:,.{max(0, 4 - int(math.log10(abs(value))))}f} {UNITS[power]}"
