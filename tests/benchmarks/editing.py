"""`clbench edit` against the plain loop that a user would write, on the same cases, in one run; and what bounds it.

    python tests/benchmarks/editing.py [--effects 4] [--sources 8] [--rounds 3] [--systems teacher,cascade,collection]
                                       [--fast-products] [--processor-time] [--compile] [--profile]

The plain loop is the stock FluxKontextPipeline: `load_lora_weights` for each effect, then one picture at a time.
Both ways take turns, so that a slow minute of the machine hits both; the ratio is of the medians. The share of the
peak is the transformer's floating-point operations (counted by torch) per second of its forward pass, over what
square float32 matrix products of this machine reach in the same run. `--processor-time` counts the time of this process
instead of the clock's: with OMP_NUM_THREADS=1 it is fair on a machine that does other work as well. `--profile` sees the main
thread alone: with OMP_NUM_THREADS=1 that is all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from clbench.systems import Bench, open_system
from clbench.types import Case
from clbench.world import World, load_world

SYSTEMS = ("teacher", "cascade", "collection")
CLOCK: list[Callable[[], float]] = [time.perf_counter]
"""What measures time in this run."""
SIDE = 1024
"""Side of the square matrices whose product is the machine's peak."""


def plain_pipeline(world: World) -> Any:
    from diffusers import FluxKontextPipeline

    pipe = FluxKontextPipeline.from_pretrained(world.root / str(world.backbone.path), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain_loop(pipe: Any, world: World, system: str, cases: Sequence[Case]) -> list[np.ndarray]:
    """What the documentation of diffusers would have a user write."""
    from PIL import Image

    table, pictures, loaded, own = world.backbone, [], "", pipe.scheduler
    if system != "teacher":
        changes = {"stochastic_sampling": True, "shift": table.shift, "use_dynamic_shifting": False, "shift_terminal": None}
        pipe.scheduler = own.from_config(dict(own.config) | changes)
    for case in cases:
        effect = world.effect(case.effect)
        wanted = "collection" if system == "collection" else case.effect
        if wanted != loaded:
            pipe.unload_lora_weights()
            load(pipe, world, system, case.effect)
            loaded = wanted
        few = system != "teacher"
        torch.manual_seed(case.noise_seed())  # the stock scheduler re-noises from the global state only
        made = pipe(
            image=Image.fromarray(world.source_image(case.source, world.resolution)),
            prompt=effect.student_prompt if system == "collection" else effect.instruction,
            negative_prompt=None if few else table.negative_prompt,
            true_cfg_scale=1.0 if few else table.guidance,
            num_inference_steps=table.few_steps if few else table.full_steps,
            height=world.resolution, width=world.resolution, max_area=world.resolution**2, _auto_resize=False,
            max_sequence_length=table.max_sequence_length,
            generator=None, output_type="np",
        ).images[0]  # fmt: skip
        pictures.append(made)
    pipe.unload_lora_weights()
    pipe.scheduler = own
    return pictures


def load(pipe: Any, world: World, system: str, effect: str) -> None:
    if system == "collection":
        pipe.load_lora_weights(str(world.candidate(None).path))
        return
    pipe.load_lora_weights(str(world.teacher_path(effect)), adapter_name="effect")
    if system == "cascade":
        pipe.load_lora_weights(str(world.accelerator().path), adapter_name="accelerator")
        pipe.set_adapters(["effect", "accelerator"], [world.teacher_weight, world.accelerator().weight])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = CLOCK[0]()
    made = work()
    return CLOCK[0]() - began, made


def compare(world: World, system: str, cases: Sequence[Case], rounds: int, pipe: Any, bench: Bench) -> None:
    """Print seconds per edit of both ways, their ratio, and how far their pictures lie apart."""
    ours, plain, apart = [], [], 0.0
    subject = open_system(system, bench)
    list(subject.edit(cases[:1]))  # both ways warm up
    plain_loop(pipe, world, system, cases[:1])
    for _ in range(rounds):
        seconds, edits = timed(lambda: list(subject.edit(cases)))
        slow, loop = timed(lambda: plain_loop(pipe, world, system, cases))
        ours.append(seconds / len(cases))
        plain.append(slow / len(cases))
        by_case = {edit.case: edit.picture / 255.0 for edit in edits}
        apart = max(float(np.abs(by_case[case] - picture).mean()) for case, picture in zip(cases, loop, strict=True))
    fast, slow = statistics.median(ours), statistics.median(plain)
    ratios = [p / o for p, o in zip(plain, ours, strict=True)]
    print(
        f"{system:<11} clbench {1000 * fast:7.1f} ms an edit, plain loop {1000 * slow:7.1f} ms: "
        f"{slow / fast:.2f} x ({min(ratios):.2f} to {max(ratios):.2f}); pictures differ by {apart:.4f} of the range at most",
        flush=True,
    )


def peak(rounds: int = 12) -> float:
    """Floating-point operations per second of square float32 products: the best of `rounds`."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    best = min(timed(lambda: a @ b)[0] for _ in range(rounds))
    return 2 * SIDE**3 / best


def forward_share(world: World, bench: Bench, rounds: int, compiled: bool) -> None:
    """The transformer alone at the batch of `clbench edit`: adapters folded and apart, or folded and compiled."""
    from torch.utils.flop_counter import FlopCounterMode

    backbone: Any = bench.backbone
    transformer, batch = backbone.pipe.transformer, world.backbone.batch
    inputs = transformer_inputs(transformer, world, batch)
    backbone.use_adapters([])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:  # one row: the counter sees its own thread only
        transformer(**transformer_inputs(transformer, world, 1))
    work = batch * counter.get_total_flops()

    def forward() -> None:
        with torch.inference_mode():
            transformer(**inputs)

    def show(name: str, way: Callable[[], None]) -> None:
        way()
        seconds, top = statistics.median(timed(way)[0] for _ in range(4 * rounds)), peak()
        print(
            f"transformer, batch {batch}, {name}: {1000 * seconds:.1f} ms, {work / 1e9:.2f} GFLOP of the base, "
            f"{work / seconds / 1e9:.1f} GFLOP/s "
            f"= {100 * work / seconds / top:.0f} % of {top / 1e9:.1f} GFLOP/s (float32 product of {SIDE} x {SIDE})",
            flush=True,
        )

    choose_adapters(backbone, world, fold=True)
    show(f"{world.backbone.precision}, collection folded", forward)
    if compiled:
        transformer.compile_repeated_blocks(dynamic=False)
        print(f"compile_repeated_blocks: the first pass takes {timed(forward)[0]:.1f} s", flush=True)
        show("compiled, collection folded", forward)
    else:
        choose_adapters(backbone, world, fold=False)
        show("collection kept apart", forward)


def choose_adapters(backbone: Any, world: World, fold: bool) -> None:
    """The collection adapter in the weights, or beside them in peft's layers."""
    candidate = world.candidate(None)
    backbone.table = world.backbone.model_copy(update={"fold": fold})
    backbone.use_adapters([(candidate.path, candidate.weight)])


def transformer_inputs(transformer: Any, world: World, batch: int) -> dict[str, Any]:
    """What one step feeds: noisy and source tokens, prompt, time."""
    config, side = transformer.config, world.resolution // 8
    generator = torch.Generator().manual_seed(0)
    tokens = 2 * side * side
    return {
        "hidden_states": torch.randn(batch, tokens, config.in_channels, generator=generator),
        "timestep": torch.full((batch,), 0.5),
        "pooled_projections": torch.randn(batch, config.pooled_projection_dim, generator=generator),
        "encoder_hidden_states": torch.randn(
            batch, world.backbone.max_sequence_length, config.joint_attention_dim, generator=generator
        ),
        "txt_ids": torch.zeros(world.backbone.max_sequence_length, 3),
        "img_ids": torch.rand(tokens, 3, generator=generator),
        "return_dict": False,
    }


def profile(bench: Bench, cases: Sequence[Case]) -> None:
    """Where the time of an edit goes, by operator."""
    subject = open_system("collection", bench)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as watch:
        list(subject.edit(cases))
    print(watch.key_averages().table(sort_by="self_cpu_time_total", row_limit=18, max_name_column_width=48))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--effects", type=int, default=4)
    parser.add_argument("--sources", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    for flag in ("--fast-products", "--processor-time", "--compile", "--profile"):
        parser.add_argument(flag, action="store_true")
    asked = parser.parse_args()
    world = load_world(asked.world)
    world.backbone = world.backbone.model_copy(update={"fast_products": asked.fast_products})
    if asked.processor_time:
        CLOCK[0] = time.process_time
    effects = [name for name in world.effects if world.teacher_path(name)][: asked.effects]
    cases = [Case(effect, source, 0) for effect in effects for source in [s.id for s in world.sources][: asked.sources]]
    bench, pipe = Bench(world, effects), plain_pipeline(world)
    print(f"{len(cases)} cases: {len(effects)} effects x {asked.sources} sources; {torch.get_num_threads()} threads")
    for system in asked.systems.split(","):
        compare(world, system, cases, asked.rounds, pipe, bench)
    if asked.profile:
        profile(bench, cases)
    forward_share(world, bench, asked.rounds, asked.compile)


if __name__ == "__main__":
    main()
