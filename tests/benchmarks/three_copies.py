"""One backbone for all roles against three copies of the transformer: student steps a second and memory, in one run.

    python tests/benchmarks/three_copies.py [--world tiny] [--recipe tiny] [--batch 8] [--updates 2] [--rounds 2]
        [--one SETTING ...] [--rank R] [--width W] [--weights bfloat16] [--profile]

The second layout is the one that the method's public code is described with: student, fake score and teacher are three
whole transformers with one adapter each; a teacher is put in place by copying its LoRA weights; every forward pass
holds one sample, and gradients are accumulated to the same effective batch. It is written anew here, around the
trainer's own objective and the same draws, so that both layouts compute the same losses
(``tests/reference_trainer/test_three_copies.py``) and only the layout differs. Pictures and prompts are noise of the
world's shapes, since numbers do not change the time; transformer, teachers and settings are the world's and the
recipe's.

Each layout runs in processes of its own, in turns. Both clocks are shown: on a machine that does other work as well,
with one thread (OMP_NUM_THREADS=1), processor time is the one to compare. Memory is shown three times: what the process
holds at most above its level before the transformer was loaded; what tensors take at most, counted one by one in an
update of its own (`tensor_memory.py`), which knows nothing of libraries and allocators; and the weights with
gradients and optimizer state alone, below which no way of passing a batch can come.

`--one` measures the one backbone with other settings, joined by +: `merged` or `low-rank` (of which merged weights keep
one set per adapter), `rows=N` (most rows of a pass), `checkpoint` (blocks computed again). `whole` is the recipe's.
`--width` takes random weights in a transformer of that width (`wide_model.py`) instead of the world's, where a backbone weighs
more against its adapters; `--rank` those of student and fake score; `--weights` the dtype of what is frozen, in both layouts;
in bfloat16 the one backbone is low-rank in every setting.
`--profile` shows where the processor time of one update goes instead, by operation.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.tensor_memory import LiveTensors
from benchmarks.three_copies_layout import SEED, Lora, ThreeCopies, ThreeCopiesTraining
from benchmarks.wide_model import write_wide
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from peft import LoraConfig

from clbench.adapters import describe_adapter, load_tensors
from clbench.attaching import lora_config
from clbench.backbones import backbone_folder
from clbench.memory.meter import Meter
from clbench.world import World, load_world
from reference_trainer.collection_config import CollectionConfig
from reference_trainer.dice import Dice
from reference_trainer.distill import Distillation, add_roles, prepare
from reference_trainer.networks import Backbone
from reference_trainer.predicting import FAKE_SCORE, STUDENT
from reference_trainer.prompting import Prompts
from reference_trainer.recipe import load_recipe
from reference_trainer.streams import Router, Stream

ONE, THREE = "whole", "three copies"


@dataclass(frozen=True)
class Measured:
    """What one process found: clock and processor seconds per update, and bytes; `tensors` at the peak of an update."""

    seconds: list[float]
    busy: list[float]
    peak: int
    tensors: int
    trained: int
    frozen: int


@dataclass(frozen=True)
class Setting:
    """World, settings and shapes that both layouts share."""

    world: World
    config: CollectionConfig
    teachers: dict[str, Path]
    folder: Path
    dtype: torch.dtype

    def transformer(self) -> FluxTransformer2DModel:
        return FluxTransformer2DModel.from_pretrained(self.folder, local_files_only=True, dtype=self.dtype)

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


def passes(words: str) -> dict[str, object]:
    """The recipe's options that a setting such as ``low-rank+rows=4`` names; ValueError for any other word."""
    options: dict[str, object] = {}
    for word in words.split("+"):
        if word in ("merged", "low-rank"):
            options["lora_forward"] = word
        elif word == "checkpoint":
            options["checkpoint_blocks"] = True
        elif word.startswith("rows="):
            options["rows"] = int(word.removeprefix("rows="))
        elif word not in (ONE, THREE):
            raise ValueError(f"unknown setting '{word}', expected merged, low-rank, checkpoint, rows=N or {ONE}")
    return options


def setting(asked: argparse.Namespace, layout: str) -> Setting:
    """What the options ask for, in the folder of a wide model where there is one."""
    world = load_world(asked.world)
    if asked.made:
        paths, folder = sorted((asked.made / "teachers").iterdir()), asked.made / "transformer"
    else:
        found = [path for name in world.effects if (path := world.teacher_path(name)) is not None]
        paths, folder = found[: asked.effects], backbone_folder(world) / "transformer"
    changes: dict[str, object] = {"batch": asked.batch, "warm_start": 0, "ema": 0.0, "rollout": "shared"}
    config = load_recipe(asked.recipe).collection
    if asked.weights == "bfloat16":
        changes["lora_forward"] = "low-rank"  # training refuses merged weights there
    if asked.rank:
        changes["lora"] = config.lora.model_copy(update={"rank": asked.rank})
    config = config.model_copy(update=changes | passes(layout))
    teachers = {f"teacher_{i:04d}": path for i, path in enumerate(paths)}
    return Setting(world, config, teachers, folder, getattr(torch, asked.weights))


def one_backbone(asked: Setting, transformer: FluxTransformer2DModel) -> Backbone:
    """The trainer's layout with student and fake score as fresh adapters."""
    config = asked.config
    length = asked.world.backbone.max_sequence_length
    backbone = Backbone(
        transformer, asked.ids(), length, config.lora_forward, precision=config.precision, rows=config.rows,
        checkpoint_blocks=config.checkpoint_blocks,
    )  # fmt: skip
    for name, path in asked.teachers.items():
        backbone.add_frozen(name, path)
    add_roles(backbone, config, SEED, "collection")
    return backbone


def three_copies(asked: Setting, transformer: FluxTransformer2DModel) -> ThreeCopies:
    teachers = {}
    for name, path in asked.teachers.items():
        info = describe_adapter(path)
        factors = {key: factor.to(asked.dtype) for key, factor in load_tensors(info).items()}
        teachers[name] = Lora(LoraConfig(**lora_config(info)), factors)
    roles = Backbone(copy.deepcopy(transformer), asked.ids(), asked.world.backbone.max_sequence_length)
    add_roles(roles, asked.config, SEED, "collection")  # the same first weights as in the other layout
    student, fake = (Lora(copy.deepcopy(roles.config(role)), roles.state(role)) for role in (STUDENT, FAKE_SCORE))
    del roles
    length = asked.world.backbone.max_sequence_length
    return ThreeCopies(transformer, asked.ids(), length, student, fake, teachers, asked.config.precision)


def profiled(layout: str, asked: Setting, updates: int) -> None:
    """Show the operations of an update that take the most processor time themselves, with their calls."""
    training = built(layout, asked, asked.transformer())[0]
    training.update(0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for update in range(1, 1 + updates):
            training.update(update)
    averages = sorted(profile.key_averages(), key=lambda each: -each.self_cpu_time_total)
    total = sum(each.self_cpu_time_total for each in averages)
    print(f"{layout}: {total / 1e6 / updates:.2f} s in {sum(each.count for each in averages) // updates} calls an update")
    for each in averages[:12]:
        print(f"  {each.self_cpu_time_total / total:6.1%} {each.count // updates:>7} x {each.key}")


def built(
    layout: str, asked: Setting, transformer: FluxTransformer2DModel
) -> tuple[Distillation | ThreeCopiesTraining, list[FluxTransformer2DModel], int]:
    """The training of a layout, the transformers that it holds, and the bytes of teachers that lie aside."""
    guidance = asked.world.backbone.guidance if asked.config.guidance is None else asked.config.guidance
    router, unconditional = asked.router(transformer.config)
    rest = (asked.config, router, unconditional, guidance, Dice.seeded(SEED))
    if layout != THREE:
        return prepare(one_backbone(asked, transformer), *rest), [transformer], 0
    copies = three_copies(asked, transformer)
    aside = _bytes(factor for lora in copies.teachers.values() for factor in lora.factors.values())
    return ThreeCopiesTraining(copies, *rest), list(copies.copies.values()), aside


def measure(layout: str, asked: Setting, updates: int) -> Measured:
    """One update to warm up, `updates` under the clocks, one with every tensor counted."""
    meter = Meter("cpu")
    before, transformer = meter.held(), asked.transformer()
    training, models, aside = built(layout, asked, transformer)
    training.update(0)
    meter.start()
    seconds, busy = [], []
    for update in range(1, 1 + updates):
        began, worked = time.perf_counter(), time.process_time()
        training.update(update)
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    parameters = [p for model in models for p in model.parameters()]
    trained = 4 * _bytes(p for p in parameters if p.requires_grad)  # weight, gradient, two moments
    frozen = aside + _bytes(p for p in parameters if not p.requires_grad)
    peak = meter.peak() - before
    if isinstance(training, Distillation):
        training.backbone.paths.merged.clear()  # they are made, and counted, again
    for parameter in parameters:
        parameter.grad = None
    with LiveTensors() as live:
        training.update(1 + updates)
    return Measured(seconds, busy, peak, live.peak + frozen + trained // 4 * 3, trained, frozen)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measured_apart(layout: str, arguments: Sequence[str]) -> Measured:
    """`measure` in a new process."""
    command = [sys.executable, __file__, *arguments, "--layout", layout]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(**json.loads(done.stdout.strip().splitlines()[-1]))


def tell(found: Mapping[str, Sequence[Measured]]) -> None:
    """A line per layout, with its ratios to three copies."""
    middle = {layout: middles(runs) for layout, runs in found.items()}
    theirs = middle[THREE]
    for layout, m in middle.items():
        print(
            f"{layout:<28} student steps/s {1 / m['clock']:.3f} by the clock, {1 / m['processor']:.3f} by processor time; "
            f"MiB: peak {m['peak'] / 2**20:.1f}, tensors {m['tensors'] / 2**20:.1f}, weights {m['weights'] / 2**20:.1f}"
        )
        print(
            f"{'':<28} against three copies: {theirs['clock'] / m['clock']:.2f} x as fast by the clock, "
            f"{theirs['processor'] / m['processor']:.2f} x by processor time; memory "
            + ", ".join(f"{name} {m[name] / theirs[name]:.2f} x" for name in ("peak", "tensors", "weights"))
        )


def middles(runs: Sequence[Measured]) -> dict[str, float]:
    """Medians of seconds per update and of bytes."""
    return {
        "clock": statistics.median(s for run in runs for s in run.seconds),
        "processor": statistics.median(s for run in runs for s in run.busy),
        "peak": statistics.median(run.peak for run in runs),
        "tensors": statistics.median(run.tensors for run in runs),
        "weights": runs[0].frozen + runs[0].trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--batch", type=int, default=8, help="effective batch of both layouts")
    parser.add_argument("--effects", type=int, default=4, help="teachers")
    parser.add_argument("--updates", type=int, default=2, help="measured student updates of each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each layout, in turns")
    parser.add_argument("--one", nargs="*", default=[ONE], metavar="SETTING",
                        help="of the one backbone: whole, or merged, low-rank, rows=N, checkpoint joined by +")  # fmt: skip
    parser.add_argument("--rank", type=int, help="of student and fake score; else the recipe's")
    parser.add_argument("--width", type=int, help="of a transformer of random weights; else the world's own is taken")
    parser.add_argument("--weights", choices=["float32", "bfloat16"], default="float32", help="dtype of all that is frozen")
    parser.add_argument("--profile", action="store_true", help="show where time goes, by operation")
    parser.add_argument("--layout", help=argparse.SUPPRESS)
    parser.add_argument("--made", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.layout:
        print(json.dumps(asdict(measure(asked.layout, setting(asked, asked.layout), asked.updates))))
        return
    print(f"effective batch {asked.batch}, {asked.effects} teachers, {torch.get_num_threads()} threads")
    for words in asked.one:
        passes(words)
    with tempfile.TemporaryDirectory() as scratch:
        if asked.width:
            asked.made, narrow = Path(scratch), backbone_folder(load_world(asked.world)) / "transformer"
            write_wide(asked.made, narrow, asked.width, getattr(torch, asked.weights), asked.effects)
        compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """Measure, or profile, every layout that is asked for, and tell."""
    layouts = (*asked.one, THREE)
    if asked.profile:
        for layout in layouts:
            profiled(layout, setting(asked, layout), asked.updates)
        return
    runs: dict[str, list[Measured]] = {layout: [] for layout in layouts}
    made = ["--made", str(asked.made)] if asked.made else []
    for _ in range(asked.rounds):  # in turns, so that a slow minute of the machine hits all
        for layout in runs:
            runs[layout].append(measured_apart(layout, [*sys.argv[1:], *made]))
    tell(runs)


if __name__ == "__main__":
    main()
