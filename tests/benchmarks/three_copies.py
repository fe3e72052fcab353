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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from peft import LoraConfig

from clbench.adapters import describe_adapter, load_tensors, lora_config
from clbench.backbones import backbone_folder
from clbench.memory.meter import Meter
from clbench.world import World, load_world
from reference_trainer.config import CollectionConfig, StudentConfig, load_recipe
from reference_trainer.dice import Dice
from reference_trainer.distill import add_roles, prepare
from reference_trainer.learner import learning_rate
from reference_trainer.networks import FAKE_SCORE, STUDENT, Backbone, Inputs, LoraForward
from reference_trainer.objective import Objective
from reference_trainer.precision import Precision, training_precision
from reference_trainer.prompting import Prompts
from reference_trainer.rollout import Trajectory, simulate
from reference_trainer.streams import Batch, Router, Stream

TEACHER = "teacher"
LAYOUTS = ("one backbone", "three copies")
SEED = 0


@dataclass(frozen=True)
class Lora:
    """An adapter as it is put into a transformer: its configuration, and its factors keyed as in a file."""

    config: LoraConfig
    factors: Mapping[str, Tensor]


class ThreeCopies:
    """Three transformers with one adapter each, one sample per forward pass; answers like a `Backbone`.

    `transformer` (without adapters) is copied twice. `teachers` are held in memory; the one that a row asks for is
    copied into the third transformer, None switches the adapter there off.
    """

    def __init__(
        self, transformer: FluxTransformer2DModel, image_ids: Tensor, text_length: int, student: Lora, fake: Lora,
        teachers: Mapping[str, Lora], precision: Precision = "float32",
    ) -> None:  # fmt: skip
        plain = transformer.requires_grad_(False).eval()
        slots = {STUDENT: student, FAKE_SCORE: fake, TEACHER: next(iter(teachers.values()))}
        self.copies = {role: copy.deepcopy(plain) if role != TEACHER else plain for role in slots}
        self.image_ids, self.text_ids, self.precision = image_ids, torch.zeros(text_length, 3), precision
        self.teachers, self._in_place, self._switched_on = teachers, "", True
        self.parameters: dict[str, dict[str, nn.Parameter]] = {}
        for role, lora in slots.items():
            self.copies[role].add_adapter(lora.config, role)
            self.parameters[role] = _adapter_parameters(self.copies[role], role)
            self._copy(role, lora.factors)
            _train(self.parameters[role], role != TEACHER)

    @torch.no_grad()
    def _copy(self, role: str, factors: Mapping[str, Tensor]) -> None:
        mine = self.parameters[role]
        assert mine.keys() == factors.keys(), f"the teachers' adapters differ in their modules ({role})"
        for key, parameter in mine.items():
            parameter.copy_(factors[key])

    def predict(self, inputs: Inputs, adapters: str | Sequence[str | None] | None) -> Tensor:
        """Velocities ``(B, T, C)``, row by row."""
        names = [adapters] * len(inputs) if adapters is None or isinstance(adapters, str) else adapters
        rows = [self._one(inputs.take(torch.tensor([i])), name) for i, name in enumerate(names)]
        return torch.cat(rows) if rows else inputs.noisy

    def _one(self, inputs: Inputs, name: str | None) -> Tensor:
        transformer = self.copies[name] if name in (STUDENT, FAKE_SCORE) else self._teacher(name)
        with training_precision(self.precision):
            out = transformer(
                hidden_states=torch.cat([inputs.noisy, inputs.source], dim=1), timestep=inputs.time,
                pooled_projections=inputs.prompts.pooled, encoder_hidden_states=inputs.prompts.tokens,
                txt_ids=self.text_ids, img_ids=self.image_ids, return_dict=False,
            )[0]  # fmt: skip
        return out[:, : inputs.noisy.shape[1]].to(inputs.noisy.dtype)

    def _teacher(self, name: str | None) -> FluxTransformer2DModel:
        transformer = self.copies[TEACHER]
        if (name is not None) != self._switched_on:
            self._switched_on = name is not None
            (transformer.enable_adapters if self._switched_on else transformer.disable_adapters)()
            _train(self.parameters[TEACHER], False)  # peft makes an adapter trainable when it switches it on
        if name is not None and name != self._in_place:
            self._copy(TEACHER, self.teachers[name].factors)
            self._in_place = name
        return transformer


def _adapter_parameters(transformer: FluxTransformer2DModel, name: str) -> dict[str, nn.Parameter]:
    """The adapter's parameters by their key in a file."""
    tail, named = f".{name}.weight", transformer.named_parameters()
    return {key.removesuffix(tail) + ".weight": p for key, p in named if key.endswith(tail) and ".lora_" in key}


def _train(parameters: Mapping[str, nn.Parameter], yes: bool) -> None:
    for parameter in parameters.values():
        parameter.requires_grad_(yes)


class Accumulated:
    """One adapter's optimizer, fed row by row: the mean gradient of a batch, then one step."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], lr: float, config: StudentConfig) -> None:
        self.parameters, self.lr, self.config = list(parameters.values()), lr, config
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=(0.9, 0.999), weight_decay=config.weight_decay, foreach=True
        )

    def step(self, losses: Iterator[Tensor], count: int, update: int) -> float:
        """One update on the mean of `count` losses; returns that mean."""
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            (loss / count).backward()
            total += float(loss.detach()) / count
        torch.nn.utils.clip_grad_norm_([p for p in self.parameters if p.grad is not None], self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.lr, update, self.config.warmup, None)
        self.optimizer.step()
        return total


class ThreeCopiesTraining:
    """The round of `Distillation.update` in the other layout: every number drawn is the same, row by row."""

    def __init__(
        self, copies: ThreeCopies, config: StudentConfig, router: Router, unconditional: Prompts, guidance: float, dice: Dice
    ) -> None:  # fmt: skip
        assert config.rollout == "shared" and not config.warm_start, "the benchmark compares rounds with one rollout"
        self.copies, self.config, self.router, self.dice = copies, config, router, dice
        self.objective = Objective(copies, config, unconditional, guidance, dice)  # type: ignore[arg-type]
        self.student = Accumulated(copies.parameters[STUDENT], config.lr, config)
        self.fake = Accumulated(copies.parameters[FAKE_SCORE], config.fake_lr, config)

    def update(self, update: int) -> dict[str, float]:
        """K fake-score updates on one rollout, then one student update."""
        batch = self.router.draw(self.dice, update, self.config.batch)
        rows = [row(batch, i) for i in range(len(batch))]
        sigmas = self.objective.sigmas
        paths = [simulate(self.copies, sigmas, one.source, one.student_prompts, dice) for one, dice in self._shares(rows)]  # type: ignore[arg-type]
        logs: dict[str, float] = {}
        for _ in range(self.config.fake_updates):
            logs["loss/fake_score"] = self.fake.step(self._fake_losses(rows, paths), len(rows), update)
        logs["loss/student"] = self.student.step(self._student_losses(rows, paths), len(rows), update)
        return logs

    def _fake_losses(self, rows: Sequence[Batch], paths: Sequence[Trajectory]) -> Iterator[Tensor]:
        for path, (one, dice) in zip(paths, self._shares(rows), strict=True):
            step, only = path.exits(dice)
            yield self.objective.fake_loss(one, path.predictions[step, only])[0]

    def _student_losses(self, rows: Sequence[Batch], paths: Sequence[Trajectory]) -> Iterator[Tensor]:
        for path, (one, _) in zip(paths, self._shares(rows), strict=True):
            yield self.objective.student_loss(one, path)[0]

    def _shares(self, rows: Sequence[Batch]) -> Iterator[tuple[Batch, Dice]]:
        """Each row with dice that show what this row of the whole batch would see; the objective uses them too."""
        state = self.dice.state()
        for index, one in enumerate(rows):
            share = Dice(torch.Generator(), index, len(rows), self.dice.device)
            share.restore(state)
            self.objective.dice = share
            yield one, share
        self.dice.restore(self.objective.dice.state())
        self.objective.dice = self.dice


def row(batch: Batch, index: int) -> Batch:
    """One row of a batch, as a batch."""
    one = slice(index, index + 1)
    return Batch(
        batch.source[one], batch.target[one], batch.has_target[one], batch.teachers[one], batch.names[one],
        batch.teacher_prompts.take(torch.tensor([index])), batch.student_prompts.take(torch.tensor([index])),
    )  # fmt: skip


# ---- one measurement, in a process of its own -------------------------------------------------------------------
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
