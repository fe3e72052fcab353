"""`clbench train --stage encoders`: a small CLIP on scenes and effects, saved as an open_clip folder.

open_clip opens the result by ``open_clip.create_model_and_transforms("local-dir:<folder>")``. It is trained on the
splits that the recipe names, never on evaluation pictures; captions name subject, background and effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

from clbench.effects import apply_operator
from clbench.general import instruction_corpus
from clbench.hashing import tree_digest
from clbench.images import reduce_to
from clbench.registry import ClbenchError
from clbench.scenes import Pool, load_pool, scene_of
from clbench.tensor_file import put_tensors
from clbench.types import Effect, seed_from
from reference_trainer.checkpoint import DiceState, finish, finished, forget
from reference_trainer.config import HabitsTable
from reference_trainer.dice import Dice
from reference_trainer.loop import Job, Progress, train
from reference_trainer.optim import PretrainLearner, trapezoid
from reference_trainer.pretrain import Report, recipe_key
from reference_trainer.pretrain_config import EncodersConfig
from reference_trainer.text import unigram_tokenizer

# Embeddings, positions and the two projections into the common space are no hidden maps: AdamW trains them. "proj." means
# those two and also matches every block's attn.out_proj and mlp.c_proj, so that Muon has in_proj_weight and c_fc alone. The
# shipped encoder was trained like that, and so are others until one is trained and measured that does otherwise.
ADAM_ONLY = ("embedding", "conv1", "proj.", ".proj", "text_projection", "logit_scale")
MEAN, STD = list(open_clip.OPENAI_DATASET_MEAN), list(open_clip.OPENAI_DATASET_STD)
"""Of red, green and blue in [0, 1]: pictures are normalised by them."""


@dataclass(slots=True)
class Captioned:
    """`pictures` uint8 (N, 3, R, R); `scenes` the scene's caption and `effects` the effect's ("" for none), per picture."""

    pictures: Tensor
    scenes: list[str]
    effects: list[str]

    def captions(self, index: Tensor, form: Tensor) -> list[str]:
        """One caption per picture; `form` in [0, 1) chooses: both (.6), the effect alone (.2), the scene alone (.2)."""
        return [caption(self.scenes[i], self.effects[i], f) for i, f in zip(index.tolist(), form.tolist(), strict=True)]


def caption(scene: str, effect: str, form: float = 0.0) -> str:
    """``<scene>, <effect>``, or one of the two."""
    if not effect or form >= 0.8:
        return scene
    return effect if form >= 0.6 else f"{scene}, {effect}"


def render(pool: Pool, split: str, effects: Sequence[Effect], count: int, per_scene: int, size: int) -> Captioned:
    """`count` scenes of a split, each untouched and with `per_scene` drawn effects."""
    pictures, scenes, captions = [], [], []
    for index in range(count):
        scene = scene_of(pool, split, index)
        rng = np.random.default_rng(seed_from("captioned", split, index))
        pictures.append(reduce_to(scene.image, size))
        captions.append("")
        for chosen in rng.choice(len(effects), size=per_scene, replace=False):
            effect = effects[int(chosen)]
            assert effect.operator is not None
            seed = seed_from("captioned", effect.id, split, index)
            pictures.append(reduce_to(apply_operator(effect.operator, scene.image, scene.mask, seed), size))
            captions.append(effect.caption)
        scenes += [scene.caption] * (per_scene + 1)
    return Captioned(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(), scenes, captions)


def render_splits(
    config: EncodersConfig, effects: Sequence[Effect], sources: Path, resolution: int, report: Report
) -> Captioned:
    """The pictures of all training splits that the recipe names, as many scenes of each; `report` is told before each split."""
    share, parts = config.scenes // len(config.splits), []
    for split in config.splits:
        report(Progress(f"pictures of split {split}", len(parts), len(config.splits), {}))
        parts.append(render(load_pool(sources, split), split, effects, share, config.effects_per_scene, resolution))
    return Captioned(
        torch.cat([p.pictures for p in parts]), [s for p in parts for s in p.scenes], [e for p in parts for e in p.effects]
    )


def model_config(config: EncodersConfig, vocab: int, resolution: int) -> dict[str, Any]:
    """open_clip's model_cfg."""
    return {
        "embed_dim": config.embed_dim,
        "vision_cfg": {
            "image_size": resolution, "patch_size": config.patch, "width": config.image_width,
            "layers": config.image_layers, "head_width": 32, "pool_type": "avg",
        },
        "text_cfg": {
            "context_length": config.context, "vocab_size": vocab, "width": config.text_width, "heads": 4,
            "layers": config.text_layers, "pool_type": "eos", "eos_id": 1, "pad_id": 0, "hf_tokenizer_name": "tokenizer",
        },
    }  # fmt: skip


def write_config(folder: Path, config: EncodersConfig, corpus: Sequence[str], resolution: int) -> dict[str, Any]:
    """An open_clip folder that lacks its weights alone: a tokenizer of the words of `corpus`, and the config; the model_cfg."""
    tokenizer = unigram_tokenizer(corpus, config.vocab, config.context)
    table = model_config(config, len(tokenizer), resolution)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
    text = json.dumps({"model_cfg": table, "preprocess_cfg": preprocess}, indent=2)
    (folder / "open_clip_config.json").write_text(text + "\n")
    return table


def build_clip(table: Mapping[str, Any]) -> CLIP:
    """An untrained open_clip CLIP from its model_cfg."""
    return CLIP(
        embed_dim=table["embed_dim"], vision_cfg=CLIPVisionCfg(**table["vision_cfg"]), text_cfg=CLIPTextCfg(**table["text_cfg"])
    )


def blur_and_noise(batch: Tensor, generator: torch.Generator) -> Tensor:
    """What generated pictures look like beside true ones: shift up to 2 px, slight blur and noise; (N, 3, H, W) in [0, 1]."""
    count, _, height, width = batch.shape
    dy, dx = torch.randint(-2, 3, (2,), generator=generator).tolist()
    batch = F.pad(batch, (2, 2, 2, 2), mode="replicate")[:, :, 2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]
    amount = torch.rand(count, 1, 1, 1, generator=generator)
    batch = torch.lerp(batch, F.avg_pool2d(F.pad(batch, (1, 1, 1, 1), mode="replicate"), 3, 1), amount)
    noise = torch.randn(batch.shape, generator=generator) * 0.03 * torch.rand(count, 1, 1, 1, generator=generator)
    return (batch + noise).clamp(0, 1)


def contrastive_loss(images: Tensor, texts: Tensor, captions: Sequence[str], scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of unit embeddings (N, D); pictures with the same caption are each other's positives."""
    logits = scale * images @ texts.T
    numbers = {text: i for i, text in enumerate(dict.fromkeys(captions))}
    label = torch.tensor([numbers[text] for text in captions])
    wanted = (label[:, None] == label[None, :]).float()
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def require_fit(config: EncodersConfig, effects: int, resolution: int) -> None:
    """ClbenchError unless the recipe fits the world's number of effects with a known operator, and its resolution."""
    if config.effects_per_scene > effects:
        raise ClbenchError(
            f"[encoders] effects_per_scene is {config.effects_per_scene}, but the world has {effects} with a known operator"
        )
    if resolution % config.patch:
        raise ClbenchError(f"[encoders] patch {config.patch} does not divide the world's resolution {resolution}")


def train_clip(
    config: EncodersConfig, effects: Sequence[Effect], sources: Path, resolution: int, out: Path, resume: bool, report: Report
) -> Path:
    """Train into ``out/encoders/clip`` (an open_clip folder); a finished one is only named.

    ClbenchError where the recipe asks for more effects per scene than there are, or for patches that do not fill the picture.
    """
    require_fit(config, len(effects), resolution)
    folder = out / "encoders" / "clip"
    key = recipe_key("clip", config, resolution, [(e.id, e.caption) for e in effects], tree_digest(sources))
    weights, mark = folder / "open_clip_model.safetensors", out / "encoders" / "clip.complete.json"
    if resume and finished(mark, key, weights):
        return folder
    if not resume:
        forget(out / "encoders" / "training", mark)
    corpus = [line for e in effects for line in (e.caption, e.name)] + instruction_corpus(load_pool(sources))
    table = write_config(folder, config, corpus, resolution)
    tokenize = open_clip.get_tokenizer(f"local-dir:{folder}")
    torch.manual_seed(config.seed)
    clip = build_clip(table).train()
    learner = PretrainLearner({"clip": clip}, config.lr, config.muon_lr, adam_only=ADAM_ONLY)
    dice = Dice.seeded(config.seed)
    data = render_splits(config, effects, sources, resolution, report)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]

    def step(update: int) -> dict[str, float]:
        index = dice.integers(config.batch, len(data.scenes))
        captions = data.captions(index, dice.uniform(config.batch))
        batch = blur_and_noise(data.pictures[index].float() / 255, dice.generator)
        images = clip.encode_image((batch - mean) / std, normalize=True)
        texts = clip.encode_text(tokenize(captions), normalize=True)
        loss = contrastive_loss(images, texts, captions, clip.logit_scale.exp().clamp(max=100))
        norm = learner.step(loss, trapezoid(update, config.updates, config.warmup, config.decay_share))
        return {"loss": float(loss.detach()), "norm": norm, "scale": float(clip.logit_scale.detach().exp())}

    habits = HabitsTable(checkpoint_every=config.checkpoint_every, sheet_every=config.updates)
    job = Job(step, lambda update: None, {"learner": learner, "dice": DiceState(dice)}, config.updates)
    for update, logs in train(job, out / "encoders" / "training", key, habits, resume):
        report(Progress("clip", update + 1, config.updates, logs))
    put_tensors("the weights", weights, {name: value.contiguous() for name, value in clip.state_dict().items()})
    finish(mark, key, weights, {"pictures": len(data.scenes)})
    return folder
