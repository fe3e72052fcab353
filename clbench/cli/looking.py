"""What there is, as tables and pictures: list, preview."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from clbench.cli.options import Effects, WorldName
from clbench.console import print_table, show, told


class Kind(str, Enum):
    """What `clbench list` can list."""

    effects = "effects"
    systems = "systems"
    metrics = "metrics"
    suites = "suites"
    worlds = "worlds"
    probes = "probes"
    sources = "sources"
    triggers = "triggers"


@told
def list_(kind: Annotated[Kind, typer.Argument(help="What to list.")], world: WorldName = "tiny") -> None:
    """Show what there is: effects, systems, metrics, probes, suites, worlds or sources; and how orthogonal triggers are.

    Example:  clbench list effects
    """
    from clbench import listing
    from clbench.world import load_world

    if kind is Kind.triggers:
        for table in listing.list_triggers(load_world(world)):
            print_table(*table)
            show("")
        return
    if kind in (Kind.effects, Kind.sources):
        rows = {Kind.effects: listing.list_effects, Kind.sources: listing.list_sources}[kind](
            load_world(world)
        )
    else:
        rows = {
            Kind.systems: listing.list_systems, Kind.metrics: listing.list_metrics,
            Kind.suites: listing.list_suites, Kind.worlds: listing.list_worlds,
            Kind.probes: listing.list_probes,
        }[kind]()  # fmt: skip
    print_table(*rows)


@told
def preview_effects(
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG file to write.")] = Path("effects.png"),
    world: WorldName = "tiny",
    effect: Effects = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws shown of a random effect.")] = 3,
) -> None:
    """Render a labelled contact sheet of the world's effects.

    Example:  clbench preview effects -o sheet.png
    """
    from clbench.order import names
    from clbench.preview import effects_sheet
    from clbench.world import load_world

    opened = load_world(world)
    chosen = [opened.effect(name) for name in names(effect or ())] or [
        e for e in opened.effects.values() if e.operator
    ]
    scenes = [opened.scene(source.id) for source in opened.sources[:3]]
    show(str(effects_sheet(chosen, scenes, draws, out)))
