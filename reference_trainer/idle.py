"""Options of a student's table that do nothing beside the others: saying so is kinder than training without them.

What an option does is what it changes of the trained adapter, luck aside; that the log shows a loss of weight 0 does not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reference_trainer.collection_config import CollectionConfig
from reference_trainer.schedule import ABOVE_SCORE_TIME
from reference_trainer.student_config import AcceleratorConfig, LossesTable, StudentConfig, TimesTable

Reasons = Iterator[tuple[str, str]]
"""Keys, with dots where they lie in a table of the stage, and why they do nothing."""


def written(table: Mapping[str, Any], key: str) -> bool:
    """Whether a table as read from the file has `key`, in whichever of TOML's forms."""
    first, _, rest = key.partition(".")
    return first in table and (not rest or (isinstance(table[first], dict) and written(table[first], rest)))


def idle(table: StudentConfig) -> Reasons:
    """Options that do nothing beside the others of the table, and why."""
    yield from _of_the_warm_start(table)
    yield from _of_the_streams(table)
    yield from _of_the_losses(table)
    yield from _of_the_fake_score(table)


def _of_the_warm_start(table: StudentConfig) -> Reasons:
    if not table.warm_start:
        for name in ("warm_batch", "warm_target", "warm_time"):
            yield name, "without warm_start updates"
        if table.distill_lr not in (None, table.lr):
            yield "lr", f"without warm_start updates, where distill_lr {table.distill_lr:g} is the rate of every update"
    if table.warm_start == table.updates:
        names = ["distill_lr", "fake_samples", "fake_updates", "fake_lr", "fake_lora", "fake_start", "rollout"]
        names += [*_guidance(table), *(f"losses.{name}" for name in LossesTable.model_fields)]
        for name in [*names, *(f"times.{name}" for name in TimesTable.model_fields)]:
            yield name, f"where all {table.updates} updates are the warm start"
        if table.warm_batch is not None:
            yield "batch", f"where all {table.updates} updates are the warm start, of which warm_batch is the batch"


def _of_the_streams(table: StudentConfig) -> Reasons:
    if isinstance(table, AcceleratorConfig) and not table.general_targets:
        for name in ("target_steps", "target_guidance"):
            yield name, "where general_targets is false and no output is stored"
    if not isinstance(table, CollectionConfig):
        return
    if table.p_switch == 1:
        # general_sources = 0 says the same once more
        for name in ("general_targets", "routing", *(["general_sources"] if table.general_sources else [])):
            yield name, "where p_switch is 1 and no row is of the general stream"
    if table.p_switch == 0:
        for name in ("wordings", "effect_sources", "routing"):
            yield name, "where p_switch is 0 and no row is of an effect"


def _of_the_losses(table: StudentConfig) -> Reasons:
    losses = table.losses
    for name in ("dmd_bs", "dmd_ts", "ta_fm"):
        if not getattr(losses, name):
            yield f"losses.{name}_weight", f"where losses.{name} is false"
    stored = not table.without_outputs()
    if not stored:
        for name in ("dmd_ts", "dmd_ts_weight", "ta_fm", "ta_fm_weight"):
            yield f"losses.{name}", "where no row that is learnt from has a stored output"
    anchored = stored and "ta_fm" in losses.effective
    if not anchored:
        yield "times.anchor", "without trajectory anchoring (losses.ta_fm)"
    if not (stored and "dmd_ts" in losses.effective):
        for name in ("target_generation", "target_score"):
            yield f"times.{name}", "without target simulation (losses.dmd_ts)"
    if "dmd_bs" not in losses.effective and not (anchored and table.times.anchor in ABOVE_SCORE_TIME):
        yield "times.score", "without backward simulation (losses.dmd_bs)"


def _of_the_fake_score(table: StudentConfig) -> Reasons:
    if table.steps == 1:
        yield "fake_samples", "where the only step is the last one"
    learning = ("fake_samples", "fake_lr", "fake_lora", "rollout", "times.fake_score")
    if not {"dmd_bs", "dmd_ts"} & table.losses.effective:
        for name in (*learning, "fake_updates", "fake_start", *_guidance(table)):
            yield name, "where no fake score is asked, since losses.dmd_bs and losses.dmd_ts are off"
    elif not table.fake_updates:
        for name in learning:
            yield name, "where no fake score learns, since fake_updates is 0"


def _guidance(table: StudentConfig) -> tuple[str, ...]:
    """The options of the score's guidance, unless a warm start by the teachers' velocities reads them too."""
    warm = table.warm_start and table.warm_target == "teacher"
    return () if warm else ("guidance", "guidance_convention")
