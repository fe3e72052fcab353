"""What `clbench doctor` says of the files that a world names: backbone, LoRAs, pictures, encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from clbench.left_out import some
from clbench.registry import ClbenchError
from clbench.world import World
from clbench.world_adapters import Adapter

State = Literal["ok", "missing", "note", "warning"]
Shapes = Mapping[str, tuple[int, ...]]
NAMED = 10
"""Effects that a finding names; of more it says how many there are."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    state: State
    detail: str

    def row(self) -> list[str]:
        return [self.what, self.state, self.detail]


def of_files(world: World, lacking: str = "") -> list[Finding]:
    """Of every file that the world names; `lacking` says what is wrong with its folders of pictures."""
    shapes = _shapes(world)
    found = [_look("backbone", lambda: _backbone(world)), _taught(world, shapes)]
    if world.table.accelerator is not None:
        found.append(_look("accelerator", lambda: _adapter(world, world.accelerator().path, shapes)))
    for candidate in world.table.candidates:
        found.append(_candidate(world, candidate.name, shapes))
    if world.table.joint is not None:
        found.append(_look("joint", lambda: _asked_adapter(world, world.joint(), shapes)))
    found += (seen := _pictures(world))
    if lacking and not any(lacking in finding.detail for finding in seen):
        found.append(Finding("pictures", "missing", lacking))
    found.append(_look("encoders", lambda: _encoders(world)))
    return found


def _pictures(world: World) -> list[Finding]:
    return [_sources(world), *([_references(world)] if world.table.references is not None else [])]


def _look(what: str, see: Callable[[], str]) -> Finding:
    try:
        return Finding(what, "ok", see())
    except ClbenchError as error:
        return Finding(what, "missing", str(error))


def _backbone(world: World) -> str:
    from clbench.backbones.parts import check_parts

    path = backbone_here(world)
    check_parts(path, world.backbone.kind, world.resolution)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return f"{world.backbone.kind}, {size / 2**20:.1f} MiB, {path}"


def backbone_here(world: World) -> Path:
    """The backbone's folder on this machine, a hub's snapshot too; ClbenchError if it is not there."""
    from clbench.backbones import hub_folder

    path = world.backbone_path
    if path is None:
        return hub_folder(str(world.backbone.hub), world.backbone.revision, local_only=True)
    if not (path / "model_index.json").is_file():
        raise ClbenchError(f"{path} holds no model_index.json")
    return path


def _shapes(world: World) -> Shapes:
    """Of the transformer's modules, from its weights or, before they are there, its config; empty where there is neither, which
    the finding of the backbone says."""
    from clbench.attaching import base_shapes
    from clbench.cost.worlds import world_base

    try:
        if shapes := base_shapes(backbone_here(world) / "transformer"):
            return shapes
    except ClbenchError:
        pass
    try:
        return {one.name: (one.out, one.into) for one in world_base(world, local_only=True).linears}
    except ClbenchError:
        return {}


def _taught(world: World, shapes: Shapes) -> Finding:
    """The teachers; a note of a world that has none and does without, since right answers of its effects are known."""
    try:
        lack = world.lack("teachers")
        known = world.known if lack else []
    except ClbenchError:  # of the teachers' folder, or of reference pairs: said below, or of those
        lack, known = None, []
    if lack is None or not known:
        return _look("teachers", lambda: _teachers(world, shapes))
    asked = f"{len(known)} of {len(world.effects)} effects, by operator or reference pairs"
    return Finding("teachers", "note", f"{lack.why}; suites of the taught effects ask those whose right answer is known: {asked}")


def _teachers(world: World, shapes: Shapes) -> str:
    """Every file is read as the others are: ClbenchError with the first mistake and the number of files that have one."""
    from clbench.adapter_prompts import require_instruction
    from clbench.adapters import describe_adapter

    pool = [effect for effect in world.effects.values() if effect.pool == "collection"]
    taught, mistakes = world.taught, []
    told = f"{len(taught)} of {len(pool)} effects of the collection pool"
    if not taught:
        raise ClbenchError(told)
    for effect in taught:
        path = world.teacher_path(effect)
        assert path is not None
        try:
            _adapter(world, path, shapes)
            require_instruction(describe_adapter(path), world.effect(effect))
        except ClbenchError as error:
            mistakes.append(str(error))
    if mistakes:
        others = f" (and {len(mistakes) - 1} more of {len(taught)} teachers)" if len(mistakes) > 1 else ""
        raise ClbenchError(mistakes[0] + others)
    return told


def _adapter(world: World, path: Path, shapes: Shapes) -> str:
    from clbench.adapters import describe_adapter
    from clbench.attaching import check_adapter

    info = describe_adapter(path)
    if shapes:
        check_adapter(info, shapes, f"the backbone of world {world.name}")
    return f"rank {info.rank}, {len(info.modules)} modules, {info.bytes / 2**20:.2f} MiB"


def _asked_adapter(world: World, adapter: Adapter, shapes: Shapes) -> str:
    """The adapter of many effects, which of the world's it does not hold, and where it is asked in words of its own."""
    from clbench.adapter_prompts import as_trained, other_words, prompt_kind
    from clbench.adapters import describe_adapter
    from clbench.holds import held_by

    told, info = _adapter(world, adapter.path, shapes), describe_adapter(adapter.path)
    kind, held = prompt_kind(info, adapter.prompt), held_by(adapter, info.header)
    asked = {name: effect for name, effect in world.effects.items() if not held or name in held}
    differ = other_words(asked, as_trained(info, asked, kind), kind)
    own = [f"{what} of its own ({some(ids, 1)})" for what, ids in differ.items()]
    words = f"; asked with {' and '.join(own)}" if own else ""
    pool = world.taught or [name for name, effect in world.effects.items() if effect.pool == "collection"]
    if lacking := [name for name in pool if held and name not in held]:
        words += f"; not trained on {len(lacking)} of the world's {len(pool)} effects ({some(lacking, NAMED)})"
    return told + words


def _candidate(world: World, name: str, shapes: Shapes) -> Finding:
    """A candidate's file; a warning where the world file names effects that the header does not."""
    from clbench.adapters import describe_adapter
    from clbench.holds import named_in

    found = _look(f"candidate {name}", lambda: _asked_adapter(world, world.candidate(name), shapes))
    if found.state != "ok":
        return found
    one = world.candidate(name)
    named = named_in(describe_adapter(one.path).header)
    if denied := [effect for effect in one.effects if named and effect not in named]:
        told = f"{found.detail}; {world.file} names effects that the file's own header does not: {some(denied, NAMED)}"
        return replace(found, state="warning", detail=told)
    return found


def _sources(world: World) -> Finding:
    """Every picture of a folder is opened: a name and a digest do not tell a truncated one, nor its size."""
    from clbench.source_check import look_at

    if world.table.sources.kind != "folder":
        return _look("sources", lambda: f"{len(world.sources)} pictures")
    try:
        found = look_at(world)
    except ClbenchError as error:
        return Finding("sources", "missing", str(error))
    return Finding("sources", "warning" if found.small else "ok", found.told(world.resolution))


def _references(world: World) -> Finding:
    """Every pair of every effect, held against all sources; a warning where some sources have none. Effects that have neither
    pairs nor an operator are named.
    """
    try:
        ids = [source.id for source in world.sources]
        effects = [one.id for one in world.effects.values() if one.operator is None and world.pairs.targets(one.id)]
        lacking = [sentence for effect in effects if (sentence := world.pairs.check(effect, ids))]
    except ClbenchError as error:
        return Finding("references", "missing", str(error))
    others = _without_pairs(world, effects)
    if lacking:
        return Finding("references", "warning", "; ".join([*lacking, *others]))
    return Finding("references", "ok", "; ".join([f"pairs for all {len(ids)} sources, effects: {len(effects)}", *others]))


def _without_pairs(world: World, paired: Sequence[str]) -> list[str]:
    """Who judges the effects that have neither an operator nor pairs, in sentences."""
    left = [one.id for one in world.effects.values() if one.operator is None and one.id not in paired]
    named = world.table.teachers.files  # whether or not the file is there, which is another finding
    taught = [effect for effect in left if effect in named or world.teacher_path(effect) is not None]
    unknown = [effect for effect in left if effect not in taught]
    told = {"judged by their teacher": taught, "not judged at all": unknown}
    return [f"neither operator nor pairs, so {how}: {some(ids, NAMED)}" for how, ids in told.items() if ids]


def _encoders(world: World) -> str:
    from clbench.encoders import check_encoders

    return check_encoders(world)
