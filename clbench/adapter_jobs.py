"""What the commands on LoRA files do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.console import follow, progress, show
from clbench.notices import say
from clbench.order import names
from clbench.registry import ClbenchError
from clbench.world import load_world

if TYPE_CHECKING:
    from clbench.export import Format


def _require_new(out: Path) -> None:
    """ClbenchError if `out` is there: an adapter is never written over."""
    if out.exists():
        raise ClbenchError(f"{out} is there already; name another file with --out, or remove it")


def merge(world_name: str, method: str, effects: Sequence[str], accelerated: bool, out: Path) -> Path:
    """Merge the teachers of `effects` (none named: of all taught ones) as system ``merged-<method>`` does, into `out`."""
    from clbench.adapters import describe_adapter
    from clbench.disk import check_possible
    from clbench.merging import write_merged
    from clbench.systems.merged import described_teachers, merge_of

    check_possible(out.parent)
    _require_new(out)
    world = load_world(world_name)
    teachers = described_teachers(world, names(effects) or world.taught)
    accelerator = describe_adapter(world.accelerator().path) if accelerated else None
    merge = merge_of(world, method, teachers, accelerator)
    with progress() as bar:
        seen = follow(bar)
        write_merged(merge, out, lambda done, total: seen(f"merge by {method}", done, total))
    return out


def export(adapter: Path, format: Format, out: Path, base: str | None, drop_text_encoder: bool = False) -> None:
    """Write `adapter` in another program's names to `out`, and show what was dropped and what diffusers would not read there."""
    from clbench.adapters import describe_adapter
    from clbench.export import export_adapter, without_text_encoder

    _require_new(out)
    info, notes = without_text_encoder(adapter) if drop_text_encoder else (describe_adapter(adapter), [])
    for note in [*notes, *export_adapter(info, out, format, base)]:
        say(note, "yellow")
    show(str(out))
