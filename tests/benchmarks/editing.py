"""`clbench edit` against the plain loop that a user would write, on the same cases, in one run; and what bounds it.

    python tests/benchmarks/editing.py [--world tiny] [--effects 4] [--sources 8] [--rounds 3] [--profile]

The plain loop is the stock FluxKontextPipeline: `load_lora_weights` for each effect, then one picture at a time.
Both ways take turns, so that a slow minute of the machine hits both; the ratio is of the medians. The share of the
peak is the transformer's floating-point operations (counted by torch) per second of its forward pass, over what
square float32 matrix products of this machine reach in the same run.
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
        made = pipe(
            image=Image.fromarray(world.source_image(case.source, world.resolution)),
            prompt=effect.student_prompt if system == "collection" else effect.instruction,
            negative_prompt=None if few else table.negative_prompt,
            true_cfg_scale=1.0 if few else table.guidance,
            num_inference_steps=table.few_steps if few else table.full_steps,
            height=world.resolution, width=world.resolution, max_area=world.resolution**2, _auto_resize=False,
            max_sequence_length=table.max_sequence_length,
            generator=torch.Generator().manual_seed(case.noise_seed()), output_type="np",
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
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def compare(world: World, system: str, cases: Sequence[Case], rounds: int, pipe: Any, bench: Bench) -> None:
    """Print seconds per edit of both ways, their ratio, and how far their pictures lie apart."""
    ours, plain, apart = [], [], 0.0
    subject = open_system(system, bench)
    for turn in range(rounds + 1):  # the first turn warms up
        seconds, edits = timed(lambda: list(subject.edit(cases)))
        slow, loop = timed(lambda: plain_loop(pipe, world, system, cases))
        if turn:
            ours.append(seconds / len(cases))
            plain.append(slow / len(cases))
        by_case = {edit.case: edit.picture / 255.0 for edit in edits}
        apart = max(float(np.abs(by_case[case] - picture).mean()) for case, picture in zip(cases, loop, strict=True))
    fast, slow = statistics.median(ours), statistics.median(plain)
    ratios = [p / o for p, o in zip(plain, ours, strict=True)]
    print(
        f"{system:<11} clbench {1000 * fast:7.1f} ms an edit, plain loop {1000 * slow:7.1f} ms: "
        f"{slow / fast:.2f} x ({min(ratios):.2f} to {max(ratios):.2f}); pictures differ by {apart:.4f} of the range at most"
    )


def peak(rounds: int = 12) -> float:
    """Floating-point operations per second of square float32 products: the best of `rounds`."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    best = min(timed(lambda: a @ b)[0] for _ in range(rounds))
    return 2 * SIDE**3 / best


def forward_share(world: World, bench: Bench, rounds: int) -> None:
    """The transformer alone at the batch of `clbench edit`: float32, bfloat16 products, compiled blocks."""
    from torch.utils.flop_counter import FlopCounterMode

    transformer, batch = bench.backbone.pipe.transformer, world.backbone.batch  # type: ignore[attr-defined]
    inputs = transformer_inputs(transformer, world, batch)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        transformer(**inputs)
    work = counter.get_total_flops()

    def forward() -> None:
        with torch.inference_mode():
            transformer(**inputs)

    def half() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            forward()

    for name, way in (("float32", forward), ("bfloat16 autocast", half)):
        way()
        seconds = statistics.median(timed(way)[0] for _ in range(4 * rounds))
        top = peak()
        print(
            f"transformer, batch {batch}, {name}: {1000 * seconds:.1f} ms, {work / 1e9:.2f} GFLOP, "
            f"{work / seconds / 1e9:.1f} GFLOP/s "
            f"= {100 * work / seconds / top:.0f} % of {top / 1e9:.1f} GFLOP/s (float32 product of {SIDE} x {SIDE})"
        )
    plain = statistics.median(timed(forward)[0] for _ in range(4 * rounds))
    transformer.compile_repeated_blocks()
    first, _ = timed(forward)
    seconds = statistics.median(timed(forward)[0] for _ in range(4 * rounds))
    print(f"compile_repeated_blocks: {1000 * seconds:.1f} ms against {1000 * plain:.1f} ms, {first:.1f} s to compile")


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
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    world = load_world(asked.world)
    effects = [name for name in world.effects if world.teacher_path(name)][: asked.effects]
    cases = [Case(effect, source, 0) for effect in effects for source in [s.id for s in world.sources][: asked.sources]]
    print(f"{len(cases)} cases: {len(effects)} effects x {asked.sources} sources; {torch.get_num_threads()} threads")
    bench, pipe = Bench(world, effects), plain_pipeline(world)
    for system in SYSTEMS:
        compare(world, system, cases, asked.rounds, pipe, bench)
    if asked.profile:
        profile(bench, cases)
    bench.backbone.use_adapters([])
    forward_share(world, bench, asked.rounds)


if __name__ == "__main__":
    main()
