"""What is said on stderr while work goes on: a notice beside the results, by programs and trainings alike."""

from __future__ import annotations


def say(sentence: str, style: str = "") -> None:
    """One line on stderr, never wrapped in the middle of a path."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(sentence, style=style), soft_wrap=True)
