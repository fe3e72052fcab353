"""A world file of the shipped scenes and effects, without backbone and adapters: what scoring known operators needs."""

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


def world_text(name: str, count: int, clip: str = "") -> str:
    """The text of world `name` with the first `count` scenes of the evaluation split; `clip` "" = none."""
    return WORLD.format(name=name, count=count, clip=clip, folder=SHIPPED)
