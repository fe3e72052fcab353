"""Run folders with scores, and memory.json -> report.html (one self-contained page) and report.md.

`build` needs nothing but run folders and words about world and suite; `build_all` puts several suites into one page;
`write_report` finds those by the names in the run folders. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clbench.memory.record import FILE as MEASURED
from clbench.registry import ClbenchError
from clbench.report.data import ReportInput
from clbench.results import RunFolder

if TYPE_CHECKING:
    from clbench.report.deployment import Deployment

__all__ = ["ReportInput", "build", "build_all", "write_report"]


def build(
    runs: Sequence[RunFolder], about: ReportInput, out: Path, budget: float | None = None, side: int | None = None
) -> list[Path]:
    """Write report.html and report.md into `out`; returns both paths. The same runs give the same bytes.

    `budget`: bytes of base64 text for pictures in rows and strips (`report.pictures`); `side`: the largest side in px of a
    picture in the page; None = the usual ones.

    Raises ClbenchError when a run has no scores, or is of another world or suite than `about`.
    """
    return build_all([(runs, about)], out, budget=budget, side=side)


def build_all(
    parts: Sequence[tuple[Sequence[RunFolder], ReportInput]], out: Path, ledgers: Sequence[Deployment] = (),
    budget: float | None = None, side: int | None = None,
) -> list[Path]:  # fmt: skip
    """One report of several suites in the order given, measured deployments last; as `build`, and ClbenchError when a suite
    comes twice.
    """
    from clbench.report.load import load_results
    from clbench.report.page import make_page
    from clbench.report.render import to_html, to_markdown
    from clbench.results import check_writable, replace_bytes

    names = [*(about.suite_name for _, about in parts), *(ledger.found.suite.name for ledger in ledgers)]
    if not names or len(set(names)) < len(names):
        raise ClbenchError(f"a report takes each suite once and at least one, got: {', '.join(names) or 'none'}")
    check_writable(out)
    page = make_page([load_results(runs, about) for runs, about in parts], ledgers, budget, side)
    made = {out / "report.html": to_html(page), out / "report.md": to_markdown(page)}
    for path, text in made.items():
        replace_bytes(path, text.encode())
    return list(made)


def write_report(
    out: Path, world: str | None = None, suite: str | None = None, budget: float | None = None, side: int | None = None
) -> list[Path]:
    """The report of what `out` holds, run folders and a memory.json, or of its subfolders, one for each suite.

    World and suite are those named in the runs unless given; a `suite` can be given only where `out` holds one itself. `budget`
    and `side` as in `build`.
    """
    from clbench.report.worldly import deployment, report_input
    from clbench.results import find_runs

    own = any(out.glob("*/run.json")) or (out / MEASURED).is_file()
    depth = "" if own else "*/"
    folders = sorted({file.parents[1] for file in out.glob(f"{depth}*/run.json")})
    measured = sorted(file.parent for file in out.glob(f"{depth}{MEASURED}"))
    if not folders and not measured:
        find_runs(out)  # says what is missing
    if suite is not None and not own:
        raise ClbenchError(f"{out} holds a folder for each suite; name the folder of suite '{suite}' instead")
    found = [(find_runs(folder), folder) for folder in folders]
    parts = [(runs, report_input(runs, folder, world, suite)) for runs, folder in found]
    return build_all(parts, out, [deployment(folder, world) for folder in measured], budget, side)
