"""The CollectionLoRA: every effect's teacher and few-step sampling in one adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clbench.adapter_prompts import words_of
from clbench.adapters import AdapterInfo, describe_adapter, load_tensors
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.types import Effect, seed_from
from reference_trainer.accelerator import describe, general_stream, guidance_of, target_store
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.config import LoraTable
from reference_trainer.dice import Dice
from reference_trainer.distill import add_roles, is_finished, prepare, require_room, run_distillation
from reference_trainer.examples import general_examples
from reference_trainer.gauges import make_gauges
from reference_trainer.loop import Progress
from reference_trainer.lora_modules import target_modules
from reference_trainer.merged_start import start_from_merged
from reference_trainer.predicting import STUDENT
from reference_trainer.prompting import coherence, gram, wordings_fact
from reference_trainer.settings import settings
from reference_trainer.stale import require_finished, require_unchanged
from reference_trainer.starts import (
    require_modules,
    require_prompt,
    require_rank_room,
    require_size,
    require_times,
    require_words,
    tell_repeated,
)
from reference_trainer.streams import Router
from reference_trainer.taught import add_teachers, describe_taught, effect_stream, first_rows, lessons
from reference_trainer.workshop import Workshop

VERSION = 1


def train_collection(
    shop: Workshop, effects: Sequence[Effect], teachers: Mapping[str, Path], config: CollectionConfig, seed: int,
    out: Path, resume: bool,
) -> Iterator[Progress]:  # fmt: skip
    """Train ``out/collection.safetensors`` from the teachers of `effects`; nothing is done when it is complete."""
    adapter = out / "collection.safetensors"
    start = read_start(config, effects, adapter)
    taught = lessons(shop, effects, teachers, config)
    examples = general_examples(shop.world, config.general_sources, config.pictures) if config.p_switch < 1 else []
    guidance = guidance_of(shop, config)
    named = config if start is None else config.model_copy(update={"warm_start_from": start.sha256})
    parts = [shop.sampling_digest, settings(named), guidance, seed, describe_taught(taught, config), describe(examples)]
    key = hash_value([VERSION, "collection", *parts])
    if resume and is_finished(adapter, key):
        yield Progress("collection", config.updates, config.updates, {})
        return
    backbone = shop.backbone(config.lora_forward, config.precision, config.rows, config.checkpoint_blocks)
    modules = target_modules(backbone.transformer, config.lora.modules)
    if start is not None:  # said before any long work
        require_size(start, config.lora, modules, "collection")
        tell_repeated(start.path, seed, "collection")
    if config.warm_start_from == "merged":
        require_mergeable([item.teacher for item in taught], config.lora, modules)
    require_room(backbone, config, "collection", [item.teacher for item in taught])
    names = add_teachers(backbone, taught, config.teachers_on)
    store = target_store(shop, config, backbone, out)
    stream = yield from effect_stream(shop, config, taught, names, store)
    general = yield from general_stream(shop, config, examples, store)
    add_roles(backbone, config, seed, "collection")
    if config.warm_start_from == "merged":
        yield from start_from_merged(backbone, taught, config.lora)
    elif start is not None:
        require_unchanged(start)
        backbone.load(STUDENT, load_tensors(start), str(start.path))
    router = Router(stream if config.p_switch > 0 else None, general, config.p_switch, config.routing, seed, config.fake_updates)
    dice = Dice.seeded(seed_from("collection", seed, "dice"), shop.device)
    training = prepare(backbone, config, router, shop.prompts.unconditional(), guidance, dice)
    if config.warm_start_from != "base" and config.fake_start == "student":
        training.fake.copy(training.student)  # as after a warm start
    facts = {
        "stage": "collection", "seed": seed, "guidance": guidance, "effects": " ".join(t.effect.id for t in taught),
        "prompt": config.prompt, **words_of([t.effect for t in taught], config.prompt),
        "prompt_coherence": round(coherence(gram(stream.plain_prompts)), 6), **wordings_fact(config.wordings),
    }  # fmt: skip
    rows = first_rows(stream, max(config.habits.sheet_rows, 1))
    gauge = yield from make_gauges(shop, config, taught, names, store, training)
    yield from run_distillation(shop, training, rows, "collection", adapter, key, facts, resume, gauge)


def read_start(config: CollectionConfig, effects: Sequence[Effect], adapter: Path) -> AdapterInfo | None:
    """The adapter that `warm_start_from` names.

    ClbenchError if it is not there, was trained in other words than `effects` are asked in now or for other times, is what
    another training is to write and has not ended with, or is `adapter`, which this one writes, or lies in the folder of that.
    """
    path = config.start_file
    if path is None:
        return None
    if not path.is_file():
        raise ClbenchError(f"[collection] warm_start_from = '{path}' is neither base, merged nor an adapter's file")
    if path.resolve() == adapter.resolve():
        raise ClbenchError(f"{path} would be overwritten by the training that starts from it: use another --out")
    require_finished(path, adapter)
    require_prompt(path, config.prompt, "collection")
    require_times(path, config, "collection")
    info = describe_adapter(path)
    require_words(info, effects, config.prompt)
    return info


def require_mergeable(teachers: Sequence[Path], lora: LoraTable, modules: Sequence[str]) -> None:
    """ClbenchError if a teacher has other modules than `lora` means here, or the rank is more than one of them has room for."""
    for path in teachers:
        info = describe_adapter(path)
        require_modules(info, lora, modules, "collection")
        require_rank_room(lora, info.shapes, "collection")
