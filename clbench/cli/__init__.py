"""The command line. Thin: it names things, shows progress and leaves the work to the rooms.

Nothing heavy is imported here, so that `clbench --help` answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from clbench.cli import adapters, judging, looking, machine, runs
from clbench.console import EXIT_CODES, show

app = typer.Typer(
    name="clbench", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
    help="Measures what effect LoRAs, their cascades with an accelerator, and their distilled collections "
    "really do.\n\n"
    "Start here:  [bold]clbench eval --suite demo --world tiny-8[/bold]\n\n"
    f"Exit codes:  {EXIT_CODES}",
)  # fmt: skip
preview_app = typer.Typer(
    no_args_is_help=True,
    help="Pictures to look at before measuring.\n\nExample:  clbench preview effects -o sheet.png",
)
app.add_typer(preview_app, name="preview")

COMMANDS = {
    "eval": runs.eval_, "edit": runs.edit, "score": runs.score, "report": runs.report,
    "compare": judging.compare, "selftest": judging.selftest, "list": looking.list_,
    "merge": adapters.merge, "export": adapters.export, "train": adapters.train,
    "doctor": machine.doctor, "cost": machine.cost,
}  # fmt: skip
"""All commands, in the order of `clbench --help`."""

for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
preview_app.command("effects")(looking.preview_effects)


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
