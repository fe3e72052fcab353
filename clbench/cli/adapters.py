"""Commands that make LoRA files: merge, export, train."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from clbench.cli.options import WorldName
from clbench.console import show, told


@told
def merge(
    method: Annotated[str, typer.Option("--method", "-m", help="peft's name: linear, cat, svd, ties, dare_ties, ...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="LoRA file to write, .safetensors.")],
    world: WorldName = "tiny",
    effect: Annotated[
        list[str] | None, typer.Option("--effect", help="Only this effect; repeated or with commas. Default: all taught ones.")
    ] = None,
    accelerator: Annotated[bool, typer.Option("--accelerator", help="Join the world's accelerator to the result.")] = False,
) -> None:
    """Merge effect LoRAs into one file, the same that system merged-METHOD measures; no base model is loaded.

    Example:  clbench merge --method ties --out merged.safetensors
    """
    from clbench import adapter_jobs

    show(str(adapter_jobs.merge(world, method, effect or (), accelerator, out)))


class Format(str, Enum):
    """Whose key names `clbench export` writes."""

    comfyui = "comfyui"
    kohya = "kohya"
    diffusers = "diffusers"


@told
def export(
    adapter: Annotated[Path, typer.Argument(help="LoRA file, in any of the names that clbench reads.")],
    format_: Annotated[Format, typer.Option("--format", "-f", help="Whose key names to write.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="LoRA file to write, .safetensors.")],
    base: Annotated[
        str | None, typer.Option(help="flux or qwen, only where the file's modules belong to both.")
    ] = None,
    drop_text_encoder: Annotated[
        bool, typer.Option("--drop-text-encoder", help="Leave out a text encoder's part, which clbench does not apply.")
    ] = False,
) -> None:
    """Write a LoRA with the key names of ComfyUI, kohya's sd-scripts or diffusers; nothing in it is lost unless dropped.

    Example:  clbench export collection.safetensors --format comfyui --out collection-comfyui.safetensors

    Example:  clbench export published.safetensors --drop-text-encoder --format diffusers --out transformer-alone.safetensors
    """
    from clbench import adapter_jobs

    adapter_jobs.export(adapter, format_.value, out, base, drop_text_encoder)


class Stage(str, Enum):
    """The stages of the reference trainer."""

    base = "base"
    encoders = "encoders"
    teachers = "teachers"
    accelerator = "accelerator"
    collection = "collection"
    joint = "joint"


@told
def train(
    stage: Annotated[
        Stage | None, typer.Option(help="One stage. Default: teachers, accelerator and collection in turn.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="A shipped recipe (tiny, smoke, ablation/all, ...) or a TOML file.")] = "tiny",
    world: WorldName = "tiny",
    effects: Annotated[
        list[str] | None,
        typer.Option(
            "--effects",
            help="Effect ids, repeated or with commas. Default: the world's collection pool; for collection and joint, of it "
            "those that have a teacher.",
        ),
    ] = None,
    candidate: Annotated[
        str | None, typer.Option("--candidate", help="The effects that this candidate of the world file names.")
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
    from clbench import training

    chosen = training.chosen_effects(world, effects or (), candidate, extend is not None)
    training.train(stage.value if stage else None, recipe, world, chosen, out, not fresh, pairs, extend, old or ())
