"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SuiteName = Annotated[
    str, typer.Option("--suite", "-s", help="A shipped suite (clbench list suites), a TOML file, or (eval) all.")
]
WorldName = Annotated[
    str, typer.Option("--world", "-w", help="A shipped world (clbench list worlds) or a TOML file.")
]
Systems = Annotated[
    list[str] | None,
    typer.Option(
        "--system", help="Only this system; repeated or with commas. Default: the suite's, as far as the world names their files."
    ),
]
Effects = Annotated[
    list[str] | None,
    typer.Option("--effect", help="Only this effect; repeated or with commas. Default: the suite's."),
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
    bool, typer.Option("--strict", help="Refuse a folder of pictures (--images) that lacks some of those asked for.")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out unreadable pictures of --images, by name, instead of refusing the folder.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that were made from other files or settings.")
]
Retry = Annotated[bool, typer.Option("--retry-failed", help="Try edits again that were recorded as failed.")]
