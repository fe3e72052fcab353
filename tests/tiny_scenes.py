"""World files of the shipped scenes and effects: to score by known operators, and over a small pipeline of random weights."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "suites" / "worlds" / "tiny"
WORLD = """
name = "{name}"
resolution = 64

[backbone]
kind = "flux-kontext"
path = "backbone"

[effects]
file = "{folder}/effects.toml"

[sources]
kind = "scenes"
folder = "{folder}/sources"
split = "evaluation"
count = {count}
size = 128

[encoders]
clip = "{clip}"
perceptual = "st-lpips"
"""

PIPELINE = """
resolution = 32

[backbone]
path = "{backbone}"
device = "cpu"
full_steps = 2
few_steps = 1
guidance = 2.0
max_sequence_length = 12

[effects]
file = "{tiny}/effects.toml"
"""
"""What a world over such a pipeline begins with, behind its name; ``backbone`` and ``tiny`` (`SHIPPED`) are to be filled in."""


def world_text(name: str, count: int, clip: str = "") -> str:
    """The text of world `name` with the first `count` scenes of the evaluation split; `clip` "" = none."""
    return WORLD.format(name=name, count=count, clip=clip, folder=SHIPPED)
