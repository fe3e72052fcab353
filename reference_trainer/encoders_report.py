"""How good is the metrics' CLIP? Retrieval of effect, subject and background on scenes that it was not trained on.

    python -m reference_trainer.encoders_report --world tiny --out runs/encoders-report

writes ``encoders.md`` and ``encoders.json``. Two kinds of held-out scene: new scenes of the subjects and photos that
it was trained on, and scenes of the evaluation split, whose subjects and photos it has never seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clbench.effects import apply_operator
from clbench.encoders import ClipEncoder, open_clip_encoder
from clbench.images import reduce_to
from clbench.scenes import Pool, Scene, load_pool, scene_of, with_article
from clbench.types import Effect, seed_from
from clbench.world import World, load_world
from reference_trainer.encoders import caption

SPLITS = ("base", "evaluation")
FIRST = 1_000_000
"""First scene of the report: far beyond those of any training."""


def recall(images: Tensor, texts: Tensor, right: Sequence[int]) -> float:
    """Share of pictures (N, D) whose nearest text (M, D) is number `right` (N); rows are unit vectors."""
    return float((images @ texts.T).argmax(1).eq(torch.tensor(right)).double().mean())


def tensor_of(pictures: Sequence[np.ndarray]) -> Tensor:
    """uint8 (R, R, 3) each -> float (N, 3, R, R) in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def effect_recall(clip: ClipEncoder, effects: Sequence[Effect], scenes: Sequence[Scene], size: int) -> float:
    """Which of all effects (or none) is it? The scene's own caption stays the same in every candidate text."""
    hits = []
    for number, scene in enumerate(scenes):
        made = [scene.image]
        for effect in effects:
            assert effect.operator is not None
            made.append(apply_operator(effect.operator, scene.image, scene.mask, seed_from("retrieval", effect.id, number)))
        texts = clip.embed_text([caption(scene.caption, words) for words in ("", *(e.caption for e in effects))])
        images = clip.embed_image(tensor_of([reduce_to(picture, size) for picture in made]))
        hits.append(recall(images, texts, range(len(made))))
    return float(np.mean(hits))


def scene_recall(clip: ClipEncoder, pool: Pool, scenes: Sequence[Scene], size: int) -> tuple[float, float]:
    """(subject, background): which of the split's subjects stands there, and where; the other half of the text is given."""
    images = clip.embed_image(tensor_of([reduce_to(scene.image, size) for scene in scenes]))
    subjects = {name: with_article(subject.name) for name, subject in pool.subjects.items()}
    places = list(dict.fromkeys(with_article(background.name) for background in pool.backgrounds.values()))
    found = []
    for image, scene in zip(images, scenes, strict=True):
        what = scene.spec.placements[0].subject
        where = with_article(pool.backgrounds[scene.spec.background].name)
        named = clip.embed_text([f"{words} in front of {where}" for words in subjects.values()])
        placed = clip.embed_text([f"{subjects[what]} in front of {place}" for place in places])
        subject = recall(image[None], named, [list(subjects).index(what)])
        found.append((subject, recall(image[None], placed, [places.index(where)])))
    subject, background = np.mean(found, axis=0)
    return float(subject), float(background)


def measure(world: World, count: int) -> dict[str, dict[str, float]]:
    """The numbers per split: recalls and the chance level of each."""
    clip = open_clip_encoder(world.encoders.clip, world.root)
    effects = [effect for effect in world.effects.values() if effect.operator is not None]
    found = {}
    for split in SPLITS:
        pool = load_pool(world.path(world.table.sources.folder), split)
        scenes = [scene_of(pool, split, FIRST + index) for index in range(count)]
        subject, background = scene_recall(clip, pool, scenes, world.resolution)
        found[split] = {
            "effect": effect_recall(clip, effects, scenes, world.resolution), "effect_chance": 1 / (len(effects) + 1),
            "subject": subject, "subject_chance": 1 / len(pool.subjects),
            "background": background, "background_chance": 1 / len({b.name for b in pool.backgrounds.values()}),
        }  # fmt: skip
    return found


def as_markdown(found: dict[str, dict[str, float]], count: int, command: str) -> str:
    """The table for people."""
    words = {"base": "new scenes, subjects and photos of training", "evaluation": "subjects and photos never seen"}
    lines = [
        f"Made by `{command}`: {count} scenes per row; share of pictures whose right text is the nearest (chance in brackets).",
        "",
        "| held-out scenes | effect | subject | background |",
        "| --- | ---: | ---: | ---: |",
    ]
    for split, row in found.items():
        cells = [f"{row[what]:.3f} ({row[what + '_chance']:.3f})" for what in ("effect", "subject", "background")]
        lines.append(f"| {words[split]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--out", type=Path, default=Path("runs/encoders-report"))
    parser.add_argument("--scenes", type=int, default=100)
    options = parser.parse_args()
    found = measure(load_world(options.world), options.scenes)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "encoders.json").write_text(json.dumps(found, indent=2) + "\n")
    command = f"python -m reference_trainer.encoders_report --world {options.world} --scenes {options.scenes}"
    (options.out / "encoders.md").write_text(as_markdown(found, options.scenes, command))
    print(options.out / "encoders.md")


if __name__ == "__main__":
    main()
