"""Triggers for orthogonal prompting: how far the text encoders keep a world's own apart, random ones, and ones chosen for it.

A trigger is chosen greedily, effect by effect, among made-up words: the one whose prompt ``trigger caption`` is closest to
orthogonal to the prompts before it. Prompts are compared as a student sees them, by all text encoders together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clbench.metrics.gram import Separation, joined, least_coherent, separation
from clbench.registry import ClbenchError
from clbench.types import Effect, seed_from

CANDIDATES = 16
"""Made-up words that a trigger is chosen from."""
DRAWS = 5
"""Sets of random triggers that a mean is taken over."""
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiou"

Embed = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
"""Prompts to vectors (N, D) by text encoder: `Backbone.prompt_vectors`."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind of prompt in one text encoder; numbers of random triggers are means over `draws`."""

    encoder: str
    prompts: str
    draws: int
    found: Separation


def made_up(count: int, rng: np.random.Generator, taken: Sequence[str] = ()) -> list[str]:
    """`count` different triggers such as ``<wixoz38>``, none of them in `taken`."""
    found = dict.fromkeys(taken)
    while len(found) < len(set(taken)) + count:
        letters = [str(rng.choice(list(kind))) for kind in (CONSONANTS, VOWELS, CONSONANTS, VOWELS, CONSONANTS)]
        found.setdefault(f"<{''.join(letters)}{rng.integers(100):02d}>")
    return [trigger for trigger in found if trigger not in set(taken)]


def choose_triggers(embed: Embed, captions: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[str]:
    """For each caption the one of its `candidates` whose prompt is closest to orthogonal to those chosen before.

    Closest is the smallest largest |cosine|; ties go to the earlier candidate. ClbenchError where a caption has none.
    """
    chosen: list[str] = []
    units = np.zeros((0, 0))
    for caption, offered in zip(captions, candidates, strict=True):
        if not offered:
            raise ClbenchError(f"there is no trigger to choose for the caption '{caption}'")
        prompts = joined(embed([f"{trigger} {caption}" for trigger in offered]))
        best = least_coherent(prompts, units)
        chosen.append(offered[best])
        units = np.concatenate([units.reshape(-1, prompts.shape[1]), prompts[best : best + 1]])
    return chosen


def chosen_for(effects: Sequence[Effect], embed: Embed, beside: Sequence[Effect] = ()) -> list[str]:
    """Triggers chosen for `effects` among made-up words, always the same ones for the same text encoders.

    Effects `beside` them keep the triggers that they have and come first.
    """
    rng = np.random.default_rng(seed_from("triggers", "candidates"))
    words = made_up(CANDIDATES * len(effects), rng, [effect.trigger for effect in (*beside, *effects)])
    offered = [words[start : start + CANDIDATES] for start in range(0, len(words), CANDIDATES)]
    captions = [effect.caption for effect in (*beside, *effects)]
    return choose_triggers(embed, captions, [*([effect.trigger] for effect in beside), *offered])[len(beside) :]


def compare_triggers(effects: Sequence[Effect], embed: Embed, chosen: Sequence[str]) -> list[Compared]:
    """Captions alone, and the world's own, random and `chosen` triggers, each alone and before the captions."""
    captions = [effect.caption for effect in effects]
    rng = np.random.default_rng(seed_from("triggers", "random"))
    own = [effect.trigger for effect in effects]
    sets = {"own": [own], "random": [made_up(len(effects), rng, own) for _ in range(DRAWS)], "chosen": [list(chosen)]}
    found = _compared("captions", [captions], embed)
    for kind, draws in sets.items():
        found += _compared(f"{kind} triggers", draws, embed)
    for kind, draws in sets.items():
        prompts = [[f"{trigger} {caption}" for trigger, caption in zip(draw, captions, strict=True)] for draw in draws]
        found += _compared(f"{kind} trigger + caption", prompts, embed)
    return sorted(found, key=lambda each: each.encoder)


def _compared(prompts: str, draws: Sequence[Sequence[str]], embed: Embed) -> list[Compared]:
    embedded = [embed(draw) for draw in draws]
    return [
        Compared(encoder, prompts, len(draws), Separation.mean_of([separation(each[encoder]) for each in embedded]))
        for encoder in embedded[0]
    ]
