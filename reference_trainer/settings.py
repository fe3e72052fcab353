"""Which of a stage's options decide its result: what the key of its training is made of.

A training is taken up again, and a finished one recognised, while its key is the same; what is left out of it may change between
stop and resume.
"""

from __future__ import annotations

from typing import Any

from reference_trainer import processes
from reference_trainer.pairs_config import PairsConfig
from reference_trainer.student_config import StudentConfig

LATER = frozenset(
    {
        "warm_start_from", "distill_lr", "target_guidance", "lr_decay", "warm_batch", "triggers", "warm_target", "warm_time",
        "wordings", "fake_samples",
    }
)  # fmt: skip
"""Options that are younger than finished trainings; see `settings`."""
BESIDE = frozenset({"habits", "folder", "pictures", "lora_forward", "rows", "checkpoint_blocks", "teachers_on"})
"""Options that change no number but by rounding; see `settings`."""


def settings(table: PairsConfig | StudentConfig) -> dict[str, Any]:
    """What of a table decides the result: not how often it is looked at, nor how passes compute, nor where pictures lie.

    Keys of finished trainings are made of it, so an option that came later is left out while it has its default value. The
    batch is that of all processes.
    """
    values = table.model_dump(mode="json", exclude=set(BESIDE))
    defaults = type(table)().model_dump(mode="json", include=set(LATER & values.keys()))
    values = {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}
    for name in ("batch", "warm_batch"):
        if values.get(name) is not None:
            values[name] *= processes.count()
    if values.get("routing") == "every-20" and processes.count() > 1:  # drawn by each process for itself
        values["processes"] = processes.count()
    return values
