"""Routing: which rows come from which stream, and that it depends on the seed alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clbench.registry import ClbenchError
from reference_trainer.dice import Dice
from reference_trainer.prompting import Prompts
from reference_trainer.streams import Replay, Router, Stream


def stream(name: str, value: float, kinds: int, targets: bool) -> Stream:
    source = torch.full((6, 2, 3), value)
    prompts = Prompts(torch.full((kinds, 4, 5), value), torch.full((kinds, 5), value))
    teachers = [f"{name}_{k}" if targets else None for k in range(kinds)]
    return Stream(source, source + 1 if targets else None, torch.arange(6) % kinds, teachers, [name] * kinds, prompts, prompts)


EFFECTS, GENERAL = stream("fx", 1.0, 3, True), stream("general", -1.0, 2, False)


def worded(count: int) -> Stream:
    """Three kinds with `count` prompts each, whose value says kind and wording: 10 kind + wording."""
    value = torch.tensor([10.0 * kind + wording for kind in range(3) for wording in range(count)])
    prompts = Prompts(value.view(-1, 1, 1).expand(-1, 4, 5), value.view(-1, 1).expand(-1, 5))
    kinds, teachers = torch.arange(6) % 3, ["a", "b", "c"]
    source = kinds.float().view(-1, 1, 1).expand(-1, 2, 3)
    plain = Prompts(torch.zeros(3, 4, 5), torch.zeros(3, 5))
    return Stream(source, source, kinds, list(teachers), list(teachers), plain, prompts, count)


def test_each_row_has_a_wording_of_its_own_effect():
    batch = worded(4).batch(Dice.seeded(0), 200)
    value = batch.student_prompts.pooled[:, 0]
    kind = torch.tensor(["abc".index(name) for name in batch.names])
    assert torch.equal(value.div(10, rounding_mode="floor"), kind.float())
    assert torch.equal(batch.student_prompts.tokens[:, 0, 0], value)
    shares = [(value % 10 == wording).float().mean().item() for wording in range(4)]
    assert min(shares) > 0.15 and max(shares) < 0.35
    assert torch.equal(worded(4).plain_prompts.pooled[:, 0], torch.tensor([0.0, 10.0, 20.0]))


def test_a_single_wording_draws_nothing():
    one, dice, other = worded(1), Dice.seeded(3), Dice.seeded(3)
    one.batch(dice, 8)
    one.draw(other, 8)
    assert torch.equal(dice.uniform(4), other.uniform(4))


def test_wordings_and_prompts_must_fit():
    with pytest.raises(ValueError, match="6 student prompts for 3 kinds in 4 wordings"):
        replace(worded(2), wordings=4)


def share(routing: str, update: int, p: float = 0.5) -> float:
    batch = Router(EFFECTS, GENERAL, p, routing, 0).draw(Dice.seeded(update), update, 64)
    return float(batch.has_target.float().mean())


def test_rows_stay_together():
    batch = Router(EFFECTS, GENERAL, 0.5, "sample", 0).draw(Dice.seeded(0), 0, 32)
    for i, name in enumerate(batch.names):
        value = 1.0 if name == "fx" else -1.0
        assert (batch.source[i] == value).all() and (batch.student_prompts.tokens[i] == value).all()
        assert (batch.teachers[i] is None) == (name == "general") == (not batch.has_target[i])
    assert {"fx", "general"} == set(batch.names)


def test_per_sample_mixes_and_per_batch_does_not():
    assert 0.2 < share("sample", 0) < 0.8
    for routing in ("batch", "every-20"):
        assert {share(routing, u) for u in range(60)} == {0.0, 1.0}


def test_the_code_redraws_every_twenty_updates_of_the_fake_score():
    def five(update):
        batch = Router(EFFECTS, GENERAL, 0.5, "every-20", 0, fake_updates=5).draw(Dice.seeded(update), update, 8)
        return float(batch.has_target.float().mean())

    shares = [five(u) for u in range(80)]
    assert all(len(set(shares[i : i + 4])) == 1 for i in range(0, 80, 4)) and len({*shares[::4]}) == 2
    assert any(shares[i] != shares[i + 4] for i in range(0, 20, 4)), "not one draw for twenty updates of the student"


def test_with_one_for_each_it_redraws_every_twenty_updates():
    shares = [share("every-20", u) for u in range(200)]
    assert all(len(set(shares[i : i + 20])) == 1 for i in range(0, 200, 20))
    assert len({tuple(shares[i : i + 20]) for i in range(0, 200, 20)}) == 2
    per_batch = [share("batch", u) for u in range(20)]
    assert len(set(per_batch)) == 2


@pytest.mark.parametrize(("p", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_extreme_probabilities(p, expected):
    assert {share(routing, 3, p) for routing in ("sample", "batch", "every-20")} == {expected}


def test_one_stream_alone_and_none():
    assert set(Router(EFFECTS, None, 0.1, "sample", 0).draw(Dice.seeded(0), 0, 8).names) == {"fx"}
    assert set(Router(None, GENERAL, 0.9, "sample", 0).draw(Dice.seeded(0), 0, 8).names) == {"general"}
    with pytest.raises(ClbenchError, match="both are empty"):
        Router(None, None, 0.5, "sample", 0)


@pytest.mark.parametrize("replay", [0.25, 0.8])
def test_replay_is_the_share_of_old_rows_in_the_effect_stream(replay):
    old = stream("old", 2.0, 3, True)
    batch = Router(Replay(EFFECTS, old, replay), GENERAL, 0.5, "sample", 0).draw(Dice.seeded(5), 0, 4000)
    count = {name: batch.names.count(name) for name in ("fx", "old", "general")}
    assert count["general"] / 4000 == pytest.approx(0.5, abs=0.03)
    assert count["old"] / (count["old"] + count["fx"]) == pytest.approx(replay, abs=0.03)
    assert all((batch.source[i] == (2.0 if name == "old" else batch.source[i, 0, 0])).all() for i, name in enumerate(batch.names))


def test_unknown_routing_and_a_kind_without_examples():
    with pytest.raises(ClbenchError, match="Did you mean 'sample'"):
        Router(EFFECTS, GENERAL, 0.5, "samples", 0)
    with pytest.raises(ClbenchError, match="no training example for 'b'"):
        Stream(
            torch.zeros(1, 2, 3), None, torch.tensor([0]), [None, None], ["a", "b"],
            GENERAL.teacher_prompts, GENERAL.student_prompts,
        )  # fmt: skip


def test_same_dice_same_batch():
    a, b = (Router(EFFECTS, GENERAL, 0.5, "sample", 0).draw(Dice.seeded(7), 3, 8) for _ in range(2))
    assert a.names == b.names and torch.equal(a.source, b.source)
