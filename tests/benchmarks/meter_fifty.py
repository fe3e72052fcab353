"""The bleeding meter on all ordered pairs of the fifty effects: what `clbench selftest` shows of eight.

    python tests/benchmarks/meter_fifty.py [--world tiny] [--sources 20] [--effects 50]

Leak of 20 % is planted in right answers as the selftest plants it, in each of its three forms; outputs carry the nuisance of a
model. Minutes for each source on one core, so nothing of it is asserted in a test.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from clbench.score_order import one_thread_each
from clbench.selftest.meter import ALARM, Cells, alarm, auc, cells_of
from clbench.selftest.planted import FORMS
from clbench.selftest.readings import CLEAN, SEEN_DOSE, Laboratory, Pair, read_source
from clbench.world import World, load_world


def told(cells: Cells, pairs: Sequence[Pair], words: str) -> None:
    """How leak stands out from clean outputs, by picture and by cell of the matrix, and how many cells are alarms."""
    clean = [cells.clean[pair] for pair in pairs]
    for form in FORMS:
        planted = [cells.planted[pair, (form, SEEN_DOSE)] for pair in pairs]
        by_cell = auc([values.mean() for values in planted], [values[:, 0].mean() for values in clean])
        found = np.mean([alarm(values) for values in planted])
        least = np.quantile([values.mean() for values in planted], [0.05, 0.5])
        print(
            f"{words}, {form}: AUC per picture {auc(planted, clean):.4f}, per cell {by_cell:.4f}; {100 * found:.1f} % of cells "
            f"are alarms; mean reading of {SEEN_DOSE:g}: median {least[1]:.3f}, of the lowest twentieth at most {least[0]:.3f}"
        )
    false = [alarm(values[:, number]) for values in clean for number in range(CLEAN)]
    print(f"{words}: {100 * np.mean(false):.2f} % false alarms in {len(false)} clean cells (above {ALARM:g}, interval above 0)")


def totals(cells: Cells, effects: Sequence[str]) -> None:
    """The sum over all other effects that a clean picture is given, what `leak_total` is of a perfect system."""
    sums = {asked: sum(values for (one, _), values in cells.clean.items() if one == asked) for asked in effects}
    means = {asked: float(np.mean(found)) for asked, found in sums.items()}
    worst = sorted(means, key=lambda asked: -means[asked])[:5]
    shown = ", ".join(f"{asked} {means[asked]:.2f}" for asked in worst)
    print(f"sum of leaks of a clean picture: mean {np.mean(list(means.values())):.3f}; largest: {shown}")


def is_hard(world: World, pair: Pair) -> bool:
    one, other = pair
    return other in world.effect(one).neighbours or one in world.effect(other).neighbours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="tiny")
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--effects", type=int, default=50)
    given = parser.parse_args()
    world = load_world(given.world)
    laboratory = Laboratory(world, world.taught[: given.effects])
    readings, began = [], time.perf_counter()
    with one_thread_each():
        for source in world.sources[: given.sources]:
            readings.append(read_source(laboratory, source.id, False)[0])
            print(f"{source.id}: {time.perf_counter() - began:.0f} s", flush=True)
    cells = cells_of(readings)
    whole = [pair for pair in sorted(cells.clean) if all((pair, (form, SEEN_DOSE)) in cells.planted for form in FORMS)]
    print(f"{len(cells.clean)} pairs of {len(laboratory.effects)} effects, {len(readings)} sources; {len(whole)} can be planted")
    told(cells, whole, f"{len(whole)} pairs")
    hard = [pair for pair in whole if is_hard(world, pair)]
    told(cells, hard, f"{len(hard)} hard pairs")
    totals(cells, laboratory.effects)


if __name__ == "__main__":
    main()
