"""Colours of the report: tokens for light and dark, and heat steps whose ink is always readable."""

from __future__ import annotations

Colour = tuple[int, int, int]

TOKENS: dict[str, tuple[str, str]] = {
    "paper": ("#fcfbf9", "#15181b"),
    "card": ("#ffffff", "#1c2024"),
    "line": ("#e3e0da", "#30363c"),
    "ink": ("#1d2226", "#e7e4de"),
    "soft": ("#5c656d", "#a3abb2"),
    "faint": ("#f4f2ee", "#22272c"),
    "accent": ("#17636d", "#6cc3cc"),
    "good": ("#20744a", "#6fcf97"),
    "bad": ("#a93a22", "#f2917b"),
    "warn": ("#8a5a00", "#e3b95c"),
    "s0": ("#17636d", "#6cc3cc"),
    "s1": ("#b4552d", "#f0a27c"),
    "s2": ("#6a55a5", "#b7a6ee"),
    "s3": ("#4f7a28", "#a5cf7c"),
    "s4": ("#a0417e", "#e79acb"),
    "s5": ("#6b6f3a", "#cfd38d"),
}
"""Name -> (light, dark)."""

SERIES = 6
RAMPS: dict[str, tuple[str, str]] = {
    "good": ("#1d7f6d", "#3fae97"),
    "bad": ("#bb3f24", "#e0674a"),
    "calm": ("#5f6b7a", "#8794a5"),
}
"""Full colour of each heat ramp, (light, dark); step 0 is the card."""
STEPS = 10
INKS = ("#000000", "#ffffff")
"""Of black and white one always reaches a contrast of 4.58."""


def parse(colour: str) -> Colour:
    """``#rrggbb`` as three integers 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def mix(start: str, end: str, share: float) -> str:
    """The colour `share` of the way from `start` to `end`."""
    pairs = zip(parse(start), parse(end), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def contrast(one: str, two: str) -> float:
    """Contrast ratio of two colours, 1..21 (WCAG 2.1)."""
    low, high = sorted((_luminance(one), _luminance(two)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in parse(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def heat_steps(ramp: str, dark: bool) -> list[tuple[str, str]]:
    """(background, ink) of steps 0..10; the first visible step is lifted off the card so that it shows."""
    card, full = TOKENS["card"][dark], RAMPS[ramp][dark]
    steps = [(card, TOKENS["soft"][dark])]
    for step in range(1, STEPS + 1):
        back = mix(card, full, 0.14 + 0.86 * step / STEPS)
        steps.append((back, max(INKS, key=lambda ink: contrast(ink, back))))
    return steps


def variables(dark: bool) -> str:
    """CSS custom properties of one scheme."""
    lines = [f"--{name}:{pair[dark]}" for name, pair in TOKENS.items()]
    for ramp in RAMPS:
        for step, (back, ink) in enumerate(heat_steps(ramp, dark)):
            lines += [f"--{ramp}-{step}:{back}", f"--{ramp}-{step}-ink:{ink}"]
    return ";".join(lines)


def heat_rules() -> str:
    """CSS classes of the heat steps."""
    return "".join(
        f".{ramp}-{step}{{background:var(--{ramp}-{step});color:var(--{ramp}-{step}-ink)}}"
        for ramp in RAMPS
        for step in range(STEPS + 1)
    )
