"""What an adapter must be for a training to go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clbench.adapters import AdapterInfo, read_header
from clbench.registry import ClbenchError
from clbench.types import PromptKind
from reference_trainer.config import LoraTable


def require_prompt(path: Path, prompt: PromptKind, stage: str) -> None:
    """ClbenchError if the adapter says that it was trained in other words than `prompt`, those of the recipe's `stage`."""
    trained = read_header(path).get("__metadata__", {}).get("clbench.prompt", prompt)
    if trained != prompt:
        raise ClbenchError(f"{path} was trained with prompt = '{trained}', but [{stage}] has prompt = '{prompt}'")


def require_size(info: AdapterInfo, lora: LoraTable, modules: Sequence[str], stage: str) -> None:
    """ClbenchError unless the adapter has rank, alpha and modules of `lora`; `modules` are the names those mean here."""
    for what, mine, wanted in (("rank", info.ranks, lora.rank), ("alpha", info.alphas, lora.alpha_value)):
        if set(mine.values()) != {wanted}:
            found = ", ".join(f"{value:g}" for value in sorted(set(mine.values())))
            raise ClbenchError(f"{info.path} has {what} {found}, but [{stage}] lora.{what} is {wanted:g}")
    if info.rslora:
        raise ClbenchError(f"{info.path} has rank-stabilised scales, which training does not know")
    require_modules(info, lora, modules, stage)


def require_modules(info: AdapterInfo, lora: LoraTable, modules: Sequence[str], stage: str) -> None:
    """ClbenchError unless the adapter has the `modules` that `lora` means here."""
    odd = sorted(set(info.shapes) ^ set(modules))
    if odd:
        raise ClbenchError(
            f"{info.path} has other modules than [{stage}] lora.modules = '{lora.modules}' means for this backbone: "
            f"{len(odd)} differ, the first is '{odd[0]}'"
        )
