"""Run folders with scores -> report.html (one self-contained page) and report.md.

`build` needs nothing but run folders and words about world and suite; `write_report` finds those by the names
in the run folders. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clbench.report.data import ReportInput
from clbench.results import RunFolder

__all__ = ["ReportInput", "build", "write_report"]


def build(runs: Sequence[RunFolder], about: ReportInput, out: Path) -> list[Path]:
    """Write report.html and report.md into `out`; returns both paths. The same runs give the same bytes.

    Raises ClbenchError when a run has no scores, or is of another world or suite than `about`.
    """
    from clbench.report.data import load_results
    from clbench.report.page import make_page
    from clbench.report.render import to_html, to_markdown
    from clbench.results import check_writable, replace_bytes

    check_writable(out)
    page = make_page(load_results(runs, about))
    made = {out / "report.html": to_html(page), out / "report.md": to_markdown(page)}
    for path, text in made.items():
        replace_bytes(path, text.encode())
    return list(made)


def write_report(out: Path, world: str | None = None, suite: str | None = None) -> list[Path]:
    """The report of all run folders in `out`; world and suite are those named there unless given."""
    from clbench.report.worldly import report_input
    from clbench.results import find_runs

    runs = find_runs(out)
    return build(runs, report_input(runs, out, world, suite), out)
