"""What a probe really asks, for readers.

`clbench.probes` is part of the hash of every suite that asks probes, so its words stay as they were first written. There
probe "paraphrase" is said to ask in other words; where an effect brings no `paraphrases` of its own, it is its own prompt with a
phrase before or after it.
"""

from __future__ import annotations

from collections.abc import Iterable

from clbench.probes import PROBES
from clbench.types import Effect

PARAPHRASE = "paraphrase"
PHRASED = "with a phrase before or after its own words («please ...», «the result is ...»)"
OTHER = "in other words"


def reworded(effects: Iterable[Effect]) -> str:
    """How probe "paraphrase" asks about these effects: in other words, where they bring some, or with a phrase to their own."""
    own = [bool(effect.paraphrases) for effect in effects]
    if all(own) and own:
        return OTHER
    return PHRASED if not any(own) else f"{OTHER} ({sum(own)} of {len(own)} effects) or {PHRASED}"


def prompt_words(probe: str, effects: Iterable[Effect] | None = None) -> str:
    """What a system gets by `probe`, in words; of "paraphrase" for these effects, or of any (None)."""
    if probe != PARAPHRASE:
        return PROBES.get(probe).prompt
    how = f"in the effect's own `paraphrases`, else {PHRASED}" if effects is None else reworded(effects)
    return f"the effect's own prompt {how}"
