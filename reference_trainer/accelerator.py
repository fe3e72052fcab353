"""The accelerator: few-step distillation with the plain base as the only teacher, on the general stream."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import torch
from torch import Tensor

from clbench.provenance import hash_value
from clbench.types import seed_from
from reference_trainer.dice import Dice
from reference_trainer.distill import SheetRows, add_roles, is_finished, prepare, require_room, run_distillation
from reference_trainer.examples import Picture, general_examples, pixels
from reference_trainer.loop import Progress
from reference_trainer.networks import Backbone
from reference_trainer.settings import settings
from reference_trainer.streams import Router, Stream
from reference_trainer.student_config import AcceleratorConfig, StudentConfig
from reference_trainer.targets import TargetStore
from reference_trainer.workshop import Workshop

VERSION = 1
General = list[tuple[Picture, str]]


def train_accelerator(shop: Workshop, config: AcceleratorConfig, seed: int, out: Path, resume: bool) -> Iterator[Progress]:
    """Train ``out/accelerator.safetensors``; nothing is done when it is complete already."""
    adapter = out / "accelerator.safetensors"
    examples = general_examples(shop.world, config.general_sources, config.pictures)
    guidance = guidance_of(shop, config)
    key = hash_value([VERSION, "accelerator", shop.sampling_digest, settings(config), guidance, seed, describe(examples)])
    if resume and is_finished(adapter, key):
        yield Progress("accelerator", config.updates, config.updates, {})
        return
    backbone = shop.backbone(config.lora_forward, config.precision, config.rows, config.checkpoint_blocks)
    require_room(backbone, config, "accelerator")
    store = target_store(shop, config, backbone, out)
    stream = yield from general_stream(shop, config, examples, store)
    add_roles(backbone, config, seed, "accelerator")
    router = Router(None, stream, 0.0, "sample", seed)
    dice = Dice.seeded(seed_from("accelerator", seed, "dice"), shop.device)
    training = prepare(backbone, config, router, shop.prompts.unconditional(), guidance, dice)
    facts = {"stage": "accelerator", "guidance": guidance}
    rows = sheet_rows(stream, [text for _, text in examples], config.habits.sheet_rows)
    yield from run_distillation(shop, training, rows, "accelerator", adapter, key, facts, resume)


def guidance_of(shop: Workshop, config: StudentConfig) -> float:
    """The weight of the teacher's guidance in the score: the recipe's, else the world's."""
    return shop.world.backbone.guidance if config.guidance is None else config.guidance


def target_store(shop: Workshop, config: StudentConfig, backbone: Backbone, out: Path) -> TargetStore:
    """The stored full-step outputs below `out`, at the recipe's `target_guidance`, else the world's; making them begins here."""
    shop.begin()
    sigmas = shop.full_sigmas(config.target_steps)
    guidance = shop.world.backbone.guidance if config.target_guidance is None else config.target_guidance
    return TargetStore(out / "targets", backbone, sigmas, guidance, shop.prompts.unconditional())


def describe(examples: General) -> list[list[str]]:
    """Sources and instructions by content."""
    return [[pixel, text] for pixel, (_, text) in zip(pixels([p for p, _ in examples]), examples, strict=True)]


def general_stream(
    shop: Workshop, config: StudentConfig, examples: General, store: TargetStore
) -> Generator[Progress, None, Stream | None]:
    """The general stream, with the base's stored outputs where the recipe wants them; None when it is empty.

    Its kinds are the distinct wordings among `examples`, and kinds are drawn evenly: a wording of one example comes as often
    as one of eight (256 examples of the tiny world have 166 wordings). So the shares declared in `clbench.general` decide
    which examples there are, not how often each is drawn. The shipped adapters were trained like that.
    """
    if not examples:
        return None
    source = shop.space.encode([picture for picture, _ in examples])
    texts = list(dict.fromkeys(text for _, text in examples))
    prompts = shop.prompts.many(texts)
    kind = torch.tensor([texts.index(text) for _, text in examples], device=source.device)
    target = None
    if config.general_targets:
        what = ["base", shop.digest, describe(examples)]
        counts = store.get(what, None, source, prompts.take(kind), seed_from("targets", "general"))
        target = yield from counted("base outputs", counts, 0, len(source))
    return Stream(source, target, kind, [None] * len(texts), ["general"] * len(texts), prompts, prompts)


def counted(what: str, counts: Generator[int, None, Tensor], done: int, total: int) -> Generator[Progress, None, Tensor]:
    """The same generator with its counts turned into Progress."""
    while True:
        try:
            done += next(counts)
        except StopIteration as stop:
            return stop.value
        yield Progress(what, done, total, {})


def sheet_rows(stream: Stream | None, labels: list[str], count: int) -> SheetRows:
    """The first examples of a stream; a stream without stored outputs shows its source again."""
    assert stream is not None
    kind = stream.kind[:count]
    reference = stream.source if stream.target is None else stream.target
    return SheetRows(labels[:count], stream.source[:count], reference[:count], stream.student_prompts.take(kind))
