"""Controls: systems whose scores are known beforehand, so that the instrument itself is tested."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from clbench.backbones import backbone_folder
from clbench.images import reduce_to
from clbench.registry import ClbenchError
from clbench.systems import Bench
from clbench.types import Case, Edit, SystemCard, seed_from
from clbench.world import World

TRUTH_DRAW, FLOOR_DRAW = 100, 200
"""First draws of the controls; the scorer compares with draws 0..3, so a control never meets itself."""


class Control:
    """Makes a picture for each case by a function of the case; no sampling."""

    def __init__(self, card: SystemCard, make: Callable[[Case], np.ndarray]) -> None:
        self.card, self._make = card, make

    def edit(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """Yield one Edit for each case; where no truth is known, a failed one with the reason."""
        for case in cases:
            start = time.perf_counter()
            try:
                picture = self._make(case)
            except ClbenchError as error:
                yield Edit(case, None, status="failed", reason=str(error))
                continue
            yield Edit(case, picture, seconds=time.perf_counter() - start)


def open_control(bench: Bench, name: str) -> Control:
    """truth, identity, wrong-effect or noise-floor."""
    world = bench.world
    settings: dict[str, object] = {}
    if name == "identity":
        make = lambda case: world.source_image(case.source, world.resolution)  # noqa: E731
    elif name == "truth":
        settings["draw"] = TRUTH_DRAW
        make = lambda case: truth_draw(world, case.effect, case.source, TRUTH_DRAW + case.seed)  # noqa: E731
    elif name == "wrong-effect":
        wrong = wrong_effects(bench)
        settings |= {"draw": TRUTH_DRAW, "wrong": wrong}
        make = lambda case: truth_draw(world, wrong[case.effect], case.source, TRUTH_DRAW + case.seed)  # noqa: E731
    else:
        backbone_folder(world)  # a missing backbone is said now
        settings["draw"] = FLOOR_DRAW
        make = lambda case: _through_vae(bench, case)  # noqa: E731
    return Control(SystemCard(name, "control", {}, settings), make)


def wrong_effects(bench: Bench) -> dict[str, str]:
    """Effect -> its first neighbour within the suite, else the next effect of the suite."""
    effects = list(bench.effects)
    if len(effects) < 2:
        raise ClbenchError("system 'wrong-effect' needs a suite of at least two effects")
    wrong = {}
    for i, effect_id in enumerate(effects):
        near = [n for n in bench.world.effect(effect_id).neighbours if n in effects and n != effect_id]
        wrong[effect_id] = near[0] if near else effects[(i + 1) % len(effects)]
    return wrong


def _through_vae(bench: Bench, case: Case) -> np.ndarray:
    picture = truth_draw(bench.world, case.effect, case.source, FLOOR_DRAW + case.seed)
    back = bench.backbone.reconstruct([picture])[0]
    if back is None:
        raise ClbenchError("the VAE returned values that are not finite")
    return back


def truth_draw(world: World, effect_id: str, source_id: str, draw: int) -> np.ndarray:
    """Draw `draw` of the truth, uint8 ``(resolution, resolution, 3)``: the operator's, else the reference's.

    ClbenchError where only the teacher knows the truth: a control cannot repeat it.
    """
    from clbench.effects import apply_operator

    effect = world.effect(effect_id)
    if effect.operator is None:
        target = world.references(effect_id, source_id)
        if target is None:
            raise ClbenchError(
                f"no known truth of '{effect_id}' for source '{source_id}': no operator, no reference"
            )
        return target
    image, mask = world.source_image(source_id), world.mask(source_id)
    if mask is None and effect.scope != "image":
        raise ClbenchError(
            f"effect '{effect_id}' acts on the {effect.scope} and source '{source_id}' has no mask"
        )
    known = mask if mask is not None else np.zeros(image.shape[:2], np.float32)
    picture = apply_operator(effect.operator, image, known, seed_from("truth", effect_id, source_id, draw))
    return reduce_to(picture, world.resolution)
