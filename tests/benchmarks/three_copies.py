"""One backbone for all roles against three copies of the transformer: student steps a second and memory, in one run.

    python tests/benchmarks/three_copies.py [--world tiny] [--recipe tiny] [--batch 8] [--updates 2] [--rounds 2]

The second layout is the one that the method's public code is described with: student, fake score and teacher are three
whole transformers with one adapter each; a teacher is put in place by copying its LoRA weights; every forward pass
holds one sample, and gradients are accumulated to the same effective batch. It is written anew here, around the
trainer's own objective and the same draws, so that both layouts compute the same losses
(``tests/reference_trainer/test_three_copies.py``) and only the layout differs. Pictures and prompts are noise of the
world's shapes, since numbers do not change the time; transformer, teachers and settings are the world's and the
recipe's.

Each layout runs in processes of its own, in turns. Both clocks are shown: on a machine that does other work as well,
with one thread (OMP_NUM_THREADS=1), processor time is the one to compare. Memory is what the process holds above its
level before the transformer was loaded; on a small model activations weigh more than weights, so the weights (with
gradients and optimizer state) are shown apart, and `--batch 1` takes the activations' advantage of batch 1 away.
`--lora-forward low-rank` measures the one backbone without merged weights, of which it keeps one set per adapter.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.three_copies_layout import SEED, Lora, ThreeCopies, ThreeCopiesTraining
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from peft import LoraConfig

from clbench.adapters import describe_adapter, load_tensors, lora_config
from clbench.backbones import backbone_folder
from clbench.memory.meter import Meter
from clbench.world import World, load_world
from reference_trainer.config import CollectionConfig, load_recipe
from reference_trainer.dice import Dice
from reference_trainer.distill import add_roles, prepare
from reference_trainer.networks import FAKE_SCORE, STUDENT, Backbone, LoraForward
from reference_trainer.prompting import Prompts
from reference_trainer.streams import Router, Stream

LAYOUTS = ("one backbone", "three copies")


@dataclass(frozen=True)
class Measured:
    """What one process found: clock and processor seconds per update, and bytes."""

    seconds: list[float]
    busy: list[float]
    peak: int
    trained: int
    frozen: int


@dataclass(frozen=True)
class Setting:
    """World, settings and shapes that both layouts share."""

    world: World
    config: CollectionConfig
    teachers: dict[str, Path]

    def transformer(self) -> FluxTransformer2DModel:
        folder = backbone_folder(self.world) / "transformer"
        return FluxTransformer2DModel.from_pretrained(folder, local_files_only=True).to(torch.float32)

    @property
    def side(self) -> int:
        """Packed latents along one edge of the picture."""
        vae = json.loads((backbone_folder(self.world) / "vae" / "config.json").read_text(encoding="utf-8"))
        return self.world.resolution // (2 ** (len(vae["block_out_channels"]) - 1) * 2)

    def ids(self) -> Tensor:
        noisy = FluxKontextPipeline._prepare_latent_image_ids(1, self.side, self.side, torch.device("cpu"), torch.float32)
        source = noisy.clone()
        source[:, 0] = 1
        return torch.cat([noisy, source])

    def router(self, sizes: Mapping[str, int]) -> tuple[Router, Prompts]:
        """Both streams and the unconditional prompt, all of noise."""
        g = torch.Generator().manual_seed(SEED)
        length = self.world.backbone.max_sequence_length

        def prompts(count: int) -> Prompts:
            tokens = torch.randn(count, length, sizes["joint_attention_dim"], generator=g)
            return Prompts(tokens, torch.randn(count, sizes["pooled_projection_dim"], generator=g))

        def latents(count: int) -> Tensor:
            return torch.randn(count, self.side**2, sizes["in_channels"], generator=g)

        names, count = list(self.teachers), len(self.teachers)
        effects = Stream(latents(count), latents(count), torch.arange(count), list(names), names, prompts(count), prompts(count))
        general = Stream(latents(8), None, torch.zeros(8, dtype=torch.int64), [None], ["general"], prompts(1), prompts(1))
        return Router(effects, general, self.config.p_switch, self.config.routing, SEED), prompts(1)


def setting(world_name: str, recipe: str, batch: int, effects: int, lora_forward: LoraForward | None) -> Setting:
    world = load_world(world_name)
    found = {name: path for name in world.effects if (path := world.teacher_path(name)) is not None}
    paths = dict(list(found.items())[:effects])
    changes: dict[str, object] = {"batch": batch, "warm_start": 0, "ema": 0.0, "rollout": "shared"}
    if lora_forward is not None:
        changes["lora_forward"] = lora_forward
    config = load_recipe(recipe).collection.model_copy(update=changes)
    return Setting(world, config, {f"teacher_{i:04d}": path for i, path in enumerate(paths.values())})


def one_backbone(asked: Setting, transformer: FluxTransformer2DModel) -> Backbone:
    """The trainer's layout with student and fake score as fresh adapters."""
    config = asked.config
    length = asked.world.backbone.max_sequence_length
    backbone = Backbone(transformer, asked.ids(), length, config.lora_forward, precision=config.precision)
    for name, path in asked.teachers.items():
        backbone.add_frozen(name, path)
    add_roles(backbone, config, SEED, "collection")
    return backbone


def three_copies(asked: Setting, transformer: FluxTransformer2DModel) -> ThreeCopies:
    teachers = {}
    for name, path in asked.teachers.items():
        info = describe_adapter(path)
        teachers[name] = Lora(LoraConfig(**lora_config(info)), {k: v.float() for k, v in load_tensors(info).items()})
    roles = Backbone(copy.deepcopy(transformer), asked.ids(), asked.world.backbone.max_sequence_length)
    add_roles(roles, asked.config, SEED, "collection")  # the same first weights as in the other layout
    student, fake = (Lora(copy.deepcopy(roles.config(role)), roles.state(role)) for role in (STUDENT, FAKE_SCORE))
    del roles
    length = asked.world.backbone.max_sequence_length
    return ThreeCopies(transformer, asked.ids(), length, student, fake, teachers, asked.config.precision)


def measure(layout: str, asked: Setting, updates: int) -> Measured:
    """Two updates to warm up, then `updates` under the clocks."""
    meter = Meter("cpu")
    before, transformer = meter.held(), asked.transformer()
    guidance = asked.world.backbone.guidance if asked.config.guidance is None else asked.config.guidance
    router, unconditional = asked.router(transformer.config)
    dice = Dice.seeded(SEED)
    if layout == LAYOUTS[0]:
        backbone = one_backbone(asked, transformer)
        models, aside = [transformer], 0
        training = prepare(backbone, asked.config, router, unconditional, guidance, dice)
    else:
        copies = three_copies(asked, transformer)
        models, aside = list(copies.copies.values()), sum(_bytes(lora.factors.values()) for lora in copies.teachers.values())
        training = ThreeCopiesTraining(copies, asked.config, router, unconditional, guidance, dice)
    for update in range(2):
        training.update(update)
    meter.start()
    seconds, busy = [], []
    for update in range(2, 2 + updates):
        began, worked = time.perf_counter(), time.process_time()
        training.update(update)
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    parameters = [p for model in models for p in model.parameters()]
    trained = 4 * _bytes(p for p in parameters if p.requires_grad)  # weight, gradient, two moments
    frozen = aside + _bytes(p for p in parameters if not p.requires_grad)
    return Measured(seconds, busy, meter.peak() - before, trained, frozen)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measured_apart(layout: str, arguments: Sequence[str]) -> Measured:
    """`measure` in a new process."""
    command = [sys.executable, __file__, *arguments, "--layout", layout]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout.strip().splitlines()[-1]))


def tell(found: Mapping[str, Sequence[Measured]]) -> None:
    """A line per layout and the ratios between them."""
    middle: dict[str, dict[str, float]] = {}
    for layout, runs in found.items():
        middle[layout] = {
            "clock": statistics.median(s for run in runs for s in run.seconds),
            "processor": statistics.median(s for run in runs for s in run.busy),
            "peak": statistics.median(run.peak for run in runs),
            "weights": runs[0].frozen + runs[0].trained,
        }
        m = middle[layout]
        print(
            f"{layout:<13} {1 / m['clock']:.3f} student steps/s by the clock, {1 / m['processor']:.3f} by processor time; "
            f"peak {m['peak'] / 2**20:.1f} MiB above the start, weights, gradients and moments {m['weights'] / 2**20:.1f} MiB"
        )
    ours, theirs = (middle[layout] for layout in LAYOUTS)
    print(
        f"one backbone is {theirs['clock'] / ours['clock']:.2f} x as fast by the clock, "
        f"{theirs['processor'] / ours['processor']:.2f} x by processor time; peak memory {ours['peak'] / theirs['peak']:.2f} x, "
        f"weights, gradients and moments {ours['weights'] / theirs['weights']:.2f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--batch", type=int, default=8, help="effective batch of both layouts")
    parser.add_argument("--effects", type=int, default=4, help="teachers")
    parser.add_argument("--updates", type=int, default=2, help="measured student updates of each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each layout, in turns")
    parser.add_argument("--lora-forward", choices=("merged", "low-rank"), help="of the one backbone; default: the recipe's")
    parser.add_argument("--layout", choices=LAYOUTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.layout:
        shared = setting(asked.world, asked.recipe, asked.batch, asked.effects, asked.lora_forward)
        found = measure(asked.layout, shared, asked.updates)
        print(json.dumps(asdict(found)))
        return
    print(f"effective batch {asked.batch}, {asked.effects} teachers, {torch.get_num_threads()} threads")
    runs: dict[str, list[Measured]] = {layout: [] for layout in LAYOUTS}
    for _ in range(asked.rounds):  # in turns, so that a slow minute of the machine hits both
        for layout in LAYOUTS:
            runs[layout].append(measured_apart(layout, sys.argv[1:]))
    tell(runs)


if __name__ == "__main__":
    main()
