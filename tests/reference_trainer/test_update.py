"""A whole update of a distillation: which passes it makes, of which adapter, in which words, and at which rates it moves."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from formula_backbone import SHAPE, FormulaBackbone, Pass, words

from reference_trainer.dice import Dice
from reference_trainer.distill import Distillation, prepare
from reference_trainer.learner import Learner
from reference_trainer.networks import Backbone
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.streams import Batch, Router, Stream
from reference_trainer.student_config import StudentConfig

TEACHERS: list[str | None] = ["teacher_0000", "teacher_0001"]
INSTRUCTIONS, CAPTIONS, EMPTY = [0.5, -0.25], [-1.0, 1.25], 0.125
STEPS, FINE = [1.0, 0.9, 0.75, 0.5], [0.5]
COUNT, GUIDANCE = 6, 3.0


def distillation(**settings) -> tuple[Distillation, list[Pass]]:
    """Two effects and a general stream, all of whose prompts differ, and the list that every pass will be put on."""
    backbone = FormulaBackbone()
    source, target = torch.randn(2, 5, *SHAPE, generator=torch.Generator().manual_seed(1))
    effects = Stream(source[:4], target[:4], torch.arange(4) % 2, TEACHERS, ["a", "b"], words(INSTRUCTIONS), words(CAPTIONS))
    kind = torch.zeros(1, dtype=torch.int64)
    general = Stream(source[4:], None, kind, [None], ["general"], words([0.75]), words([-0.5]))
    config = StudentConfig.model_validate({"batch": COUNT, "steps": 4, "fake_updates": 2} | settings)
    router = Router(effects, general, 0.5, "sample", 0)
    training = prepare(cast(Backbone, backbone), config, router, words([EMPTY]), GUIDANCE, Dice.seeded(5))
    return training, backbone.passes


def next_batch(training: Distillation, update: int) -> Batch:
    """The batch that the training is about to draw; it mixes effects and general stream."""
    dice = Dice.seeded(0)
    dice.restore(training.dice.state())
    batch = training.router.draw(dice, update, COUNT)
    assert set(batch.teachers) == {*TEACHERS, None}
    return batch


def said(prompts) -> list[float]:
    return prompts.pooled[:, 0].tolist()


def within(times: list[float], low: float, high: float) -> bool:
    """Whether all times lie there and no two are equal."""
    return low <= min(times) and max(times) <= high and len(set(times)) == len(times)


@pytest.mark.parametrize("target", ["outputs", "teacher"])
def test_passes_of_a_warm_start(target):
    """The student on rows with outputs, and no other role unless the teacher is what it matches."""
    training, passes = distillation(warm_start=1, warm_target=target)
    batch = next_batch(training, 0)
    training.update(0)
    rows = batch.has_target.nonzero().flatten()
    student, *others = passes
    assert student.adapters == [STUDENT] * len(rows) and student.with_gradient
    assert student.prompts == said(batch.student_prompts.take(rows)) and within(student.times, 0.02, 1)
    assert len(others) == (target == "teacher")
    for teacher in others:
        assert teacher.adapters == 2 * [batch.teachers[row] for row in rows.tolist()] and not teacher.with_gradient
        assert teacher.prompts == said(batch.teacher_prompts.take(rows)) + [EMPTY] * len(rows)
        assert teacher.times == 2 * student.times
        assert torch.equal(teacher.inputs.noisy, student.inputs.noisy.repeat(2, 1, 1))


def test_passes_of_a_distillation():
    """A rollout, the fake score twice, the student once and all its scores in one: rows, words and times of each."""
    training, passes = distillation()
    batch = next_batch(training, 0)
    training.update(0)
    assert len(passes) == len(STEPS) + 2 + 2
    rollout, fakes, (student, scores) = passes[: len(STEPS)], passes[len(STEPS) : -2], passes[-2:]
    asked, rows = said(batch.student_prompts), batch.has_target.nonzero().flatten()
    anchored = said(batch.student_prompts.take(rows))

    for each, sigma in zip(rollout, STEPS, strict=True):
        assert each.adapters == [STUDENT] * COUNT and each.prompts == asked and not each.with_gradient
        assert each.times == pytest.approx([sigma] * COUNT)
    for fake in fakes:
        assert fake.adapters == [FAKE_SCORE] * COUNT and fake.prompts == asked and fake.with_gradient
        assert within(fake.times, 0.05, 0.994)
    assert set(fakes[0].times).isdisjoint(fakes[1].times)

    assert student.adapters == [STUDENT] * (COUNT + 2 * len(rows)) and student.with_gradient
    assert student.prompts == asked + anchored + anchored
    simulated, fine, noisy = (student.times[a:b] for a, b in ((0, COUNT), (COUNT, COUNT + len(rows)), (-len(rows), None)))
    assert all(min(abs(time - sigma) for sigma in STEPS) < 1e-6 for time in simulated) and len(set(simulated)) > 1
    assert fine == pytest.approx(FINE * len(rows)) and within(noisy, 0.75, 1)

    scored = [*range(COUNT), *rows.tolist()]
    names = [batch.teachers[row] for row in scored]
    assert scores.adapters == [FAKE_SCORE] * len(scored) + names + names and not scores.with_gradient
    assert scores.prompts == asked + anchored + said(batch.teacher_prompts.take(torch.tensor(scored))) + [EMPTY] * len(scored)
    third = scores.times[: len(scored)]
    assert scores.times == 3 * third and within(third[:COUNT], 0.05, 0.994) and within(third[COUNT:], 0.5, 1)
    for each, of in ((student, [*scored, *rows.tolist()]), (scores, 3 * scored), *((one, range(COUNT)) for one in passes[:-2])):
        assert torch.equal(each.inputs.source, batch.source[list(of)])


def test_the_student_is_judged_at_states_of_its_own_rollout():
    """DMD_BS stands where the sampler stood, before it predicted, each row at one of its steps."""
    training, passes = distillation()
    training.update(0)
    rollout, student = passes[: len(STEPS)], passes[-2]
    for row in range(COUNT):
        step = min(range(len(STEPS)), key=lambda k: abs(STEPS[k] - student.times[row]))
        assert torch.equal(student.inputs.noisy[row], rollout[step].inputs.noisy[row])


def test_each_learning_pass_may_have_a_rollout_of_its_own():
    """Fresh ones go, row by row, as far as they are looked at, and none is made for nothing."""
    training, passes = distillation(rollout="fresh")
    training.update(0)
    learning = [index for index, one in enumerate(passes) if one.with_gradient]
    assert [passes[index].adapters[0] for index in learning] == [FAKE_SCORE, FAKE_SCORE, STUDENT]
    for index, begin in zip(learning, (0, *(index + 1 for index in learning)), strict=False):
        before, asked = passes[begin:index], passes[index].prompts[:COUNT]
        assert all(set(one.adapters) == {STUDENT} and set(one.prompts) <= set(asked) for one in before)
        rows = [len(one.prompts) for one in before]
        assert before[0].prompts == asked and rows == sorted(rows, reverse=True) and len(rows) <= len(STEPS)
    exits = [min(range(len(STEPS)), key=lambda k: abs(STEPS[k] - time)) for time in passes[learning[-1]].times[:COUNT]]
    assert sum(rows) == sum(step + 1 for step in exits)
    assert len({tuple(passes[index].inputs.source.flatten().tolist()) for index in learning}) == 3


@pytest.mark.parametrize("start", ["student", "base"])
def test_the_fake_score_begins_where_the_warm_start_ended(start):
    training, passes = distillation(warm_start=2, fake_start=start)
    for update in range(3):
        training.update(update)
    first = next(one for one in passes if one.adapters[0] == FAKE_SCORE)
    own = FormulaBackbone().of(FAKE_SCORE)
    assert torch.equal(first.held[FAKE_SCORE], first.held[STUDENT] if start == "student" else own)


def test_each_role_moves_at_its_own_rate(monkeypatch):
    """Both warm up: the student from the first update on, the fake score from the first in which it moves."""
    rates: dict[str, list[float]] = {STUDENT: [], FAKE_SCORE: []}
    real = Learner.move

    def move(self, update):
        norm = real(self, update)
        rates[self.name].append(self.optimizer.param_groups[0]["lr"])
        return norm

    monkeypatch.setattr(Learner, "move", move)
    training, _ = distillation(warm_start=2, warmup=4, lr=4e-3, fake_lr=8e-4)
    for update in range(7):
        training.update(update)
    assert rates[STUDENT] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3, 4e-3, 4e-3])
    assert rates[FAKE_SCORE] == pytest.approx([2e-4, 2e-4, 4e-4, 4e-4, 6e-4, 6e-4, 8e-4, 8e-4, 8e-4, 8e-4])


def test_an_update_moves_the_roles_in_training_alone():
    training, passes = distillation()
    for update in range(2):
        training.update(update)
    before, after = passes[0].held, passes[-1].held
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {STUDENT, FAKE_SCORE}
