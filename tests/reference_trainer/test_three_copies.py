"""The benchmark's other layout computes what the trainer computes: same losses and weights for the same rows."""

from __future__ import annotations

import copy

import pytest
import torch
from benchmarks.tensor_memory import LiveTensors
from benchmarks.three_copies_layout import Lora, ThreeCopies, ThreeCopiesTraining, row

from reference_trainer.dice import Dice
from reference_trainer.distill import prepare
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.streams import Router, Stream
from reference_trainer.student_config import StudentConfig

TEACHERS = ("teacher_0000", "teacher_0001")
CONFIG = StudentConfig(batch=4, steps=2, fake_updates=2, warmup=0)


@pytest.fixture
def layouts(make_backbone, pipe, space, cache):
    """(trainer's, three copies): the same weights, streams, settings and dice in both."""
    plain = copy.deepcopy(pipe.transformer)
    backbone = make_backbone("low-rank")
    loras = {
        name: Lora(copy.deepcopy(backbone.config(name)), backbone.state(name)) for name in (STUDENT, FAKE_SCORE, *TEACHERS)
    }
    taught = {name: loras[name] for name in TEACHERS}
    copies = ThreeCopies(plain, space.ids(), len(backbone.text_ids), loras[STUDENT], loras[FAKE_SCORE], taught)
    source = torch.randn(5, *space.shape, generator=torch.Generator().manual_seed(1))
    asked = cache.many(["make it blue", "turn it"])
    effects = Stream(source[:4], source[:4].flip(0), torch.arange(4) % 2, list(TEACHERS), ["a", "b"], asked, asked)
    general = Stream(source[4:], None, torch.zeros(1, dtype=torch.int64), [None], ["general"], cache.one("x"), cache.one("y"))
    router = Router(effects, general, 0.5, "sample", 0)
    rest = (CONFIG, router, cache.unconditional(), 3.0)
    return prepare(backbone, *rest, Dice.seeded(3)), ThreeCopiesTraining(copies, *rest, Dice.seeded(3))


def test_both_layouts_give_the_same_losses_and_weights(layouts):
    trainer, other = layouts
    rows = trainer.router.draw(Dice.seeded(3), 0, CONFIG.batch)
    assert len(set(rows.teachers)) > 1 and row(rows, 1).teachers == rows.teachers[1:2], "a batch that mixes teachers"
    before = {key: value.detach().clone() for key, value in other.copies.parameters[STUDENT].items()}
    for update in range(2):
        mine, theirs = trainer.update(update), other.update(update)
        for key in ("loss/student", "loss/fake_score"):
            assert mine[key] == pytest.approx(theirs[key], rel=2e-3), (key, update)
        assert torch.equal(trainer.dice.state(), other.dice.state()), "both drew the same numbers"
    for role in (STUDENT, FAKE_SCORE):
        ours = trainer.backbone.parameters(role)
        apart = torch.cat([(value - ours[key]).abs().flatten() for key, value in other.copies.parameters[role].items()])
        # Adam's first steps have the size of the learning rate (5e-4) whatever the gradient: a gradient of nothing but
        # rounding may go the other way, so a few weights are allowed to differ
        assert float((apart > 5e-5).float().mean()) < 0.02, role
    moved = max(float((value.detach() - before[key]).abs().max()) for key, value in other.copies.parameters[STUDENT].items())
    assert moved > 5e-4, "and the weights did move"


def test_a_teacher_is_copied_in_and_never_trained(layouts):
    _, other = layouts
    other.update(0)
    teacher = other.copies.copies["teacher"]
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
    name = other.copies._in_place
    held = other.copies.teachers[name].factors
    assert all(torch.equal(value, held[key]) for key, value in other.copies.parameters["teacher"].items())


def test_live_tensors_are_counted_to_the_byte():
    """Made, kept by a graph, freed by its backward pass; views, changes in place and what was there before count nothing."""
    before = torch.zeros(1000, requires_grad=True)
    with LiveTensors() as live:
        kept = before * 2
        kept.view(10, 100).detach().add_(1)
        assert live.now == 4000
        loss = kept.exp().exp().sum()  # both exponentials keep what they gave
        assert live.now == 12004
        loss.backward()
        del loss
        assert live.now == 8000  # `kept`, and the gradient of what was there before
        assert live.peak > 12004
