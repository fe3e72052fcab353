"""Known effects: operators, and the catalogue files that describe them to people and models."""

from clbench.effects import background, colour, glitch, layout, marks, painterly, subject, texture, weather
from clbench.effects.catalogue import load_effects
from clbench.effects.operators import MIN_SIDE, OPERATORS, Operator, apply_operator

# The modules of the families register their operators when imported; naming them here keeps that visible.
FAMILIES = (colour, painterly, layout, texture, glitch, weather, marks, subject, background)

__all__ = ["FAMILIES", "MIN_SIDE", "OPERATORS", "Operator", "apply_operator", "load_effects"]
