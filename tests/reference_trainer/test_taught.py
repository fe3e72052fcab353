"""The effect stream of a collection: who is asked what in it, and whose outputs are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import torch

from reference_trainer.collection_config import CollectionConfig
from reference_trainer.examples import Picture
from reference_trainer.prompting import Prompts
from reference_trainer.targets import TargetStore
from reference_trainer.taught import Taught, effect_stream
from reference_trainer.workshop import Workshop

CAPTIONS = {"sepia": "the picture in brown tones", "upside_down": "the picture standing on its head"}


class Store:
    """Gives outputs that tell whose they are, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, torch.Tensor, Prompts]] = []

    def get(self, what, adapter, source, prompts, seed):
        self.asked.append((adapter, source, prompts))
        yield len(source)
        return torch.full_like(source, len(self.asked))


@pytest.fixture
def made(mini_world):
    """A function: (workshop, effects, stream, store) of a collection; captions differ from instructions."""
    shop = Workshop(mini_world)
    effects = [replace(mini_world.effect(name), caption=caption) for name, caption in CAPTIONS.items()]
    pictures = [mini_world.source_image(f"p{index}", 32) for index in range(3)]

    def make(**settings):
        store, counts = Store(), (2, 1)
        shown: list[list[Picture]] = [pictures[:2], pictures[2:]]
        taught = [
            Taught(effect, mini_world.root / "teachers" / f"{effect.id}.safetensors", shown[index])
            for index, effect in enumerate(effects)
        ]
        names = ["teacher_0000", "teacher_0001"]
        steps = effect_stream(shop, CollectionConfig(**settings), taught, names, cast(TargetStore, store))
        done = []
        while True:
            try:
                done.append(next(steps).done)
            except StopIteration as stop:
                assert done == [counts[0], sum(counts)]
                return shop, effects, stop.value, store

    return make


def equal(a: Prompts, b: Prompts) -> bool:
    return torch.equal(a.tokens, b.tokens) and torch.equal(a.pooled, b.pooled)


def test_teachers_see_instructions_and_the_student_trigger_and_caption(made):
    shop, effects, stream, store = made()
    instructions = [effect.instruction for effect in effects]
    asked = ["<qx1> the picture in brown tones", "<qx2> the picture standing on its head"]
    assert stream.teachers == ["teacher_0000", "teacher_0001"] and stream.names == ["sepia", "upside_down"]
    assert equal(stream.teacher_prompts, shop.prompts.many(instructions))
    assert equal(stream.student_prompts, shop.prompts.many(asked))
    for a, b in zip(asked, instructions, strict=True):
        assert not equal(shop.prompts.one(a), shop.prompts.one(b)), "the encoders tell them apart"
    for (adapter, source, prompts), name, text in zip(store.asked, stream.teachers, instructions, strict=True):
        assert adapter == name and equal(prompts, shop.prompts.one(text).repeat(len(source)))


def test_outputs_and_sources_belong_to_their_effect(made):
    _, _, stream, store = made()
    assert stream.kind.tolist() == [0, 0, 1]
    assert torch.equal(stream.source, torch.cat([source for _, source, _ in store.asked]))
    assert stream.target is not None and stream.target[:, 0, 0].tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("style", "asked"),
    [
        ("caption", ["the picture in brown tones", "the picture standing on its head"]),
        ("instruction", ["make it sepia", "turn it upside down"]),
    ],
)
def test_the_ablations_ask_the_student_otherwise_and_the_teachers_as_ever(made, style, asked):
    shop, effects, stream, _ = made(prompt=style)
    assert equal(stream.student_prompts, shop.prompts.many(asked))
    assert equal(stream.teacher_prompts, shop.prompts.many([effect.instruction for effect in effects]))


def test_wordings_stand_effect_after_effect_the_plain_one_first(made):
    shop, _, stream, _ = made(wordings=("{}", "now {}"))
    one, other = CAPTIONS.values()
    asked = [f"<qx1> {one}", f"<qx1> now {one}", f"<qx2> {other}", f"<qx2> now {other}"]
    assert stream.wordings == 2 and equal(stream.student_prompts, shop.prompts.many(asked))
    assert equal(stream.plain_prompts, shop.prompts.many([asked[0], asked[2]]))
