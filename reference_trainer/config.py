"""What the recipe's tables share: an adapter's size, habits, and names out of a registry. Unknown keys are errors."""

from __future__ import annotations

from pydantic import Field

from clbench.adapter_writing import StoredDtype
from clbench.registry import ClbenchError, Registry
from clbench.tables import Table
from reference_trainer.lora_modules import Modules


class LoraTable(Table):
    """Size of an adapter. `modules` all = attention, feed-forward and modulation, the paper's list."""

    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(default=None, gt=0, description="None: alpha = rank, scale 1")
    modules: Modules = "all"
    dtype: StoredDtype = Field(default="float32", description="of the exported file; what is trained is always float32")

    @property
    def alpha_value(self) -> float:
        return float(self.rank) if self.alpha is None else self.alpha


class HabitsTable(Table):
    """What every stage does besides training: checkpoints, logs, sample sheets."""

    checkpoint_every: int = Field(default=100, ge=1, description="updates between checkpoints")
    checkpoint_minutes: float = Field(
        default=20, gt=0, description="minutes after which the next update is followed by a checkpoint, whatever checkpoint_every"
    )
    keep: int = Field(default=2, ge=1, description="checkpoints kept")
    sheet_every: int = Field(default=250, ge=1, description="updates between sample sheets; one is made at update 0")
    sheet_rows: int = Field(default=8, ge=1)
    tensorboard: bool = True
    gauge_every: int = Field(default=250, ge=0, description="updates between readings of a collection's gauges; 0: never")
    gauge_scenes: int = Field(default=2, ge=1, description="validation scenes of the gauges")
    keep_warm_start: bool = Field(
        default=False, description="write <stage>-warm.safetensors into the stage's folder when a student's warm start ends"
    )

    def reads_gauges(self, updates: int) -> bool:
        """Whether a training of so many updates is long enough for a reading."""
        return 0 < self.gauge_every <= updates

    def require_no_gauges(self) -> None:
        """ValueError where the recipe says something of gauges, for stages that have none."""
        for name in ("gauge_every", "gauge_scenes"):
            if name in self.model_fields_set:
                raise ValueError(f"only collections and their extensions have gauges: leave habits.{name} out")


def registered(registry: Registry, name: str) -> str:
    """`name`; ValueError, which names the nearest one, unless the registry has it."""
    try:
        registry.get(name)
    except ClbenchError as error:
        raise ValueError(str(error).removesuffix(".")) from None  # pydantic adds the file, the line and the key
    return name
