"""The command line. Thin: it names things, shows progress and leaves the work to the rooms.

Nothing heavy is imported here, so that `clbench --help` answers at once.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from clbench.console import print_table, say, show, told

app = typer.Typer(
    name="clbench", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
    help="Measures what effect LoRAs, their cascades with an accelerator, and their distilled collections "
    "really do.\n\n"
    "Start here:  [bold]clbench eval --suite demo[/bold]",
)  # fmt: skip
preview_app = typer.Typer(no_args_is_help=True, help="Pictures to look at before measuring.")
app.add_typer(preview_app, name="preview")

SuiteName = Annotated[
    str, typer.Option("--suite", "-s", help="A shipped suite (clbench list suites), a TOML file, or (eval) all.")
]
WorldName = Annotated[
    str, typer.Option("--world", "-w", help="A shipped world (clbench list worlds) or a TOML file.")
]
Systems = Annotated[
    list[str] | None,
    typer.Option("--system", help="Only this system; can be repeated. Default: the suite's."),
]
Effects = Annotated[
    list[str] | None,
    typer.Option("--effect", help="Only this effect; can be repeated. Default: the suite's."),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", help="Pictures made elsewhere, DIR/<effect>/<source>.png: system 'folder'."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many source pictures.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of results. Default: runs/<suite>-<world>.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a folder of pictures with missing or unreadable ones.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that were made from other files or settings.")
]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Try edits again that were recorded as failed.")]


@app.command("eval")
@told
def eval_(
    suite: SuiteName, world: WorldName = "tiny", system: Systems = None, effect: Effects = None,
    images: Images = None, limit: Limit = None, out: Out = None, strict: Strict = False,
    overwrite: Overwrite = False, retry_failed: Retry = False,
) -> None:  # fmt: skip
    """Edit, score and report in turn: the main job. Stop it with Ctrl-C; the same command finishes it.

    `--suite all` runs every shipped suite that the world can answer, each into a folder of its own, with one report.

    Example:  clbench eval --suite bleeding --world tiny
    """
    from clbench import jobs

    order = jobs.Order(
        suite, world, system or (), effect or (), images, limit, out, strict, overwrite, retry_failed
    )
    jobs.evaluate(order)


@app.command()
@told
def edit(
    suite: SuiteName, world: WorldName = "tiny", system: Systems = None, effect: Effects = None,
    images: Images = None, limit: Limit = None, out: Out = None, strict: Strict = False,
    overwrite: Overwrite = False, retry_failed: Retry = False,
) -> None:  # fmt: skip
    """Make the pictures of a suite: one run folder per system, resumed if it is there.

    Example:  clbench edit --suite fidelity --system teacher --limit 4
    """
    from clbench import jobs

    order = jobs.Order(
        suite, world, system or (), effect or (), images, limit, out, strict, overwrite, retry_failed
    )
    show(str(jobs.edit(order)))


@app.command()
@told
def score(
    out: Annotated[Path, typer.Argument(help="Folder of results made by `clbench edit`.")],
    suite: SuiteName,
    world: WorldName = "tiny",
) -> None:
    """Compute the suite's metrics for every run in a folder and write scores.parquet beside the pictures.

    Example:  clbench score runs/bleeding-tiny --suite bleeding
    """
    from clbench import jobs

    jobs.score(out, world, suite)
    show(str(out))


@app.command()
@told
def report(
    out: Annotated[Path, typer.Argument(help="Folder of results with scores.")],
    world: Annotated[
        str | None, typer.Option("--world", "-w", help="Default: the runs' own, by name.")
    ] = None,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", help="Default: the runs' own, by name.")
    ] = None,
) -> None:
    """Render report.html and report.md from the scores in a folder.

    Example:  clbench report runs/bleeding-tiny
    """
    from clbench import jobs

    jobs.report(out, world, suite)


class By(str, Enum):
    """What of a difference must pass a bound of --fail-on."""

    estimate = "estimate"
    certain = "certain"
    possible = "possible"


@app.command()
@told
def compare(
    run_a: Annotated[Path, typer.Argument(help="The run before: a run folder, or a folder of results with several.")],
    run_b: Annotated[Path, typer.Argument(help="The run after. Differences are RUN_B - RUN_A on the same cases.")],
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", help="Exit 1 if B is worse than A by more than this: METRIC:+0.02 where lower is better, "
                     "METRIC:-0.02 where higher is. Shares count from 0 to 1. Can be repeated."),
    ] = None,
    fail_by: Annotated[
        By, typer.Option(help="What must pass the bound: the difference itself; its whole 95 % interval (certain); or any "
                         "part of the interval (possible)."),
    ] = By.estimate,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Only this metric; can be repeated. Default: all with a direction."),
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Only this system; can be repeated. Default: all in both.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of the table.")] = False,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Also write Markdown for a pull request here.")] = None,
) -> None:  # fmt: skip
    """Compare two runs case by case. Exits with 1 when a --fail-on is met, with 2 when they cannot be compared.

    Example:  clbench compare runs/old/collection runs/new/collection --fail-on bleed_rate:+0.02
    """
    from clbench import jobs

    if jobs.compare(run_a, run_b, fail_on or (), fail_by.value, metric or (), system or (), json_, markdown):
        raise typer.Exit(1)


@app.command()
@told
def selftest(
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only this group of checks; can be repeated. Default: all.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of the table.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Bounds that are known to be missed count as well.")] = False,
) -> None:
    """Prove the meters on cases with a known answer. Exits with 1 when a bound is missed.

    Example:  clbench selftest --only statistics
    """
    from clbench import jobs

    if jobs.selftest(only or (), json_, strict):
        raise typer.Exit(1)


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


@app.command("list")
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


@preview_app.command("effects")
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
    from clbench.jobs import names
    from clbench.preview import effects_sheet
    from clbench.world import load_world

    opened = load_world(world)
    chosen = [opened.effect(name) for name in names(effect or ())] or [
        e for e in opened.effects.values() if e.operator
    ]
    scenes = [opened.scene(source.id) for source in opened.sources[:3]]
    show(str(effects_sheet(chosen, scenes, draws, out)))


@app.command()
@told
def merge(
    method: Annotated[str, typer.Option("--method", "-m", help="peft's name: linear, cat, svd, ties, dare_ties, ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="LoRA file to write, .safetensors.")],
    world: WorldName = "tiny",
    effect: Annotated[
        list[str] | None, typer.Option("--effect", help="Only this effect; can be repeated. Default: all taught ones.")
    ] = None,
    accelerator: Annotated[bool, typer.Option("--accelerator", help="Join the world's accelerator to the result.")] = False,
) -> None:
    """Merge effect LoRAs into one file, the same that system merged-METHOD measures; no base model is loaded.

    Example:  clbench merge --method ties --out merged.safetensors
    """
    from clbench import jobs

    show(str(jobs.merge(world, method, effect or (), accelerator, out)))


class Format(str, Enum):
    """Whose key names `clbench export` writes."""

    comfyui = "comfyui"
    kohya = "kohya"
    diffusers = "diffusers"


@app.command()
@told
def export(
    adapter: Annotated[Path, typer.Argument(help="LoRA file, in any of the names that clbench reads.")],
    format_: Annotated[Format, typer.Option("--format", "-f", help="Whose key names to write.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="LoRA file to write, .safetensors.")],
    base: Annotated[
        str | None, typer.Option(help="flux or qwen, only where the file's modules belong to both.")
    ] = None,
) -> None:
    """Write a LoRA with the key names of ComfyUI, kohya's sd-scripts or diffusers; nothing in it is lost.

    Example:  clbench export collection.safetensors --format comfyui --out collection-comfyui.safetensors
    """
    from clbench import jobs

    jobs.export(adapter, format_.value, out, base)


class Stage(str, Enum):
    """The stages of the reference trainer."""

    base = "base"
    encoders = "encoders"
    teachers = "teachers"
    accelerator = "accelerator"
    collection = "collection"
    joint = "joint"


@app.command()
@told
def train(
    stage: Annotated[
        Stage | None, typer.Option(help="One stage. Default: teachers, accelerator and collection in turn.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A shipped recipe (tiny, smoke) or a TOML file.")] = "tiny",
    world: WorldName = "tiny",
    effects: Annotated[
        list[str] | None,
        typer.Option("--effects", help="Effect ids, repeated or with commas. Default: the recipe's."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: runs/train-<world>.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of finishing what is there.")
    ] = False,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="Before/after pictures for teachers: DIR/<effect>/source and target.")
    ] = None,
    extend: Annotated[
        Path | None, typer.Option("--extend", help="With --stage collection: add --effects to this collection adapter.")
    ] = None,
    old: Annotated[
        list[str] | None, typer.Option("--old", help="Effects of that adapter, where its file does not name them.")
    ] = None,
) -> None:
    """Train adapters with the reference trainer. Stop it with Ctrl-C; the same command goes on.

    Example:  clbench train --stage teachers --effects sepia,rain

    Example:  clbench train --stage collection --extend collection.safetensors --effects glow
    """
    from clbench import jobs

    jobs.train(stage.value if stage else None, recipe, world, effects or (), out, not fresh, pairs, extend, old or ())


@app.command()
@told
def doctor(world: WorldName = "tiny") -> None:
    """Say what this machine has, what the world needs, and whether everything works without a network.

    Example:  clbench doctor --world tiny
    """
    from clbench.doctor import examine

    findings = examine(world)
    print_table(f"clbench doctor, world {world}", ["what", "state", "detail"], [f.row() for f in findings])
    missing = [f.what for f in findings if f.state == "missing"]
    if missing:
        say(f"Missing: {', '.join(missing)}.", "red")
        raise typer.Exit(1)


class Route(str, Enum):
    """What a router must choose."""

    adapters = "adapters"
    effects = "effects"


@app.command()
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
    capacity: Annotated[int, typer.Option(min=1, help="Effects that one collection adapter holds.")] = 50,
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


def _version(asked: bool) -> None:
    if asked:
        from clbench import __version__

        show(f"clbench {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main() -> None:
    """Entry point of the `clbench` command."""
    app()
