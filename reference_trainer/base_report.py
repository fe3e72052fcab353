"""How good is a base? Autoencoder PSNR, and edit quality per kind and number of steps, on held-out scenes.

    python -m reference_trainer.base_report --world tiny --out runs/base-report

writes ``base.md``, ``base.json`` and the sheets ``base-<steps>.png`` to look at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clbench.backbones import Backbone, Job, Sampler, backbone_folder, open_backbone
from clbench.backbones.vae import open_vae
from clbench.encoders import open_perceptual
from clbench.general import KINDS, draw_edit
from clbench.images import reduce_to
from clbench.metrics.similarity import perceptual_distance
from clbench.scenes import load_pool, scene_of
from clbench.types import seed_from
from clbench.world import World, load_world
from reference_trainer.sheets import write_sheet

STEPS = (28, 8, 4, 2, 1)


@dataclass(slots=True)
class Question:
    """One general edit of one held-out scene; pictures are uint8 (R, R, 3)."""

    kind: str
    instruction: str
    source: np.ndarray
    target: np.ndarray
    seed: int


def questions(sources: Path, split: str, per_kind: int, size: int) -> list[Question]:
    """`per_kind` edits of every kind, each of a scene of its own."""
    pool, found = load_pool(sources, split), []
    for k, kind in enumerate(KINDS):
        for i in range(per_kind):
            scene = scene_of(pool, split, 10_000 + k * per_kind + i)
            edit = draw_edit(scene, pool, np.random.default_rng(seed_from("base report", kind, i)), kind)
            pictures = (reduce_to(scene.image, size), reduce_to(edit.target, size))
            found.append(Question(kind, edit.instruction, *pictures, seed_from("base report noise", kind, i)))
    return found


def answers(backbone: Backbone, asked: Sequence[Question], steps: int, guidance: float, batch: int = 16) -> list[np.ndarray]:
    """The base's pictures; a picture that is not finite stops the report."""
    made: list[np.ndarray] = []
    for first in range(0, len(asked), batch):
        jobs = [Job(q.source, q.instruction, q.seed) for q in asked[first : first + batch]]
        for picture in backbone.sample(jobs, Sampler(steps, guidance)):
            if picture is None:
                raise ArithmeticError(f"a picture of the base at {steps} steps is not finite")
            made.append(picture)
    return made


def batch_of(pictures: Sequence[np.ndarray]) -> Tensor:
    """uint8 pictures -> float (N, 3, R, R) in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """PSNR per picture in dB (peak 1), (N,)."""
    return -10 * (made - wanted).square().mean(dim=(1, 2, 3)).clamp(min=1e-10).log10()


@dataclass(frozen=True)
class Asked:
    """What the report asks: scenes per kind of which split, at which numbers of steps, with how much guidance."""

    per_kind: int
    steps: Sequence[int]
    split: str
    guidance: float


def measure(world: World, what: Asked, out: Path, say: Callable[[str], None]) -> dict:
    """Ask every kind at every number of steps; writes the sheets and returns the numbers."""
    per_kind = what.per_kind
    backbone, network = open_backbone(world), open_perceptual("st-lpips")
    sources = world.path(world.table.sources.folder)
    asked = questions(sources, what.split, per_kind, world.resolution)
    wanted = batch_of([q.target for q in asked])
    source = [q.source for q in asked]
    out.mkdir(parents=True, exist_ok=True)
    restored = [picture for picture in open_vae(backbone_folder(world), world.backbone)(source) if picture is not None]
    quality = float(psnr(batch_of(restored), batch_of(source)).mean())
    found: dict = {"vae_psnr": quality, "per_kind": per_kind, "split": what.split, "guidance": what.guidance, "kinds": {}}
    untouched = perceptual_distance(network, batch_of(source), wanted)
    for n in what.steps:
        made = answers(backbone, asked, n, what.guidance)
        quality, distance = psnr(batch_of(made), wanted), perceptual_distance(network, batch_of(made), wanted)
        for kind in KINDS:
            rows = [i for i, q in enumerate(asked) if q.kind == kind]
            entry = found["kinds"].setdefault(kind, {"random": KINDS.get(kind).random, "steps": {}})
            entry["untouched"] = float(untouched[rows].mean())
            entry["steps"][n] = {"psnr": float(quality[rows].mean()), "perceptual": float(distance[rows].mean())}
        shown = [i for i in range(len(asked)) if i % per_kind < 2]
        columns = [(name, np.stack([pictures[i] for i in shown])) for name, pictures in
                   (("source", source), ("target", [q.target for q in asked]), (f"{n} steps", made))]  # fmt: skip
        write_sheet(out / f"base-{n}", 0, columns, [f"{asked[i].kind}: {asked[i].instruction}" for i in shown])
        say(f"{n} steps done")
    return found


def as_markdown(found: dict, command: str) -> str:
    """The table for people."""
    steps = list(next(iter(found["kinds"].values()))["steps"])
    lines = [
        f"Made by `{command}`: {found['per_kind']} scenes per kind, subjects and photos of the {found['split']} split.",
        "",
        f"Autoencoder: {found['vae_psnr']:.1f} dB PSNR on these scenes.",
        "",
        f"Edits, with guidance {found['guidance']:g}: PSNR in dB / ST-LPIPS to the target (lower is better).",
        "Kinds marked * have many right answers, of which the target is one, so their figures say little. The last",
        "column is the untouched source's ST-LPIPS.",
        "",
        "| kind | " + " | ".join(f"{n} steps" for n in steps) + " | untouched |",
        "| --- |" + " ---: |" * (len(steps) + 1),
    ]
    for kind, entry in found["kinds"].items():
        cells = [f"{entry['steps'][n]['psnr']:.1f} / {entry['steps'][n]['perceptual']:.3f}" for n in steps]
        lines.append(f"| {kind}{'*' if entry['random'] else ''} | " + " | ".join(cells) + f" | {entry['untouched']:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--out", type=Path, default=Path("runs/base-report"))
    parser.add_argument("--per-kind", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--split", default="evaluation", help="to choose a setting, take another split: distill")
    parser.add_argument("--guidance", type=float, default=None, help="default: the world's")
    options = parser.parse_args()
    world = load_world(options.world)
    guidance = world.backbone.guidance if options.guidance is None else options.guidance
    found = measure(world, Asked(options.per_kind, options.steps, options.split, guidance), options.out, print)
    (options.out / "base.json").write_text(json.dumps(found, indent=2) + "\n")
    command = f"python -m reference_trainer.base_report --world {options.world} --per-kind {options.per_kind}"
    command += f" --split {options.split} --guidance {guidance:g} --steps {' '.join(map(str, options.steps))}"
    (options.out / "base.md").write_text(as_markdown(found, command))
    print(options.out / "base.md")


if __name__ == "__main__":
    main()
