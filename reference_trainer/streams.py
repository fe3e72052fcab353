"""Probabilistic dual-stream routing: where batches come from (CollectionLoRA, PDSR).

The effect stream gives (source, effect i, teacher i, stored teacher output y), every effect as often as any other (in
an extension, as any other old one or new one); the general stream gives (source, general instruction) with the plain base as
teacher, every wording as often as any other, whatever its number of examples. All latents and prompt embeddings are computed
beforehand and rest on the CPU; a batch is on the device of the dice that drew it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from clbench.registry import ClbenchError, Registry
from clbench.types import seed_from
from reference_trainer.dice import Dice
from reference_trainer.prompting import Prompts

CODE_ROUTING_PERIOD = 20


@dataclass(frozen=True)
class Batch:
    """One batch of both streams mixed.

    `source` and `target` are ``(B, T, C)``; a target counts only where `has_target` ``(B,)`` is true. `teachers`
    names the adapter of the real score per sample, None = the plain base. `names` says for logs where each row
    comes from: an effect id or "general".
    """

    source: Float[Tensor, "b t c"]
    target: Float[Tensor, "b t c"]
    has_target: Bool[Tensor, " b"]
    teachers: list[str | None]
    names: list[str]
    teacher_prompts: Prompts
    student_prompts: Prompts

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Stream:
    """Examples that share one structure.

    `source` ``(N, T, C)``, `target` ``(N, T, C)`` or None, `kind` ``(N,)`` the row of `teachers`, `names` and
    `teacher_prompts`. `student_prompts` has `wordings` rows for each kind, kind after kind, the plain one first. Kinds are drawn
    uniformly, then uniformly an example of that kind and a wording: unequal counts do not weigh, so an example of a small kind
    comes more often than one of a large kind.
    """

    source: Float[Tensor, "n t c"]
    target: Float[Tensor, "n t c"] | None
    kind: Int[Tensor, " n"]
    teachers: list[str | None]
    names: list[str]
    teacher_prompts: Prompts
    student_prompts: Prompts
    wordings: int = 1

    def __post_init__(self) -> None:
        if len(self.student_prompts) != len(self.names) * self.wordings:
            given, kinds = len(self.student_prompts), len(self.names)
            raise ValueError(f"{given} student prompts for {kinds} kinds in {self.wordings} wordings")
        missing = sorted(set(range(len(self.names))) - set(self.kind.tolist()))
        if missing:
            raise ClbenchError(f"no training example for '{self.names[missing[0]]}'")

    def draw(self, dice: Dice, count: int) -> tuple[Int[Tensor, " {count}"], Int[Tensor, " {count}"]]:
        """Indices of `count` examples and of their kinds."""
        kinds = dice.integers(count, len(self.names)).to(self.kind.device)
        luck = dice.uniform(count)
        members = [(self.kind == k).nonzero().flatten() for k in kinds.tolist()]
        index = torch.stack([m[int(u * len(m))] for m, u in zip(members, luck.tolist(), strict=True)])
        return index, kinds

    @property
    def plain_prompts(self) -> Prompts:
        """The student's prompt of each kind in its plain wording, which is the one that it is asked in."""
        return self.student_prompts.take(torch.arange(len(self.names), device=self.kind.device) * self.wordings)

    def batch(self, dice: Dice, count: int) -> Batch:
        """A batch of this stream alone."""
        index, kinds = self.draw(dice, count)
        worded = kinds * self.wordings
        if self.wordings > 1:  # with one there is nothing to draw, and streams of earlier trainings stay as they were
            worded = worded + dice.integers(count, self.wordings).to(kinds.device)
        source = self.source[index].to(dice.device)
        return Batch(
            source,
            source if self.target is None else self.target[index].to(dice.device),
            torch.full((count,), self.target is not None, device=dice.device),
            [self.teachers[k] for k in kinds.tolist()],
            [self.names[k] for k in kinds.tolist()],
            self.teacher_prompts.take(kinds).to(dice.device),
            self.student_prompts.take(worded).to(dice.device),
        )


def kinds_of(counts: Sequence[int], device: torch.device) -> Int[Tensor, " n"]:
    """The `kind` of examples that lie kind after kind, `counts` of each."""
    return torch.arange(len(counts), device=device).repeat_interleave(torch.tensor(list(counts), device=device))


@dataclass(frozen=True)
class Replay:
    """The effect stream of an extension: a row comes from the `old` effects with probability `share`, else from the `new`."""

    new: Stream
    old: Stream
    share: float

    def batch(self, dice: Dice, count: int) -> Batch:
        chosen = dice.uniform(count) < self.share
        return merge(chosen, self.old.batch(dice, count), self.new.batch(dice, count))


# ---- routing: which rows of a batch come from the effect stream ---------------------------------------------------
# (dice, seed, update, batch size, p, fake-score updates for each of the student) -> bool (B,)
ROUTING: Registry[Callable[[Dice, int, int, int, float, int], Bool[Tensor, " b"]]] = Registry("routing")


@ROUTING.register("sample")
def per_sample(dice: Dice, seed: int, update: int, count: int, p: float, fake_updates: int) -> Bool[Tensor, " {count}"]:
    """Each sample draws for itself, so every batch mixes effects and the general stream."""
    return dice.uniform(count) < p


@ROUTING.register("batch")
def per_batch(dice: Dice, seed: int, update: int, count: int, p: float, fake_updates: int) -> Bool[Tensor, " {count}"]:
    """One draw per update for the whole batch (the paper)."""
    return _coin(seed, "batch", update, p).to(dice.device).expand(count)


@ROUTING.register("every-20")
def per_period(dice: Dice, seed: int, update: int, count: int, p: float, fake_updates: int) -> Bool[Tensor, " {count}"]:
    """One draw for twenty iterations of the public code, per process.

    An iteration of that code updates the fake score, and the student in every fifth: with five updates of the fake score for one
    of the student, as published, a draw holds for four updates of the student.
    """
    period = max(1, CODE_ROUTING_PERIOD // max(1, fake_updates))
    return _coin(seed, f"period/{dice.rank}", update // period, p).to(dice.device).expand(count)


def _coin(seed: int, what: str, index: int, p: float) -> Bool[Tensor, ""]:
    """One draw, a bool scalar on the CPU: as `Dice`, so that it is the same on every device."""
    generator = torch.Generator().manual_seed(seed_from("routing", seed, what, index))
    return torch.rand((), generator=generator) < p


@dataclass(frozen=True)
class Router:
    """Mixes the two streams: with probability `p_switch` a row (batch, period) comes from the effect stream.

    Without one of the streams every row comes from the other. `fake_updates`: how many each of the student's has.
    """

    effects: Stream | Replay | None
    general: Stream | None
    p_switch: float
    routing: str
    seed: int
    fake_updates: int = 1

    def __post_init__(self) -> None:
        if self.effects is None and self.general is None:
            raise ClbenchError("training needs an effect stream or a general stream, both are empty")
        ROUTING.get(self.routing)

    def draw(self, dice: Dice, update: int, count: int) -> Batch:
        """The batch of one update. Both streams are always drawn, so the dice do not depend on the routing."""
        if self.effects is None or self.general is None:
            only = self.effects or self.general
            assert only is not None
            return only.batch(dice, count)
        chosen = ROUTING.get(self.routing)(dice, self.seed, update, count, self.p_switch, self.fake_updates)
        return merge(chosen, self.effects.batch(dice, count), self.general.batch(dice, count))


def merge(chosen: Bool[Tensor, " b"], yes: Batch, no: Batch) -> Batch:
    """Row by row `yes` where `chosen` ``(B,)`` is true, `no` elsewhere."""
    picks = chosen.tolist()
    wide = chosen.view(-1, 1, 1)

    def prompts(a: Prompts, b: Prompts) -> Prompts:
        return Prompts(torch.where(wide, a.tokens, b.tokens), torch.where(chosen.view(-1, 1), a.pooled, b.pooled))

    return Batch(
        torch.where(wide, yes.source, no.source),
        torch.where(wide, yes.target, no.target),
        torch.where(chosen, yes.has_target, no.has_target),
        [a if c else b for c, a, b in zip(picks, yes.teachers, no.teachers, strict=True)],
        [a if c else b for c, a, b in zip(picks, yes.names, no.names, strict=True)],
        prompts(yes.teacher_prompts, no.teacher_prompts),
        prompts(yes.student_prompts, no.student_prompts),
    )
