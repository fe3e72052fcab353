"""How far two trainings of one recipe are from each other: their LoRA files' factors, and what these add to the weights.

    python tests/benchmarks/same_weights.py ONE.safetensors OTHER.safetensors

Relative differences are norms over all modules together: 0 for equal files, about 1.4 for factors of two seeds, whose ranks
have no common order. A training of the same seed on another day differs by rounding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from clbench.adapters import describe_adapter, load_tensors  # noqa: E402


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The norm of the difference over the norm of `one`, all tensors together."""
    lengths = [sum(float(part.double().square().sum()) for part in parts) for parts in (
        [one[name].float() - other[name].float() for name in one], [tensor.float() for tensor in one.values()],
    )]  # fmt: skip
    return (lengths[0] / lengths[1]) ** 0.5


def products(factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What each module's two factors add to its weight, but for the scale."""
    modules = [name.removesuffix(".lora_A.weight") for name in factors if name.endswith(".lora_A.weight")]
    return {name: factors[f"{name}.lora_B.weight"].float() @ factors[f"{name}.lora_A.weight"].float() for name in modules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    asked = parser.parse_args()
    one, other = (load_tensors(describe_adapter(path)) for path in (asked.one, asked.other))
    if {name: tensor.shape for name, tensor in one.items()} != {name: tensor.shape for name, tensor in other.items()}:
        sys.exit(f"{asked.one} and {asked.other} have other modules or shapes")
    count = sum(tensor.numel() for tensor in one.values())
    equal = sum(int(torch.eq(one[name], other[name]).sum()) for name in one)
    print(f"{count:,} values of {len(one)} factors, {100 * equal / count:.1f} % of them equal")
    print(f"factors apart: {100 * apart(one, other):.3f} %")
    print(f"what they add to the weights: {100 * apart(products(one), products(other)):.3f} %")


if __name__ == "__main__":
    main()
