"""Training step of the tiny transformer in float32 and in bfloat16, with torch's attention and with ours, in one run.

    python -m pytest tests/benchmarks/test_precision.py -s -p no:xdist
"""

from __future__ import annotations

import statistics
import time
from contextlib import AbstractContextManager, nullcontext

import torch

from reference_trainer.pipeline import build_transformer
from reference_trainer.precision import training_precision
from reference_trainer.recipe import load_recipe

BATCH, TOKENS, TEXT, ROUNDS = 24, 64, 24, 8


def test_precision():
    config = load_recipe("tiny").base
    transformer = build_transformer(config)
    ways: dict[str, AbstractContextManager] = {}
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16, torch's attention": [], "bfloat16, plain attention": []}
    for _ in range(ROUNDS + 1):  # the ways take turns, so that a slow minute of the machine hits them all
        ways = {
            "float32": nullcontext(),
            "bfloat16, torch's attention": torch.autocast("cpu", torch.bfloat16),
            "bfloat16, plain attention": training_precision("bfloat16"),
        }
        for name, way in ways.items():
            seconds[name].append(step(transformer, config, way))
    middle = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    for name, value in middle.items():
        print(f"{name:<30} {value:.3f} s for forward and backward of {BATCH} samples, {middle['float32'] / value:.2f} x float32")


def step(transformer, config, way: AbstractContextManager) -> float:
    """Seconds of one forward and backward pass."""
    channels = 4 * config.vae.latents
    inputs = {
        "hidden_states": torch.randn(BATCH, 2 * TOKENS, channels), "timestep": torch.rand(BATCH),
        "pooled_projections": torch.randn(BATCH, config.text.clip_width),
        "encoder_hidden_states": torch.randn(BATCH, TEXT, config.text.t5_width),
        "txt_ids": torch.zeros(TEXT, 3), "img_ids": torch.rand(2 * TOKENS, 3),
    }  # fmt: skip
    began = time.perf_counter()
    with way:
        out = transformer(**inputs, return_dict=False)[0]
    out.float().square().mean().backward()
    return time.perf_counter() - began
