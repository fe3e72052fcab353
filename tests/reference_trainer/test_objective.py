"""The objective: each switch does what it says, gradients reach the right role, the parts weigh what they should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from reference_trainer.dice import Dice
from reference_trainer.losses import NonFiniteError
from reference_trainer.objective import Objective
from reference_trainer.rollout import simulate
from reference_trainer.streams import Batch
from reference_trainer.student_config import LossesTable, StudentConfig, TimesTable

SWITCHES = {"dmd_bs": False, "dmd_ts": False, "ta_fm": False}


@pytest.fixture
def setup(make_backbone, make_inputs, cache):
    """A function: (objective, batch, trajectory, dice) for given settings; rows 0 and 1 have targets, row 2 has none."""
    backbone, inputs = make_backbone(), make_inputs(3)
    batch = Batch(
        inputs.source, inputs.noisy, torch.tensor([True, True, False]), ["teacher_0000", "teacher_0001", None],
        ["a", "b", "general"], cache.many(["make it blue", "make it red", "remove it"]),
        cache.many(["<a> blue", "<b> red", "remove it"]),
    )  # fmt: skip

    def make(guidance: float = 3.0, **settings):
        dice = Dice.seeded(4)
        objective = Objective(backbone, StudentConfig(**settings), cache.unconditional(), guidance, dice)
        path = simulate(backbone, objective.sigmas, batch.source, batch.student_prompts, Dice.seeded(9))
        return objective, batch, path, dice

    return make


def value(setup, guidance: float = 3.0, **settings) -> float:
    objective, batch, path, _ = setup(guidance, **settings)
    return float(objective.student_loss(batch, path)[0].detach())


def only(name: str, **weights) -> LossesTable:
    return LossesTable(**(SWITCHES | {name: True} | weights))


@pytest.mark.parametrize("name", SWITCHES)
def test_each_loss_has_a_switch_and_a_weight(setup, name):
    objective, batch, path, _ = setup(losses=only(name))
    loss, logs = objective.student_loss(batch, path)
    assert {key for key in logs if key.startswith("loss/")} == {f"loss/{name}", "loss/student"}
    rows = 3 if name == "dmd_bs" else 2  # general rows know DMD_BS alone
    assert float(loss.detach()) == pytest.approx(logs[f"loss/{name}"] * rows / 3)
    doubled = value(setup, losses=only(name, **{f"{name}_weight": 2.0}))
    assert doubled == pytest.approx(2 * float(loss.detach()))


def test_weights_are_in_the_total_alone(setup):
    """The log tells of each part as it is, whatever it weighs; ``loss/student`` is what is trained."""
    weights = {"dmd_bs": 0.5, "dmd_ts": 2.0, "ta_fm": 4.0}
    logs = []
    for losses in (LossesTable(), LossesTable(**{f"{name}_weight": weight for name, weight in weights.items()})):
        objective, batch, path, _ = setup(losses=losses)
        logs.append(objective.student_loss(batch, path)[1])
    for name in weights:
        assert logs[1][f"loss/{name}"] == logs[0][f"loss/{name}"]
    rows = {"dmd_bs": 3, "dmd_ts": 2, "ta_fm": 2}
    total = sum(weight * rows[name] * logs[0][f"loss/{name}"] for name, weight in weights.items()) / 3
    assert logs[1]["loss/student"] == pytest.approx(total)


def test_the_objective_is_the_sum_of_its_parts(setup):
    parts = [value(setup, losses=only(name)) for name in SWITCHES]
    assert value(setup) == pytest.approx(sum(parts), rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"times": TimesTable(score="uniform")},
        {"times": TimesTable(target_generation="code")},
        {"times": TimesTable(target_score="code")},
        {"times": TimesTable(anchor="code")},
        {"guidance_convention": "code"},
        {"steps": 8},
        {"shift": 1.0},
    ],
)
def test_each_switch_changes_the_loss(setup, settings):
    assert value(setup, **settings) != pytest.approx(value(setup), rel=1e-6)


def test_code_guidance_four_is_usual_five(setup):
    assert value(setup, 4.0, guidance_convention="code") == pytest.approx(value(setup, 5.0), rel=1e-5)


def test_switches_leave_the_dice_alone(setup):
    states = []
    for losses in (LossesTable(), only("dmd_bs"), only("ta_fm")):
        objective, batch, path, dice = setup(losses=losses)
        objective.student_loss(batch, path)
        states.append(dice.state())
    assert all(torch.equal(states[0], state) for state in states)


def gradients(objective, role: str, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """What `loss` leaves at the role's parameters, where they are clean afterwards."""
    loss.backward()
    parameters = objective.backbone.parameters(role)
    found = {key: p.grad.clone() for key, p in parameters.items() if p.grad is not None}
    for parameter in parameters.values():
        parameter.grad = None
    return found


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
def test_pieces_of_a_batch_add_up_to_it(setup, rows):
    """Seven rows in the student's pass (three, two, two): the same losses, logs, gradients and draws in pieces of any size.

    To 1e-4 of the largest gradient and 1e-5 of a loss, both in float32.
    """
    found = []
    for limit in (None, rows):
        objective, batch, path, dice = setup(rows=limit)
        objective.backbone.rows = limit
        for role, loss, logs in (
            ("student", *objective.student_loss(batch, path)),
            ("fake_score", *objective.fake_loss(batch, path.predictions[-1])),
            ("student", *objective.warm_start_loss(batch)),
        ):
            found.append((logs, gradients(objective, role, loss)))
        found[-1][0]["dice"] = dice.uniform(1).item()
    for (logs, grads), (other, pieces) in zip(found[:3], found[3:], strict=True):
        assert logs == pytest.approx(other, rel=1e-5) and grads.keys() == pieces.keys()
        bound = 1e-4 * max(float(g.abs().max()) for g in grads.values())
        assert all(torch.allclose(grads[key], pieces[key], rtol=0, atol=bound) for key in grads)


def test_a_pass_holds_no_more_rows_than_allowed(setup, monkeypatch):
    objective, batch, path, _ = setup(rows=2)
    backbone, seen = objective.backbone, []
    forward = backbone._forward

    def look(inputs, groups):
        seen.append(len(inputs))
        return forward(inputs, groups)

    backbone.rows = 2
    monkeypatch.setattr(backbone, "_forward", look)
    for piece in objective.student_pieces(batch, path):
        piece.loss.backward()
    assert max(seen) == 2 and sum(seen) == 7 + 3 * 5  # the student's rows, and three scores of all but the anchored ones


def test_student_loss_reaches_the_student_alone(setup):
    objective, batch, path, _ = setup()
    objective.student_loss(batch, path)[0].backward()
    assert reached(objective) == {"student"}


def test_fake_loss_reaches_the_fake_score_alone(setup):
    objective, batch, path, _ = setup()
    objective.fake_loss(batch, path.predictions[-1])[0].backward()
    assert reached(objective) == {"fake_score"}


def test_warm_start_is_flow_matching_on_targets_alone(setup):
    objective, batch, _, _ = setup()
    loss, logs = objective.warm_start_loss(batch)
    loss.backward()
    assert reached(objective) == {"student"}
    assert set(logs) == {"loss/ta_fm", "loss/student"}


def reached(objective) -> set[str]:
    named = objective.backbone.transformer.named_parameters()
    return {name.split(".")[-2] for name, p in named if p.grad is not None and p.grad.abs().sum() > 0}


def test_rows_without_any_loss_give_no_gradient(setup):
    objective, batch, path, _ = setup(losses=only("ta_fm"))
    general = Batch(
        batch.source, batch.target, torch.zeros(3, dtype=torch.bool), [None] * 3, ["general"] * 3,
        batch.teacher_prompts, batch.student_prompts,
    )  # fmt: skip
    loss, _ = objective.student_loss(general, path)
    assert not loss.requires_grad and float(loss) == 0


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_warm_start_may_match_the_teacher_itself(setup, guidance):
    """`warm_target = "teacher"`: the velocities of each row's own teacher, with guidance, at the very states the student sees."""
    objective, batch, *_ = setup(guidance, warm_target="teacher")
    asked, seen = [], objective.backbone.predict

    def predict(inputs, adapter):
        asked.append((inputs, adapter, answer := seen(inputs, adapter)))
        return answer

    objective.backbone.predict = predict
    loss, logs = objective.warm_start_loss(batch)
    (student, _, v), (teacher, names, u) = asked
    assert names[:2] == batch.teachers[:2] and torch.equal(teacher.noisy[:2], student.noisy)
    if guidance != 1.0:
        u = u[2:] + guidance * (u[:2] - u[2:])
    assert float(loss.detach()) == pytest.approx(float(((v - u) ** 2).mean().detach()), rel=1e-5)
    assert not u.requires_grad and loss.requires_grad and set(logs) == {"loss/velocity", "loss/student"}
    assert logs["loss/velocity"] == pytest.approx(float(loss.detach()))


def test_times_of_a_warm_start_have_names(setup):
    seen = {}
    for name in ("uniform", "shifted"):
        objective, batch, *_ = setup(warm_time=name, warm_target="teacher")
        objective._student_pass = lambda batch, parts, name=name: (seen.setdefault(name, parts[0].time), [parts[0].noisy])[1]
        objective.warm_start_loss(batch)
    assert torch.allclose(seen["shifted"], 3 * seen["uniform"] / (1 + 2 * seen["uniform"]))


def test_warm_start_of_a_batch_without_stored_outputs_teaches_nothing(setup):
    objective, batch, _, dice = setup()
    loss, logs = objective.warm_start_loss(replace(batch, has_target=torch.zeros(3, dtype=torch.bool)))
    assert float(loss) == 0 and not loss.requires_grad and logs == {}
    drawn = dice.uniform(1)
    objective, batch, _, dice = setup()
    objective.warm_start_loss(batch)
    assert torch.equal(dice.uniform(1), drawn)  # the dice do not depend on what a batch holds


def test_a_broken_teacher_stops_training(setup):
    objective, batch, path, _ = setup()
    with torch.no_grad():
        next(iter(objective.backbone.parameters("teacher_0001").values())).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="distribution matching gradient"):
        objective.student_loss(batch, path)


def test_a_teacher_matters_for_its_own_rows_only(setup):
    """Changing teacher 1 changes the gradients of row 1 alone: the mixed pass keeps rows apart."""
    objective, batch, _, _ = setup()
    noisy, rows, time = batch.target, torch.arange(3), torch.full((3,), 0.6)
    with torch.no_grad():
        before = objective._scores(batch, rows, noisy, time, batch.teachers)
        for parameter in objective.backbone.parameters("teacher_0001").values():
            parameter.mul_(1.5)
        after = objective._scores(batch, rows, noisy, time, batch.teachers)
    torch.testing.assert_close(before[0], after[0])
    changed = [(b - a).abs().amax((1, 2)) > 1e-5 for b, a in zip(before[1:], after[1:], strict=True)]
    assert [c.tolist() for c in changed] == [[False, True, False]] * 2


def test_without_guidance_no_pass_is_made_for_nothing(setup, monkeypatch):
    """The same scores with a third fewer rows, as long as guidance of 1 means none."""
    objective, batch, _, _ = setup(guidance=1.0)
    passed, predict = [], objective.backbone.predict
    monkeypatch.setattr(objective.backbone, "predict", lambda inputs, names: passed.append(len(inputs)) or predict(inputs, names))
    asked = (batch, torch.arange(3), batch.target, torch.full((3,), 0.6), batch.teachers)
    with torch.no_grad():
        short = objective._scores(*asked)
        monkeypatch.setattr(Objective, "_unguided", False)
        whole = objective._scores(*asked)
    assert passed == [6, 9]
    for each, other in zip(short, whole, strict=True):
        torch.testing.assert_close(each, other, atol=1e-5, rtol=1e-5)


def test_the_fake_score_learns_from_a_random_step_or_from_finished_pictures(setup):
    objective, _, path, _ = setup()
    step, row = path.exits(Dice.seeded(4))
    assert torch.equal(objective.fake_samples(path), path.predictions[step, row])
    objective, _, path, dice = setup(fake_samples="finished")
    assert torch.equal(objective.fake_samples(path), path.predictions[-1])
    assert torch.equal(dice.uniform(2), Dice.seeded(4).uniform(2)), "nothing was drawn"


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="unknown time of a score"):
        TimesTable(score="lognormal")
    with pytest.raises(ValueError, match="unknown guidance convention"):
        StudentConfig(guidance_convention="mine")
    with pytest.raises(ValueError, match="switched off"):
        LossesTable(**SWITCHES)
