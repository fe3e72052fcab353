"""What must hold before a student's training starts: of the adapter that it goes on from, and of its world's sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clbench.adapter_prompts import as_trained, other_words
from clbench.adapters import AdapterInfo
from clbench.notices import say
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header
from clbench.types import Effect, PromptKind
from clbench.world import World
from clbench.world_file import FewStepTable
from reference_trainer import processes
from reference_trainer.config import LoraTable
from reference_trainer.pairs_config import PairsConfig
from reference_trainer.student_config import StudentConfig


def check_precision(world: World, config: PairsConfig | StudentConfig, stage: str) -> None:
    """ClbenchError where the recipe's `stage` cannot work over weights as the world holds them."""
    held = world.backbone.dtype
    if held == "float16":
        raise ClbenchError(
            f"{world.file} holds weights in float16, in which training overflows: set dtype = 'bfloat16' or 'float32' there"
        )
    needed = {"precision": "bfloat16", "lora_forward": "low-rank"}  # merged weights would lose small changes in bfloat16
    for key, value in needed.items():
        if held == "bfloat16" and (given := getattr(config, key)) != value:
            raise ClbenchError(
                f"{world.file} holds weights in bfloat16, but [{stage}] {key} of the recipe is '{given}': "
                f"make it '{value}', or dtype = 'float32' in the world file"
            )


def check_sampling(world: World, config: StudentConfig, stage: str, tell: bool = True) -> None:
    """Whether the world will sample at the times that the recipe's `stage` trains for.

    ClbenchError for a shift that neither the world's few-step systems have nor an entry of the adapters that `stage` makes
    (Euler steps that name none have the full-step schedule's), and where all of those entries name another embedded_guidance
    than [backbone], whose is trained with. Other steps are no mistake, since an adapter may be asked for fewer than it was
    trained for: they are said where `tell` is true.
    """
    one = world.table.accelerator
    entries: Sequence[FewStepTable] = world.table.candidates if stage != "accelerator" else [one] if one else []
    where = "[accelerator]" if stage == "accelerator" else "a table [[candidates]]"
    usual = world.backbone
    times = [usual.few_step_times(entry.sampler, entry.shift) for entry in entries]
    times += [] if stage == "accelerator" and times else [usual.few_step_times()]  # of a candidate that has no table yet
    if config.shift not in {shift for _, shift in times}:
        stochastic, shift = times[0]
        how = "" if stochastic else "by Euler steps "
        how += f"with shift {shift:g}" if shift is not None else "over the model's own schedule"
        raise ClbenchError(
            f"[{stage}] shift of the recipe is {config.shift:g}, but {world.file} samples {how}: "
            f"make them equal, or name shift = {config.shift:g} in {where} there"
        )
    trained, named = usual.embedded_guidance, [entry.embedded_guidance for entry in entries]
    if named and all(value not in (None, trained) for value in named):
        raise ClbenchError(
            f"[{stage}] is trained with embedded_guidance = {trained:g}, that of [backbone], but {world.file} samples with "
            f"embedded_guidance = {named[0]:g}: make them equal, or leave it out in {where} there"
        )
    if config.steps not in {usual.few_steps, *(entry.steps for entry in entries)} and tell and processes.first():
        say(
            f"[{stage}] steps of the recipe are {config.steps}, but {world.file} samples in {usual.few_steps}: "
            f"name steps = {config.steps} in {where} there, to see the adapter as it is trained",
            "yellow",
        )


def require_times(path: Path, config: StudentConfig, stage: str) -> None:
    """ClbenchError if the adapter says that it was trained for other steps or another shift than the recipe's `stage`."""
    header = read_header(path).get("__metadata__", {})
    for name, mine in (("steps", str(config.steps)), ("shift", str(config.shift))):
        if (trained := header.get(f"clbench.{name}", mine)) != mine:
            raise ClbenchError(f"{path} was trained with {name} = {trained}, but [{stage}] has {name} = {mine}")


def require_prompt(path: Path, prompt: PromptKind, stage: str) -> None:
    """ClbenchError if the adapter says that it was trained in other words than `prompt`, those of the recipe's `stage`."""
    trained = read_header(path).get("__metadata__", {}).get("clbench.prompt", prompt)
    if trained != prompt:
        raise ClbenchError(f"{path} was trained with prompt = '{trained}', but [{stage}] has prompt = '{prompt}'")


def require_words(info: AdapterInfo, effects: Sequence[Effect], prompt: PromptKind) -> None:
    """ClbenchError if the adapter says that it was trained with another trigger or caption (of kind `instruction`: instruction)
    of an effect than that is asked with now.
    """
    known = {effect.id: effect for effect in effects}
    trained = as_trained(info, known, prompt)
    for what, ids in other_words(known, trained, prompt).items():
        field = "trigger" if what == "triggers" else "instruction" if prompt == "instruction" else "caption"
        then, now = (getattr(words[ids[0]], field) for words in (trained, known))
        hint = ": train with the same effects in the same order and the same [collection] triggers" if field == "trigger" else ""
        raise ClbenchError(f"{info.path} was trained with {field} '{then}' for '{ids[0]}', but it is '{now}' now{hint}")


def tell_repeated(path: Path, seed: int, stage: str) -> None:
    """Say it where the adapter was trained by the same stage from the same seed, whose draws would come once more."""
    header = read_header(path).get("__metadata__", {})
    if (header.get("clbench.stage"), header.get("clbench.seed")) == (stage, str(seed)) and processes.first():
        say(f"{path} was trained with seed {seed} too, so its scenes and noise come again: give the recipe another", "yellow")


def tell_short_average(config: StudentConfig, stage: str) -> None:
    """Say it where distillation is so short beside the running average that the exported adapter is in good part its start."""
    updates = config.updates - config.warm_start
    share = 1 - config.ema**updates
    if config.ema and updates > 0 and share < 0.9 and processes.first():
        say(
            f"[{stage}] ema = {config.ema:g} averages over more updates than the {updates} of distillation: "
            f"{100 * (1 - share):.0f} % of the exported average will be of before them; a smaller ema exports more of it",
            "yellow",
        )


def require_size(info: AdapterInfo, lora: LoraTable, modules: Sequence[str], stage: str) -> None:
    """ClbenchError unless the adapter has rank, alpha and modules of `lora`; `modules` are the names those mean here."""
    for what, mine, wanted in (("rank", info.ranks, lora.rank), ("alpha", info.alphas, lora.alpha_value)):
        if set(mine.values()) != {wanted}:
            found = ", ".join(f"{value:g}" for value in sorted(set(mine.values())))
            raise ClbenchError(f"{info.path} has {what} {found}, but [{stage}] lora.{what} is {wanted:g}")
    if info.rslora:
        raise ClbenchError(f"{info.path} has rank-stabilised scales, which training does not know")
    require_modules(info, lora, modules, stage)


def require_rank_room(lora: LoraTable, shapes: Mapping[str, tuple[int, ...]], stage: str) -> None:
    """ClbenchError if the rank is more than a module of these shapes has room for, where teachers are merged into one."""
    side, module = min((min(shape), module) for module, shape in shapes.items())
    if lora.rank > side:
        raise ClbenchError(f"[{stage}] lora.rank is {lora.rank}, but '{module}' of the merged teachers has {side} at most")


def require_modules(info: AdapterInfo, lora: LoraTable, modules: Sequence[str], stage: str) -> None:
    """ClbenchError unless the adapter has the `modules` that `lora` means here."""
    odd = sorted(set(info.shapes) ^ set(modules))
    if odd:
        raise ClbenchError(
            f"{info.path} has other modules than [{stage}] lora.modules = '{lora.modules}' means for this backbone: "
            f"{len(odd)} differ, the first is '{odd[0]}'"
        )
