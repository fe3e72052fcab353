"""Further effects for a finished CollectionLoRA: training goes on from its adapter, with or without the old effects.

The paper adds 4 effects to 50 with 100 student updates each. With `replay` a share of the effect stream keeps asking for
the old effects; without it nothing but the small budget protects them, and the general stream once the warm start is over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from clbench.adapter_prompts import words_of
from clbench.adapters import AdapterInfo, describe_adapter, load_tensors
from clbench.provenance import hash_value
from clbench.registry import ClbenchError
from clbench.tensor_file import read_header
from clbench.types import Effect, seed_from
from reference_trainer.accelerator import describe, general_stream, guidance_of, target_store
from reference_trainer.collection_config import ExtensionConfig
from reference_trainer.dice import Dice
from reference_trainer.distill import (
    Distillation,
    SheetRows,
    add_roles,
    is_finished,
    prepare,
    require_room,
    run_distillation,
    show,
)
from reference_trainer.examples import distillation_sources, general_examples
from reference_trainer.gauges import make_gauges
from reference_trainer.loop import Progress
from reference_trainer.lora_modules import target_modules
from reference_trainer.networks import Backbone
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.prompting import Prompts, coherence, gram, student_prompt, wordings_fact
from reference_trainer.settings import settings
from reference_trainer.starts import require_prompt, require_size, require_times, tell_repeated
from reference_trainer.streams import Replay, Router, Stream
from reference_trainer.taught import add_teachers, describe_taught, effect_stream, first_rows, lessons
from reference_trainer.workshop import Workshop

VERSION = 1


@dataclass(frozen=True)
class Origin:
    """The adapter that an extension starts from and the ids of the effects it knows."""

    info: AdapterInfo
    effects: tuple[str, ...]


def read_origin(path: Path, given: Sequence[str] | None, config: ExtensionConfig) -> Origin:
    """The adapter at `path`; its effects are those in its header, or `given` where it does not name any.

    ClbenchError when both name different effects, when replay has nothing to draw from, or when the student of that
    adapter sees other words or takes other steps than `config` says.
    """
    header = read_header(path).get("__metadata__", {})
    named = tuple(header.get("clbench.effects", "").split())
    if given and named and set(given) != set(named):
        raise ClbenchError(f"{path} was trained on {', '.join(named)}, not on {', '.join(given)}")
    effects = named or tuple(given or ())
    if config.replay > 0 and not effects:
        raise ClbenchError(f"{path} does not say which effects it knows: name them by --old, or set [extension] replay = 0")
    require_prompt(path, config.prompt, "extension")
    written = header.get("clbench.wordings", '["{}"]')
    try:
        trained = json.loads(written)
    except ValueError:
        raise ClbenchError(f"{path}: clbench.wordings in the header is not a JSON list of wordings, but '{written}'") from None
    if trained != (own := list(config.wordings)):
        raise ClbenchError(
            f"{path} was trained in the wordings {trained}, but [extension] wordings of the recipe is {own}: the old "
            "effects would be replayed in other words; make them equal"
        )
    require_times(path, config, "extension")
    return Origin(describe_adapter(path), effects)


def start_roles(backbone: Backbone, config: ExtensionConfig, info: AdapterInfo, seed: int) -> None:
    """Student and fake score as copies of a finished adapter: at first the fake score knows the student exactly."""
    require_size(info, config.lora, target_modules(backbone.transformer, config.lora.modules), "extension")
    add_roles(backbone, config, seed, "extension")
    tensors = load_tensors(info)
    for name in (STUDENT, FAKE_SCORE):
        backbone.load(name, tensors, str(info.path))


def budget(config: ExtensionConfig, effects: int) -> ExtensionConfig:
    """The recipe with its updates, which count for each new effect, multiplied out."""
    return config.model_copy(update={"updates": config.updates * effects, "warm_start": config.warm_start * effects})


def train_extension(
    shop: Workshop, origin: Origin, old: Sequence[Effect], new: Sequence[Effect], teachers: Mapping[str, Path],
    config: ExtensionConfig, seed: int, out: Path, resume: bool,
) -> Iterator[Progress]:  # fmt: skip
    """Train ``out/extension.safetensors``: the effects of `origin`, which are `old`, and the `new` ones.

    `config` has the budget multiplied out. Nothing is done when the adapter is complete already.
    """
    adapter, replay = out / "extension.safetensors", config.replay > 0
    taught = lessons(shop, new, teachers, config)
    gauged = config.habits.reads_gauges(config.updates)  # else old teachers, of which each takes room, have nothing to do
    known = lessons(shop, [effect for effect in old if replay or (gauged and effect.id in teachers)], teachers, config)
    examples = general_examples(shop.world, config.general_sources, config.pictures) if config.p_switch < 1 else []
    guidance = guidance_of(shop, config)
    parts = [shop.sampling_digest, settings(config), guidance, seed, origin.info.sha256, describe_taught(taught, config)]
    key = hash_value([VERSION, "extension", *parts, describe_taught(known if replay else [], config), describe(examples)])
    if resume and is_finished(adapter, key):
        yield Progress("extension", config.updates, config.updates, {})
        return
    backbone = shop.backbone(config.lora_forward, config.precision, config.rows, config.checkpoint_blocks)
    require_room(backbone, config, "extension", [item.teacher for item in (*taught, *known)])
    start_roles(backbone, config, origin.info, seed)
    tell_repeated(origin.info.path, seed, "extension")
    names = add_teachers(backbone, [*taught, *known], config.teachers_on)
    store = target_store(shop, config, backbone, out)
    stream = yield from effect_stream(shop, config, taught, names[: len(taught)], store)
    effects: Stream | Replay = stream
    if replay:
        again = yield from effect_stream(shop, config, known, names[len(taught) :], store, "old teacher outputs")
        effects = Replay(stream, again, config.replay)
    general = yield from general_stream(shop, config, examples, store)
    router = Router(effects if config.p_switch > 0 else None, general, config.p_switch, config.routing, seed, config.fake_updates)
    dice = Dice.seeded(seed_from("extension", seed, "dice"), shop.device)
    training = prepare(backbone, config, router, shop.prompts.unconditional(), guidance, dice)
    prompts = shop.prompts.many([student_prompt(effect, config.prompt) for effect in [*old, *new]])
    facts = {
        "stage": "extension", "seed": seed, "guidance": guidance, "extends": origin.info.sha256, "replay": config.replay,
        "effects": _ids([*old, *new]), "old_effects": _ids(old), "new_effects": _ids(new),
        "prompt": config.prompt, **words_of([*old, *new], config.prompt), **wordings_fact(config.wordings),
        "prompt_coherence": round(coherence(gram(prompts)), 6),
    }  # fmt: skip
    rows = _sheet_rows(shop, training, config, stream, old)
    gauge = yield from make_gauges(shop, config, [*taught, *known], names, store, training)
    yield from run_distillation(shop, training, rows, "extension", adapter, key, facts, resume, gauge)


def _ids(effects: Sequence[Effect]) -> str:
    return " ".join(effect.id for effect in effects)


def _sheet_rows(
    shop: Workshop, training: Distillation, config: ExtensionConfig, stream: Stream, old: Sequence[Effect]
) -> SheetRows:
    """New effects beside their teachers; old ones beside what the adapter made of them before the extension."""
    shown = old[: config.habits.sheet_rows // 2]
    fresh = first_rows(stream, max(1, config.habits.sheet_rows - len(shown)))
    labels = [f"new: {label}" for label in fresh.labels] + [f"old: {effect.id}" for effect in shown]
    pictures = [distillation_sources(shop.world, effect.id, 1, config.pictures)[0] for effect in shown]
    if not pictures:
        return SheetRows(labels, fresh.source, fresh.reference, fresh.prompts, "teacher")
    source = torch.cat([fresh.source, shop.space.encode(pictures)])
    asked = shop.prompts.many([student_prompt(effect, config.prompt) for effect in shown])
    prompts = Prompts.cat([fresh.prompts, asked])
    before = show(training, source, prompts)[len(fresh.source) :]
    return SheetRows(labels, source, torch.cat([fresh.reference, before]), prompts, "teacher or before")
