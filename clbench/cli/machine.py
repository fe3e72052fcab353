"""What a machine has and what deploying costs: doctor, cost."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from clbench.cli.options import WorldName
from clbench.console import print_table, show, told
from clbench.notices import say


@told
def doctor(world: WorldName = "tiny") -> None:
    """Say what this machine has, what the world needs and which systems it can run, and whether that works without a network.

    Example:  clbench doctor --world tiny
    """
    from clbench.doctor import examine

    findings = examine(world)
    print_table(f"clbench doctor, world {world}", ["what", "state", "detail"], [f.row() for f in findings])
    missing = [f.what for f in findings if f.state == "missing"]
    for finding in findings:
        if finding.state == "warning":
            say(f"{finding.what}: {finding.detail}", "yellow")
    if missing:
        say(f"Missing: {', '.join(missing)}.", "red")
        raise typer.Exit(1)


class Route(str, Enum):
    """What a router must choose."""

    adapters = "adapters"
    effects = "effects"


@told
def cost(
    base: Annotated[
        str | None,
        typer.Option(help="qwen-image-edit (default), flux-kontext, tiny, or a diffusers config.json or its folder."),
    ] = None,
    world: Annotated[str | None, typer.Option("--world", "-w", help="Sizes from a world's own config and files.")] = None,
    targets: Annotated[
        str | None, typer.Option(help="Of teachers: paper (default), attention, no-modulation, or module names with commas.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of the teachers. Default: 128.")] = None,
    dtype: Annotated[str | None, typer.Option(help="bfloat16 (default), float16, float32 or float8.")] = None,
    effects: Annotated[int | None, typer.Option("--effects", "-n", min=1, help="Default: 50, or the world's.")] = None,
    accelerator_rank: Annotated[int | None, typer.Option(min=0, help="Default: 64; 0 is no accelerator.")] = None,
    accelerator_targets: Annotated[str | None, typer.Option(help="Default: no-modulation.")] = None,
    collection_rank: Annotated[int | None, typer.Option(min=1, help="Default: the teachers' rank.")] = None,
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Effects that one collection adapter holds. Default: 50, or as many as the world's.")
    ] = None,
    mix: Annotated[str, typer.Option(help="Queries: uniform, zipf or zipf:EXPONENT.")] = "uniform",
    cache: Annotated[str, typer.Option(help="all resident, or an LRU: disk:SLOTS or ram:SLOTS.")] = "all",
    router: Annotated[str, typer.Option(help="Accuracy of the router: paper (its published curve) or a share.")] = "paper",
    route: Annotated[Route, typer.Option(help="What the router chooses: an adapter, or an effect.")] = Route.adapters,
    bcr: Annotated[
        list[str] | None, typer.Option(help="SYSTEM=SHARE of bad outputs, or paper. Default: paper for qwen-image-edit.")
    ] = None,
    load_seconds: Annotated[float | None, typer.Option(min=0, help="Time to load one teacher adapter.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Everything as JSON, with curves over effects and rank.")] = False,
) -> None:  # fmt: skip
    """Say what each way of deploying costs at real scale, from configuration alone: no weights needed.

    Example:  clbench cost --base qwen-image-edit --effects 50 --mix zipf --cache disk:4
    """
    import json

    from clbench.cost import answer, table
    from clbench.cost.options import Options

    found = answer.answer(
        Options(
            base, world, targets, rank, dtype, effects, accelerator_rank, accelerator_targets, collection_rank, capacity,
            mix, cache, router, route.value, bcr or (), load_seconds,
        )
    )  # fmt: skip
    if json_:
        show(json.dumps(answer.as_json(found), indent=1, allow_nan=False))
        return
    for rows in table.tables(found):
        print_table(*rows)
        show("")
    for sentence in found.assumptions:
        show(f"- {sentence}")
