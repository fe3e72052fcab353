"""Which losses, which weights, who gets gradients: the coarse-to-fine distillation objective (C2F-DO).

Student, on every row:       w_bs DMD_BS                (own few-step samples against teacher and fake score)
Student, where y is stored:  w_ts DMD_TS + w_ta TA-FM   (fine and coarse anchoring to the teacher's output)
Fake score, K times first:   flow matching on the student's own detached samples

Teacher and base never get a gradient; one pass serves all student losses, one serves all scores. Where the recipe's
`rows` allows less, a batch comes in pieces, each a pass with a loss of its own, and the sum of their gradients is the
batch's: every random number is drawn for the whole batch beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from reference_trainer import processes
from reference_trainer.dice import Dice
from reference_trainer.losses import GUIDANCE, dmd, dmd_gradient, flow_matching, per_sample_mean, ta_fm, velocity_matching
from reference_trainer.predicting import FAKE_SCORE, STUDENT, Inputs, Predicting
from reference_trainer.processes import Mean
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import Trajectory
from reference_trainer.schedule import (
    ANCHOR_TIME,
    SCORE_TIME,
    TARGET_GENERATION,
    TARGET_SCORE,
    add_noise,
    student_sigmas,
    to_x0,
)
from reference_trainer.streams import Batch
from reference_trainer.student_config import StudentConfig

Logs = dict[str, float]
Times = tuple[Float[Tensor, " b"], Float[Tensor, " b"]]
Noise = tuple[Float[Tensor, "b t c"], Float[Tensor, "b t c"]]


@dataclass(frozen=True)
class Part:
    """One loss's share of the student's pass: rows of the batch, what the student sees there, and how noisy."""

    rows: Int[Tensor, " r"]
    noisy: Float[Tensor, "r t c"]
    time: Float[Tensor, " r"]

    def __len__(self) -> int:
        return len(self.rows)

    def cut(self, start: int, stop: int) -> Part:
        """Rows start..stop of this part; what lies outside of it is left out."""
        piece = slice(max(start, 0), max(stop, 0))
        return Part(self.rows[piece], self.noisy[piece], self.time[piece])


@dataclass(frozen=True)
class Piece:
    """What one pass with gradient gives: its share of a batch's loss, and means over its rows."""

    loss: Float[Tensor, ""]
    logs: dict[str, Mean]


Pieces = Iterator[Piece]


def joined(pieces: Iterable[Piece]) -> tuple[Float[Tensor, ""], Logs]:
    """Loss and logs of a batch from those of its pieces; a loss of 0 without gradient where there are none."""
    every = list(pieces)
    loss = torch.stack([piece.loss for piece in every]).sum() if every else torch.zeros((), dtype=torch.float64)
    return loss, {**processes.pooled([piece.logs for piece in every])}


def cut(parts: Sequence[Part], rows: int | None) -> Iterator[list[Part]]:
    """`parts`, laid one after the other, in pieces of at most `rows` rows; nothing where there is no row."""
    total = sum(len(part) for part in parts)
    size = total if rows is None else rows
    for start in range(0, total, max(size, 1)):
        piece, begin = [], start
        for part in parts:
            piece.append(part.cut(begin, begin + size))
            begin -= len(part)
        yield piece


def _part(rows: Int[Tensor, " r"], noisy: Float[Tensor, "b t c"], time: Float[Tensor, " b"]) -> Part:
    """The given rows of a whole batch; numbers are drawn for whole batches so that switches leave the dice alone."""
    return Part(rows, noisy[rows], time[rows])


def flow_matching_pieces(
    backbone: Predicting, name: str, inputs: Inputs, x0: Float[Tensor, "b t c"], eps: Float[Tensor, "b t c"], rows: int | None
) -> Pieces:
    """Mean flow matching of the adapter `name` on a batch, in passes of at most `rows` rows; logged as ``loss/<name>``.

    `inputs` hold `x0` mixed with `eps`.
    """
    whole = Part(torch.arange(len(inputs), device=x0.device), inputs.noisy, inputs.time)
    for (part,) in cut([whole], rows):
        loss = flow_matching(backbone.predict(inputs.take(part.rows), name), x0[part.rows], eps[part.rows]).mean()
        yield Piece(loss * (len(part) / len(inputs)), {f"loss/{name}": Mean(loss.detach(), len(part))})


class Objective:
    """The objective of one run; `dice` is its only source of randomness."""

    def __init__(self, backbone: Predicting, config: StudentConfig, unconditional: Prompts, guidance: float, dice: Dice) -> None:
        self.backbone, self.config, self.dice = backbone, config, dice
        self.unconditional, self.guidance = unconditional.to(dice.device), guidance
        self.sigmas = student_sigmas(config.steps, config.shift).to(dice.device)
        self.fine_sigmas = TARGET_GENERATION.get(config.times.target_generation)(self.sigmas)
        self._score_time = SCORE_TIME.get(config.times.score)
        self._fake_time = SCORE_TIME.get(config.times.fake_score)
        self._target_score = TARGET_SCORE.get(config.times.target_score)
        self._anchor_time, self._warm_time = ANCHOR_TIME.get(config.times.anchor), ANCHOR_TIME.get(config.warm_time)
        self._guide = GUIDANCE.get(config.guidance_convention)

    # ---- student ----------------------------------------------------------------------------------------------
    def student_loss(self, batch: Batch, trajectory: Trajectory) -> tuple[Float64[Tensor, ""], Logs]:
        """The student's loss on one batch and the numbers worth logging."""
        loss, logs = joined(self.student_pieces(batch, trajectory))
        return loss, logs | {"loss/student": Mean(loss.detach(), len(batch))}

    def student_pieces(self, batch: Batch, trajectory: Trajectory) -> Pieces:
        """The same loss piece by piece: whoever adds them up does so before asking for the next one, to spare memory."""
        on = self.config.losses.effective
        everywhere, anchored = torch.arange(len(batch), device=self.dice.device), batch.has_target.nonzero().flatten()
        t_bs = self._score_time(self.dice, len(batch), self.config.shift)
        t_ts = self._target_score(self.dice, len(batch), self.config.shift)
        t_ta = self._anchor_time(self.dice, len(batch), self.config.shift, t_bs)
        eps_ta = self._noise(batch)

        bs = self._simulated(trajectory, everywhere if "dmd_bs" in on else everywhere[:0])
        ts = self._target_simulated(batch, anchored if "dmd_ts" in on else anchored[:0])
        ta = _part(anchored if "ta_fm" in on else anchored[:0], add_noise(batch.target, eps_ta, t_ta), t_ta)
        eps_bs, eps_ts = self._noise(batch), self._noise(batch)
        for piece in cut([bs, ts, ta], self.config.rows):
            yield self._student_piece(batch, piece, (t_bs, t_ts), (eps_bs, eps_ts), eps_ta)

    def _student_piece(
        self, batch: Batch, parts: Sequence[Part], times: Times, noise: Noise, eps_ta: Float[Tensor, "b t c"]
    ) -> Piece:
        """One pass of the student on rows of all three parts; `times`, `noise` and `eps_ta` are the whole batch's.

        The loss is weighted; logged are the three parts as they are, so that runs of other weights can be compared.
        """
        losses, (bs, ts, ta) = self.config.losses, parts
        v_bs, v_ts, v_ta = self._student_pass(batch, parts)
        x_bs, x_ts = to_x0(bs.noisy, v_bs, bs.time), to_x0(ts.noisy, v_ts, ts.time)
        g_bs, g_ts, logs = self._score(batch, bs, ts, x_bs, x_ts, times, noise)
        terms = {
            "dmd_bs": (losses.dmd_bs_weight, dmd(x_bs, g_bs)),
            "dmd_ts": (losses.dmd_ts_weight, dmd(x_ts, g_ts)),
            "ta_fm": (losses.ta_fm_weight, ta_fm(v_ta, batch.target[ta.rows], eps_ta[ta.rows]).double()),
        }
        loss = torch.stack([weight * each.sum() for weight, each in terms.values()]).sum() / len(batch)
        logs |= {f"loss/{name}": Mean(each.detach().mean(), len(each)) for name, (_, each) in terms.items() if len(each)}
        return Piece(loss, logs)

    def warm_start_loss(self, batch: Batch) -> tuple[Float64[Tensor, ""], Logs]:
        """What the student learns from rows with stored outputs alone, before distillation; 0 where there are none.

        `warm_target` says what: flow matching on the stored outputs (``loss/ta_fm``), or the velocities that the rows' teachers
        predict there (``loss/velocity``); `warm_time` says at which times.
        """
        return joined(self.warm_start_pieces(batch))

    def warm_start_pieces(self, batch: Batch) -> Pieces:
        """The same loss piece by piece; none for a batch that is all general stream, without stored outputs."""
        rows = batch.has_target.nonzero().flatten()
        no_score_time = torch.empty(0)  # the recipe allows no name that looks at it
        eps, time = self._noise(batch), self._warm_time(self.dice, len(batch), self.config.shift, no_score_time)
        anchored = processes.total(len(rows))
        for (part,) in cut([_part(rows, add_noise(batch.target, eps, time), time)], self.config.rows):
            (v,) = self._student_pass(batch, [part])
            if self.config.warm_target == "teacher":
                name, each = "velocity", velocity_matching(v, self._teacher_velocity(batch, part)).double()
            else:
                name, each = "ta_fm", ta_fm(v, batch.target[part.rows], eps[part.rows]).double()
            mean = Mean(each.detach().mean(), len(part))
            # the mean over the rows of all processes, whose gradients are averaged afterwards
            yield Piece(each.sum() * processes.count() / anchored, {f"loss/{name}": mean, "loss/student": mean})

    # ---- fake score -------------------------------------------------------------------------------------------
    def fake_samples(self, trajectory: Trajectory) -> Float[Tensor, "b t c"]:
        """What the fake score learns from: x0 at a random step of each row's rollout, or at the last one.

        "exits" is the mixture of all steps, as in the public code. Early predictions are paler than late ones, so where the
        mixture agrees with the teachers finished pictures have too much contrast. "finished" are those alone.
        """
        if self.config.fake_samples == "finished":
            return trajectory.predictions[-1]
        step, row = trajectory.exits(self.dice)
        return trajectory.predictions[step, row]

    def fake_loss(self, batch: Batch, samples: Float[Tensor, "b t c"]) -> tuple[Float[Tensor, ""], Logs]:
        """Flow matching of the fake score on the student's detached samples."""
        return joined(self.fake_pieces(batch, samples))

    def fake_pieces(self, batch: Batch, samples: Float[Tensor, "b t c"]) -> Pieces:
        """The same loss piece by piece."""
        samples, eps = samples.detach(), self._noise(batch)
        time = self._fake_time(self.dice, len(batch), self.config.shift)
        inputs = Inputs(add_noise(samples, eps, time), batch.source, time, batch.student_prompts)
        return flow_matching_pieces(self.backbone, FAKE_SCORE, inputs, samples, eps, self.config.rows)

    # ---- the passes -------------------------------------------------------------------------------------------
    def _noise(self, batch: Batch) -> Float[Tensor, "b t c"]:
        return self.dice.normal(len(batch), tuple(batch.source.shape[1:]))

    def _simulated(self, trajectory: Trajectory, rows: Int[Tensor, " r"]) -> Part:
        """DMD_BS: a random state of the student's own rollout."""
        step, row = trajectory.exits(self.dice)
        return _part(rows, trajectory.states[step, row], trajectory.sigmas[step])

    def _target_simulated(self, batch: Batch, rows: Int[Tensor, " r"]) -> Part:
        """DMD_TS: the stored output y noised to one of the student's fine steps, t_gen."""
        time = self.fine_sigmas[self.dice.integers(len(batch), len(self.fine_sigmas))]
        return _part(rows, add_noise(batch.target, self._noise(batch), time), time)

    def _student_pass(self, batch: Batch, parts: Sequence[Part]) -> list[Float[Tensor, "_r t c"]]:
        """The student's velocities for all parts in one forward pass with gradient."""
        rows = torch.cat([p.rows for p in parts])
        noisy, time = torch.cat([p.noisy for p in parts]), torch.cat([p.time for p in parts])
        v = self.backbone.predict(Inputs(noisy, batch.source[rows], time, batch.student_prompts.take(rows)), STUDENT)
        return list(v.split([len(p) for p in parts]))

    @torch.no_grad()
    def _teacher_velocity(self, batch: Batch, part: Part) -> Float[Tensor, "r t c"]:
        """What each row's teacher predicts where the student stands, with guidance."""
        rows, asked = part.rows, batch.teacher_prompts.take(part.rows)
        names = [batch.teachers[row] for row in rows.tolist()]
        once = Inputs(part.noisy, batch.source[rows], part.time, asked)
        if self._unguided:
            return self.backbone.predict(once, names)
        prompts = Prompts.cat([asked, self.unconditional.repeat(len(rows))])
        twice = Inputs(once.noisy.repeat(2, 1, 1), once.source.repeat(2, 1, 1), once.time.repeat(2), prompts)
        cond, uncond = self.backbone.predict(twice, [*names, *names]).chunk(2)
        return self._guide(cond, uncond, self.guidance)

    @torch.no_grad()
    def _score(
        self,
        batch: Batch,
        bs: Part,
        ts: Part,
        x_bs: Float[Tensor, "n t c"],
        x_ts: Float[Tensor, "m t c"],
        times: Times,
        noise: Noise,
    ) -> tuple[Float[Tensor, "n t c"], Float[Tensor, "m t c"], dict[str, Mean]]:
        """DMD gradients of both parts: fake score, teacher and (with guidance) unconditional teacher in one mixed forward pass.

        `times` and `noise` are those of the whole batch, for bs and for ts.
        """
        rows, x = torch.cat([bs.rows, ts.rows]), torch.cat([x_bs, x_ts]).detach()
        if not len(rows):
            return x_bs, x_ts, {}
        time, eps = (torch.cat([both[0][bs.rows], both[1][ts.rows]]) for both in (times, noise))
        noisy = add_noise(x, eps, time)
        teachers = [batch.teachers[row] for row in rows.tolist()]
        fake, cond, real = self._scores(batch, rows, noisy, time, teachers)
        gradient = dmd_gradient(x, fake, real)
        logs = {
            "score/matching": Mean(per_sample_mean((fake - cond).abs()).mean(), len(rows)),
            "score/guidance": Mean(per_sample_mean((real - cond).abs()).mean(), len(rows)),
            "score/distance": Mean(per_sample_mean((x - real).abs()).mean(), len(rows)),
        }
        g_bs, g_ts = gradient.split([len(bs), len(ts)])
        return g_bs, g_ts, logs

    @property
    def _unguided(self) -> bool:
        """Whether guidance changes nothing, so that an unconditional pass would be made for nothing."""
        return self.config.guidance_convention == "usual" and self.guidance == 1.0

    def _scores(
        self,
        batch: Batch,
        rows: Int[Tensor, " r"],
        noisy: Float[Tensor, "r t c"],
        time: Float[Tensor, " r"],
        teachers: list[str | None],
    ) -> tuple[Float[Tensor, "r t c"], Float[Tensor, "r t c"], Float[Tensor, "r t c"]]:
        """x0 as the fake score sees it, as the teacher does, and as the teacher does with guidance."""
        count = len(rows)
        asked, names = [batch.student_prompts.take(rows), batch.teacher_prompts.take(rows)], [FAKE_SCORE] * count + teachers
        if not self._unguided:
            asked, names = [*asked, self.unconditional.repeat(count)], names + teachers
        passes = len(asked)
        inputs = Inputs(
            noisy.repeat(passes, 1, 1), batch.source[rows].repeat(passes, 1, 1), time.repeat(passes), Prompts.cat(asked)
        )  # fmt: skip
        fake, cond, *uncond = to_x0(inputs.noisy, self.backbone.predict(inputs, names), inputs.time).chunk(passes)
        return fake, cond, self._guide(cond, uncond[0], self.guidance) if uncond else cond
