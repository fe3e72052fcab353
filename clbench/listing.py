"""`clbench list`: what there is, as rows of a table. Loads no heavy library."""

from __future__ import annotations

from clbench.registry import ClbenchError
from clbench.world import World, load_world, shipped_worlds

Rows = tuple[str, list[str], list[list[str]]]


def list_effects(world: World) -> Rows:
    """Every effect of the world: flags are r (random), s / b (subject / background only), x (extension)."""
    rows = []
    for effect in world.effects.values():
        flags = "".join(
            flag
            for flag, on in (
                ("r", effect.random), ("s", effect.scope == "subject"), ("b", effect.scope == "background"),
                ("x", effect.pool == "extension"), ("t", world.teacher_path(effect.id) is not None),
            )
            if on
        )  # fmt: skip
        rows.append(
            [
                effect.id,
                effect.family,
                flags,
                effect.instruction,
                effect.trigger,
                ", ".join(effect.neighbours),
            ]
        )
    title = (
        f"{len(rows)} effects of world {world.name}   "
        "(r = random, s / b = subject / background only, x = extension pool, t = taught)"
    )
    return title, ["id", "family", "flags", "instruction", "trigger", "neighbours"], rows


def list_triggers(world: World) -> list[Rows]:
    """How far apart the text encoders keep prompts with own, random and chosen triggers, and which ones were chosen."""
    from clbench.backbones import open_backbone
    from clbench.triggers import CANDIDATES, chosen_for, compare_triggers

    effects = [effect for effect in world.effects.values() if effect.pool == "collection"]
    embed = open_backbone(world).prompt_vectors
    chosen = chosen_for(effects, embed)
    numbers = [
        [c.encoder, c.prompts, str(c.draws), f"{c.found.mean:.3f}", f"{c.found.largest:.3f}", f"{c.found.largest_centred:.3f}"]
        for c in compare_triggers(effects, embed, chosen)
    ]
    heads = ["encoder", "prompts", "sets", "mean |cosine|", "largest |cosine|", "largest, mean taken out"]
    words = [[effect.id, effect.trigger, trigger] for effect, trigger in zip(effects, chosen, strict=True)]
    return [
        (f"prompts of {len(effects)} effects of world {world.name} to its text encoders; 0 is orthogonal", heads, numbers),
        (f"triggers chosen among {CANDIDATES} made-up words each", ["effect", "own trigger", "chosen"], words),
    ]


def list_systems() -> Rows:
    from clbench.systems import ABOUT, SYSTEMS

    return "systems", ["name", "is"], [[name, ABOUT.get(name, "(no words in ABOUT)")] for name in SYSTEMS]


def list_probes() -> Rows:
    from clbench.probe_words import prompt_words
    from clbench.probes import PROBES

    probes = [PROBES.get(name) for name in PROBES]
    rows = [[p.name, prompt_words(p.name), p.success, " or ".join(sorted(p.styles))] for p in probes]
    return "probes: other ways to put the question", ["name", "what a system gets", "success", "asked of prompts by"], rows


def list_metrics() -> Rows:
    """The stored metrics, those of whole sets of pictures, then the figures that `clbench compare` reads from stored ones."""
    from clbench.metrics import METRICS, SET_METRICS
    from clbench.metrics.derived import DERIVED

    kinds = {
        "case": [METRICS.get(name) for name in METRICS],
        "set": [SET_METRICS.get(name) for name in SET_METRICS],
        "derived": [DERIVED.get(name).card for name in DERIVED],
    }
    rows = [
        [c.name, kind, str(c.version), c.direction, f"{c.bounds[0]:g} .. {c.bounds[1]:g}", f"{c.tolerance:g}", c.about]
        for kind, cards in kinds.items() for c in cards
    ]  # fmt: skip
    title = "metrics (tolerance: the largest difference that the other pictures of a batch, or their order, may make)"
    return title, ["name", "of a", "version", "better", "bounds", "tolerance", "is"], rows


def list_suites() -> Rows:
    from clbench.jobs import ALL, NOT_IN_ALL
    from clbench.memory.suite import load_memory_suite
    from clbench.suite import load_suite, shipped_suites

    suites = [load_suite(name) for name in shipped_suites()]
    rows = [[s.name, s.question, ", ".join(s.systems), ", ".join(s.controls), ", ".join(s.table.probes)] for s in suites]
    measured = [load_memory_suite(name) for name in shipped_suites("memory")]
    rows += [[s.name, s.question, ", ".join(s.systems), "", ""] for s in measured]
    title = f"suites ({ALL}: every one but {', '.join(sorted(NOT_IN_ALL))} that the world can answer)"
    return title, ["name", "question", "systems", "controls", "probes"], sorted(rows)


def list_worlds() -> Rows:
    rows = []
    for name, file in shipped_worlds().items():
        world = load_world(file)
        table = world.table
        rows.append(
            [name, f"{world.resolution} px", world.backbone.kind, str(len(world.effects)),
             _teachers(world), ", ".join(c.name for c in table.candidates)]
        )  # fmt: skip
    return "worlds", ["name", "size", "backbone", "effects", "teachers", "candidates"], rows


def _teachers(world: World) -> str:
    try:
        return str(len(world.taught))
    except ClbenchError as error:  # one world that lacks a file is no reason to show none
        return str(error)


def list_sources(world: World) -> Rows:
    rows = [[s.id, s.caption, s.subject, s.background, s.split, s.licence] for s in world.sources]
    return (
        f"{len(rows)} sources of world {world.name}",
        ["id", "caption", "subject", "background", "split", "licence"],
        rows,
    )
