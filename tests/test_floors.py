"""The rules of the house, read from the source: floors, heavy libraries, circles."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOOR_0 = {"clbench", "clbench.types", "clbench.registry"}
FLOOR_1 = ("clbench.stats", "clbench.metrics")
PURE = {"pathlib", "json", "PIL", "diffusers", "typer", "rich"}
HEAVY = {
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "peft",
    "open_clip",
    "lpips",
    "torchmetrics",
    "matplotlib",
    "pandas",
    "pyarrow",
}
ROOMS = {
    "diffusers": ("clbench.backbones",),
    "peft": ("clbench.merging",),
    "transformers": ("clbench.backbones",),
    "open_clip": ("clbench.encoders", "clbench.selftest"),
    "lpips": ("clbench.encoders", "clbench.selftest"),
    "stlpips_pytorch": ("clbench.encoders",),
    "PIL": (
        "clbench.images", "clbench.photos", "clbench.backbones.qwen", "clbench.preview", "clbench.effects", "clbench.report",
    ),
    "typer": ("clbench.cli", "clbench.console"),
    "rich": ("clbench.console", "clbench.notices"),
    "matplotlib": ("clbench.report",),
    "torch": (
        "clbench.backbones", "clbench.adapter_writing", "clbench.metrics", "clbench.encoders", "clbench.truth",
        "clbench.score", "clbench.calibration", "clbench.doctor", "clbench.merging", "clbench.memory.pool",
        "clbench.memory.probe", "clbench.memory.meter", "clbench.selftest", "clbench.export",
    ),
}  # fmt: skip
CLI = ("cli", "cli.adapters", "cli.judging", "cli.looking", "cli.machine", "cli.options", "cli.runs")
JOBS = ("jobs", "adapter_jobs", "order", "judging", "training", "listing", "doctor", "doctor_files")
TOP = {f"clbench.{name}" for name in (*CLI, *JOBS, "__main__", "console")}
QUICK = (
    *(f"clbench.{name}" for name in CLI), "clbench.console", "clbench.jobs", "clbench.adapter_jobs",
    "clbench.order", "clbench.judging",
    "clbench.training", "clbench.listing", "clbench.lock", "clbench.world", "clbench.suite", "clbench.suite_file",
    "clbench.suite_systems", "clbench.replacing", "clbench.memory.fit",
    "clbench.sources", "clbench.results", "clbench.systems", "clbench.backbones", "clbench.edit",
    "clbench.adapters", "clbench.adapter_metadata", "clbench.adapter_writing", "clbench.attaching",
    "clbench.factors", "clbench.dialects", "clbench.tensor_file", "clbench.hashing", "clbench.tables",
    "clbench.world_file", "clbench.world_checks", "clbench.world_adapters", "clbench.types",
    "clbench.registry", "clbench.notices", "clbench.left_out", "clbench.runnable", "clbench.doctor", "clbench.doctor_files",
    "clbench.source_check",
    "clbench.backbones.hub", "clbench.backbones.parts",
    "clbench.merging", "clbench.merging_peft", "clbench.systems.merged", "clbench.systems.baselines",
    "clbench.cost.answer", "clbench.cost.table", "clbench.cost.curves",
    "clbench.cost.bases", "clbench.cost.worlds", "clbench.cost.deployment", "clbench.cost.traffic",
    "clbench.memory.measure", "clbench.memory.record", "clbench.memory.pool", "clbench.memory.probe", "clbench.report.ledger",
    "clbench.compare", "clbench.compare.gate", "clbench.compare.sides",
    "clbench.compare.table", "clbench.compare.words", "clbench.metrics.derived", "clbench.selftest",
    "clbench.selftest.statistics",
)  # fmt: skip
"""Modules that a quick command passes through: nothing heavy at module level."""


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted((ROOT / "clbench").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.AST, at_module_level: bool = False) -> set[str]:
    """Dotted names imported in `tree` (or only when the module is imported), TYPE_CHECKING aside."""
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if at_module_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending.extend(ast.iter_child_nodes(node))
    return names


def own(names: set[str]) -> set[str]:
    """The clbench modules behind imported names (``clbench.types.Case`` -> ``clbench.types``)."""
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "clbench":
            continue
        while ".".join(parts) not in modules():
            parts.pop()
        found.add(".".join(parts))
    return found


def floor(name: str) -> int:
    if name in FLOOR_0:
        return 0
    if name.startswith(FLOOR_1):
        return 1
    return 3 if name in TOP else 2


@pytest.mark.parametrize("name", [n for n in modules() if floor(n) <= 1])
def test_floors_0_and_1_are_pure(name):
    used = {imported_name.split(".")[0] for imported_name in imported(modules()[name])}
    assert not used & PURE
    calls = {
        node.func.id
        for node in ast.walk(modules()[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"print", "open", "input"}


@pytest.mark.parametrize("name", modules())
def test_no_import_goes_up(name):
    for other in own(imported(modules()[name])):
        assert floor(other) <= floor(name), (
            f"{name} (floor {floor(name)}) imports {other} (floor {floor(other)})"
        )


def test_no_circles():
    graph = {name: own(imported(tree, at_module_level=True)) - {name} for name, tree in modules().items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", modules())
def test_the_instrument_knows_nothing_of_training(name):
    used = {n for n in imported(modules()[name]) if n.startswith("reference_trainer")}
    if name == "clbench.training":  # `clbench train`, imported when it is asked for
        assert not {
            n for n in imported(modules()[name], at_module_level=True) if n.startswith("reference_trainer")
        }
    else:
        assert not used


@pytest.mark.parametrize("path", sorted((ROOT / "reference_trainer").rglob("*.py")), ids=lambda path: path.stem)
def test_training_stands_on_the_lower_floors(path):
    used = own(imported(ast.parse(path.read_text(encoding="utf-8"))))
    assert not {name for name in used if floor(name) > 2}


@pytest.mark.parametrize("name", modules())
def test_libraries_stay_in_their_rooms(name):
    used = {n.split(".")[0] for n in imported(modules()[name])}
    for library, rooms in ROOMS.items():
        if library in used:
            assert name.startswith(rooms) if rooms else False, f"{name} imports {library}"


@pytest.mark.parametrize("name", QUICK)
def test_quick_modules_load_nothing_heavy(name):
    assert not {n.split(".")[0] for n in imported(modules()[name], at_module_level=True)} & HEAVY


def test_no_cellar():
    for name, tree in modules().items():
        assert not name.endswith(("utils", "helpers", "misc", "common_utils"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{name}: a bare except"
