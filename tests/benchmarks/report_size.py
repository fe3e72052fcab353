"""How long a report of 5,000 cases takes to build, and how large the page is.

    python tests/benchmarks/report_size.py [--cases 5000] [--effects 50] [--keep FOLDER] [--profile]

Three systems and three controls answer every case, so 5,000 cases are 30,000 edits. The made-up runs are written
first (minutes) and are not part of the time; with --keep they are used again.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "report"), str(Path(__file__).parents[2])]

import synthetic  # noqa: E402

from clbench import results  # noqa: E402
from clbench.report import build  # noqa: E402
from clbench.results import RunFolder  # noqa: E402


def made_up(folder: Path, names: tuple[str, ...], sources: int) -> list[RunFolder]:
    """The runs in `folder`, written now unless they are there."""
    if not all((folder / system / "scores.parquet").exists() for system in synthetic.SKILL):
        results.os.fsync = lambda _: None  # made-up runs need not survive a power cut
        synthetic.make_runs(folder, names=names, sources=sources)
    return [RunFolder.open(folder / system) for system in synthetic.SKILL]


def measure(runs: list[RunFolder], names: tuple[str, ...], out: Path, profile: bool) -> None:
    """Build once; print seconds and bytes, and what took longest if asked."""
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    start, busy = time.perf_counter(), time.process_time()
    page, markdown = build(runs, synthetic.about(names), out)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    profiler.disable()
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in (page, markdown))
    print(f"built in {seconds:.1f} s ({busy:.1f} s of processor time); {sizes}")
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--effects", type=int, default=50)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    names = tuple(f"{synthetic.NAMES[index % 8]} {index}" for index in range(asked.effects))
    with tempfile.TemporaryDirectory() as scratch:
        runs = made_up(asked.keep or Path(scratch) / "runs", names, asked.cases // asked.effects)
        measure(runs, names, Path(scratch) / "out", asked.profile)


if __name__ == "__main__":
    main()
