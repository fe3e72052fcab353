"""`clbench train --stage base`: the autoencoder, then text encoders and transformer on general edits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxKontextPipeline

from clbench.backbones.common import hide_loading_bars
from clbench.general import KINDS, draw_edit, instruction_corpus
from clbench.hashing import tree_digest
from clbench.images import reduce_to
from clbench.scenes import Pool, load_pool, scene_of
from clbench.tensor_file import open_up
from clbench.types import Effect, seed_from
from reference_trainer.checkpoint import DiceState, finish, finished, forget
from reference_trainer.config import HabitsTable
from reference_trainer.dice import Dice
from reference_trainer.edit_examples import load_examples
from reference_trainer.edit_matching import EditMatching
from reference_trainer.latents import LatentSpace
from reference_trainer.loop import Job, Progress, telling, train
from reference_trainer.optim import PretrainLearner, trapezoid
from reference_trainer.pipeline import build_pipeline
from reference_trainer.pretrain_config import BaseConfig
from reference_trainer.sheets import write_sheet
from reference_trainer.vae import (
    batches,
    build_vae,
    decode,
    encode,
    psnr_per_picture,
    render_scenes,
    set_latent_scale,
    vae_losses,
)

Report = Callable[[Progress], None]
SHEET_STEPS, SHEET_GUIDANCE = 28, 2.0
VAE_MARK, BASE_MARK = "vae.complete.json", "backbone.complete.json"


def train_base(
    config: BaseConfig, sources: Path, effects: Sequence[Effect], out: Path, resume: bool, report: Report
) -> Path:
    """Train autoencoder, text encoders and transformer; returns the pipeline folder ``out/backbone``.

    Of the effects only their words are used, so that the tokenizers give each a token of its own. With `resume` false both
    trainings are begun anew together: stopped in the first, the second would else pass for finished, or be refused, without it.
    """
    if not resume:
        forget(out / "vae-training", out / VAE_MARK)
        forget(out / "edits-training", out / BASE_MARK)
    with telling(out / "vae-training"):  # also behind its end, until the next is begun
        vae = train_vae(config, sources, out, report)
        corpus = instruction_corpus(load_pool(sources)) + [line for e in effects for line in (e.instruction, e.caption)]
        with telling(out / "edits-training"):
            return train_edits(config, sources, corpus, vae, out, report)


def recipe_key(*parts: object) -> str:
    """sha256 of everything that decides a training's result."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def to_pictures(batch: torch.Tensor) -> np.ndarray:
    """Float (N, 3, H, W) in about [0, 1] -> uint8 (N, H, W, 3)."""
    return (batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def train_vae(config: BaseConfig, sources: Path, out: Path, report: Report) -> AutoencoderKL:
    """Train the autoencoder into ``out/vae``; a finished one is only loaded."""
    folder, key = out / "vae", recipe_key("vae", config.resolution, config.split, config.vae, tree_digest(sources))
    weights, mark = folder / "diffusion_pytorch_model.safetensors", out / VAE_MARK
    if finished(mark, key, weights):
        return AutoencoderKL.from_pretrained(folder)
    table = config.vae
    torch.manual_seed(table.seed)
    vae = build_vae(table, config.resolution)
    pictures = render_scenes(load_pool(sources, config.split), config.split, table.scenes, config.resolution)
    shown = pictures[:8]
    learner = PretrainLearner({"vae": vae}, table.lr, table.muon_lr, table.ema)
    dice = Dice.seeded(table.seed)
    supply = batches(pictures, table, dice.generator)

    def step(update: int) -> dict[str, float]:
        losses = vae_losses(vae, next(supply), dice.generator)
        share = trapezoid(update, table.updates, table.warmup, table.decay_share)
        norm = learner.step(losses.pixel + table.kl_weight * losses.kl, share)
        logs = {"pixel": float(losses.pixel.detach()), "kl": float(losses.kl.detach()), "norm": norm}
        if update % 100 == 99:
            logs["psnr_train"] = float(psnr_per_picture(vae, pictures[:64]).mean())
        return logs

    def sheet(update: int) -> None:
        with torch.no_grad():
            restored = decode(vae, encode(vae, shown / 127.5 - 1))
        columns = [("source", to_pictures(shown / 255)), ("restored", to_pictures(restored / 2 + 0.5))]
        write_sheet(out / "vae-training" / "sheets", update, columns, [""] * len(shown))

    habits = HabitsTable(checkpoint_every=250, sheet_every=500)
    job = Job(step, sheet, {"learner": learner, "dice": DiceState(dice)}, table.updates)
    for update, logs in train(job, out / "vae-training", key, habits):
        report(Progress("autoencoder", update + 1, table.updates, logs))
    learner.use_average()
    set_latent_scale(vae, pictures)
    vae.save_pretrained(folder)
    open_up(folder)
    finish(mark, key, weights, {"psnr_train": float(psnr_per_picture(vae, pictures[:256]).mean())})
    return vae


def train_edits(
    config: BaseConfig, sources: Path, corpus: Sequence[str], vae: AutoencoderKL, out: Path, report: Report
) -> Path:
    """Train text encoders and transformer by flow matching into ``out/backbone``; a finished one is only named."""
    made_of = [tree_digest(out / "vae"), tree_digest(sources)]
    folder, key = out / "backbone", recipe_key("base", config, list(corpus), *made_of)
    weights, mark = folder / "transformer" / "diffusion_pytorch_model.safetensors", out / BASE_MARK
    if finished(mark, key, weights):
        return folder
    table = config.edits
    pipe = build_pipeline(config, corpus, vae, table.seed)
    pipe.vae.requires_grad_(False)
    space = LatentSpace(pipe, config.resolution)
    examples = load_examples(
        load_pool(sources, config.split), config.split, space, table.scenes, table.edits_per_scene,
        out / "edit-examples" / recipe_key(config.split, config.resolution, table.edits_per_scene, *made_of)[:16],
        lambda done: report(Progress("latents of edits", done, table.scenes, {})),
    )  # fmt: skip
    modules = {"transformer": pipe.transformer, "t5": pipe.text_encoder_2, "clip": pipe.text_encoder}
    learner = PretrainLearner(modules, table.lr, table.muon_lr, table.ema, adam_only=ADAM_ONLY)
    dice, matching = Dice.seeded(table.seed), EditMatching(pipe, config, space, examples)

    def step(update: int) -> dict[str, float]:
        loss = matching.loss(dice)
        norm = learner.step(loss, trapezoid(update, table.updates, table.warmup, table.decay_share))
        return {"loss": float(loss.detach()), "norm": norm}

    shown = [shown_edit(load_pool(sources, config.split), config, kind) for kind in KINDS]

    def sheet(update: int) -> None:
        with learner.averaged():
            made = sample_edits(pipe, shown, config)
        columns = [("source", stacked(s.source for s in shown)), ("target", stacked(s.target for s in shown)), ("edit", made)]
        write_sheet(out / "edits-training" / "sheets", update, columns, [s.instruction for s in shown])

    habits = HabitsTable(checkpoint_every=table.checkpoint_every, sheet_every=table.sheet_every)
    job = Job(step, sheet, {"learner": learner, "dice": DiceState(dice)}, table.updates)
    for update, logs in train(job, out / "edits-training", key, habits):
        report(Progress("base", update + 1, table.updates, logs))
    learner.use_average()
    pipe.vae.register_to_config(_name_or_path="")  # where this machine kept it is nobody's business
    hide_loading_bars()  # transformers shows one for the files that it writes
    pipe.save_pretrained(folder)
    open_up(folder)
    finish(mark, key, weights, {"examples": len(examples)})
    return folder


@dataclass(frozen=True)
class ShownEdit:
    """One row of the base's sample sheet; pictures are uint8 (R, R, 3)."""

    instruction: str
    source: np.ndarray
    target: np.ndarray


def shown_edit(pool: Pool, config: BaseConfig, kind: str) -> ShownEdit:
    """An edit of `kind` on one of the scenes behind the first `edits.scenes`: the same at every update.

    Training has not seen it where `edits.scenes` is a multiple of `edit_examples.CHUNK`; else it is among the examples, which
    are made in whole chunks. Trainings with other `edits.scenes` show other scenes.
    """
    scene = scene_of(pool, config.split, config.edits.scenes + KINDS.names().index(kind))
    edit = draw_edit(scene, pool, np.random.default_rng(seed_from("base sheet", kind)), kind)
    return ShownEdit(edit.instruction, reduce_to(scene.image, config.resolution), reduce_to(edit.target, config.resolution))


def sample_edits(pipe: FluxKontextPipeline, shown: Sequence[ShownEdit], config: BaseConfig) -> np.ndarray:
    """The pipeline's answers at full steps, always from the same noise; uint8 (N, R, R, 3)."""
    side = config.resolution
    sources = torch.from_numpy(stacked(s.source for s in shown)).permute(0, 3, 1, 2).float() / 255
    answer: Any = pipe(
        image=sources, prompt=[s.instruction for s in shown], negative_prompt=[""] * len(shown), true_cfg_scale=SHEET_GUIDANCE,
        num_inference_steps=SHEET_STEPS, height=side, width=side, max_area=side * side, _auto_resize=False,
        max_sequence_length=config.text.max_length, output_type="np",
        generator=[torch.Generator().manual_seed(seed_from("base sheet", "noise", row)) for row in range(len(shown))],
    )  # fmt: skip
    return (answer.images * 255).round().astype(np.uint8)


def stacked(pictures: Iterable[np.ndarray]) -> np.ndarray:
    return np.stack(list(pictures))


# Embeddings, first and last layers, and modulation are no hidden linear maps: AdamW trains them.
ADAM_ONLY = (
    "embed", "norm", "relative_attention_bias", "shared", "transformer.proj_out.", "position", "x_embedder",
)  # fmt: skip
