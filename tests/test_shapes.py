"""Shapes in signatures: checked here, unchecked and free of cost outside of tests, and said everywhere."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from shape_check import ROOT, checked_modules

from clbench.metrics.quality import psnr
from clbench.metrics.sets import cmmd
from clbench.metrics.similarity import cosine
from clbench.metrics.subject import Reference
from clbench.stats.comparisons import correlation
from reference_trainer.losses import flow_matching
from reference_trainer.schedule import add_noise, student_sigmas

SHAPED = [
    *(f"clbench.metrics.{file.stem}" for file in sorted((ROOT / "clbench" / "metrics").glob("*.py"))),
    *(f"reference_trainer.{name}" for name in ("edit_matching", "lora_forward", "losses", "networks", "objective", "predicting")),
    *(f"reference_trainer.{name}" for name in ("rollout", "schedule", "streams")),
]
ARRAYS = [f"clbench.stats.{file.stem}" for file in sorted((ROOT / "clbench" / "stats").glob("*.py"))]
PLAIN = """
import sys, time
import torch
start = time.process_time()
import jaxtyping
spent = time.process_time() - start
from clbench.metrics.similarity import cosine
print(list(cosine(torch.ones(1, 2), torch.ones(3, 2)).shape), "beartype" in sys.modules, spent < 0.5)
"""


def source(module: str) -> ast.Module:
    return ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))


def bare(module: str, *kinds: str) -> list[int]:
    """Lines in which a type of `kinds` stands without a shape."""
    tree = source(module)
    shaped = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple)]
    told = {id(inner) for node in shaped if isinstance(node.slice.elts[-1], ast.Constant) for inner in ast.walk(node)}
    named = [node for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute)) and id(node) not in told]
    return [node.lineno for node in named if (node.id if isinstance(node, ast.Name) else node.attr) in kinds]


@pytest.mark.parametrize(
    ("ask", "given"),
    [
        (psnr, [(2, 3, 16, 16), (1, 3, 16, 16)]),
        (psnr, [(2, 4, 16, 16), (2, 4, 16, 16)]),
        (cosine, [(1, 2), (3, 2)]),
        (cmmd, [(5, 4), (5, 3)]),
        (flow_matching, [(2, 4, 3), (2, 4, 3), (2, 4, 1)]),
        (add_noise, [(2, 4, 3), (2, 4, 3), (1,)]),
        (Reference, [(4, 8, 8), (4, 8, 8), (8, 8)]),
    ],
)
def test_wrong_shapes_are_refused(ask, given):
    """Some of these would pass otherwise: torch stretches what has one row."""
    with pytest.raises(TypeCheckError):
        ask(*(torch.rand(shape, dtype=torch.float64) for shape in given))


def test_wrong_shapes_of_arrays_are_refused():
    """numpy would stretch the one table as well."""
    with pytest.raises(TypeCheckError):
        correlation(np.ones((1, 3)), np.ones((4, 3)))


def test_wrong_types_are_refused_and_whole_numbers_are_numbers():
    with pytest.raises(TypeCheckError, match="i64"):
        cosine(torch.ones(1, 2, dtype=torch.int64), torch.ones(1, 2))
    assert len(student_sigmas(4, 3)) == 4
    with pytest.raises(TypeCheckError):
        student_sigmas(4.0)


def test_without_the_hook_nothing_is_checked_and_nothing_is_paid():
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[3] False True"


@pytest.mark.parametrize("module", checked_modules())
def test_every_module_with_shapes_is_checked(module):
    """None was imported before the hook stood."""
    here = import_module(module)
    classes = [kind for _, kind in inspect.getmembers(here, inspect.isclass) if kind.__module__ == module]
    written = [f for place in (here, *classes) for f in vars(place).values() if inspect.isfunction(f) and f.__module__ == module]
    found = [function for function in written if not function.__name__.startswith("__")]  # a dataclass makes such of its own
    assert found and all(inspect.unwrap(function) is not function for function in found)


@pytest.mark.parametrize("module", [name for name in SHAPED if "Tensor" in ast.dump(source(name))])
def test_functions_say_the_shapes_of_their_tensors(module):
    assert module in checked_modules()
    assert not bare(module, "Tensor"), f"a tensor without a shape in line {bare(module, 'Tensor')[0]}"


@pytest.mark.parametrize("module", [name for name in ARRAYS if "ndarray" in ast.dump(source(name))])
def test_statistics_say_the_shapes_of_their_arrays(module):
    assert module in checked_modules()
    assert not bare(module, "ndarray", "NDArray")
