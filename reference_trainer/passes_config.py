"""How passes through the transformer compute, in every stage that trains a LoRA."""

from __future__ import annotations

from pydantic import Field

from clbench.tables import Table
from reference_trainer.lora_forward import LoraForward
from reference_trainer.precision import Precision


class PassesTable(Table):
    """Memory against speed; but for `precision` the training is the same up to rounding (`settings.BESIDE`)."""

    lora_forward: LoraForward = "merged"
    rows: int | None = Field(
        default=None, ge=1, description="most rows of one pass through the transformer; None: all. Fewer need less memory"
    )
    checkpoint_blocks: bool = Field(
        default=False, description="compute a block's inner values again in the backward pass instead of keeping them"
    )
    precision: Precision = "float32"
