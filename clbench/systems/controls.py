"""Controls: systems whose scores are known beforehand, so that the instrument itself is tested."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from clbench.backbones import backbone_folder
from clbench.composition import operated, sequence_draw
from clbench.images import reduce_to
from clbench.neutral import neutral_edit
from clbench.probes import neighbour_in
from clbench.registry import ClbenchError, UnknownAnswer
from clbench.systems import Bench
from clbench.types import NEUTRAL, Case, Edit, Question, SystemCard
from clbench.world import World

TRUTH_DRAW, FLOOR_DRAW = 100, 200
"""First draws of the controls; scorer and meter know draws below `METER_DRAWS`, so a control never meets itself."""


class Control:
    """Makes a picture for each case by a function of the case; no sampling.

    Controls see no prompt, so a probe that only changes words asks them nothing new and is left out. A neutral question
    and a composition have right answers of their own and are answered by the controls in `answers`.
    """

    def __init__(
        self, card: SystemCard, make: Callable[[Case], np.ndarray], answers: frozenset[Question] = frozenset({"effect"})
    ) -> None:
        self.card, self._make, self._answers = card, make, answers

    def edit(self, cases: Sequence[Case]) -> Iterator[Edit]:
        """Yield one Edit for each case; where nobody knows what it should show, an unscored one with the reason."""
        for case in cases:
            reason = self._left_out(case)
            if reason:
                yield Edit(case, None, status="unscored", reason=reason)
                continue
            start = time.perf_counter()
            try:
                picture = self._make(case)
            except ClbenchError as error:
                status = "unscored" if isinstance(error, UnknownAnswer) else "failed"
                yield Edit(case, None, status=status, reason=str(error))
                continue
            yield Edit(case, picture, seconds=time.perf_counter() - start)

    def _left_out(self, case: Case) -> str:
        if case.question not in self._answers:
            what = {"neutral": "a neutral question", "composed": "two effects"}[case.question]
            return f"control '{self.card.name}' has no answer to {what}"
        if case.probe and case.question != "neutral":
            return f"control '{self.card.name}' sees no prompt, so probe '{case.probe}' asks it nothing new"
        return ""


EVERYTHING: frozenset[Question] = frozenset({"effect", "neutral", "composed"})


def open_control(bench: Bench, name: str) -> Control:
    """truth, identity, wrong-effect or noise-floor."""
    world, answers = bench.world, frozenset[Question]({"effect"})
    settings: dict[str, object] = {}
    if name == "identity":
        make, answers = (lambda case: world.source_image(case.source, world.resolution)), EVERYTHING
    elif name == "truth":
        settings["draw"] = TRUTH_DRAW
        make, answers = (lambda case: right_answer(world, case, TRUTH_DRAW + case.seed)), EVERYTHING
    elif name == "wrong-effect":
        wrong = wrong_effects(bench)
        settings |= {"draw": TRUTH_DRAW, "wrong": wrong}
        make = lambda case: truth_draw(world, wrong[case.effect], case.source, TRUTH_DRAW + case.seed)  # noqa: E731
    else:
        backbone_folder(world)  # a missing backbone is said now
        settings["draw"] = FLOOR_DRAW
        make = lambda case: _through_vae(bench, case)  # noqa: E731
    return Control(SystemCard(name, "control", {}, settings), make, answers)


def wrong_effects(bench: Bench) -> dict[str, str]:
    """Effect -> its first neighbour within the suite, else the next effect of the suite."""
    if len(bench.effects) < 2:
        raise ClbenchError("system 'wrong-effect' needs a suite of at least two effects")
    return {effect: neighbour_in(bench.world.effect(effect), bench.effects) for effect in bench.effects}


def right_answer(world: World, case: Case, draw: int) -> np.ndarray:
    """What a perfect system returns for `case`, uint8 (R, R, 3); UnknownAnswer where nobody knows or there are many answers."""
    if case.second:
        return sequence_draw(world, case.effect, case.second, case.source, draw)
    if case.probe != NEUTRAL:
        return truth_draw(world, case.effect, case.source, draw)
    edit = neutral_edit(world, case)
    if edit.target is None:
        raise UnknownAnswer(f"the general instruction '{edit.instruction}' has many right answers")
    return edit.target


def _through_vae(bench: Bench, case: Case) -> np.ndarray:
    picture = truth_draw(bench.world, case.effect, case.source, FLOOR_DRAW + case.seed)
    back = bench.round_trip([picture])[0]
    if back is None:
        raise ClbenchError("the VAE returned values that are not finite")
    return back


def known_answer(world: World, case: Case, draw: int = 0) -> np.ndarray | None:
    """`right_answer`, or None where nobody knows it: what a report shows beside the pictures of a case."""
    try:
        return right_answer(world, case, draw)
    except ClbenchError:
        return None


def truth_draw(world: World, effect_id: str, source_id: str, draw: int) -> np.ndarray:
    """Draw `draw` of the truth, uint8 ``(resolution, resolution, 3)``: the operator's, else the reference's.

    UnknownAnswer where only the teacher knows the truth: a control cannot repeat it.
    """
    effect = world.effect(effect_id)
    if effect.operator is None:
        target = world.references(effect_id, source_id)
        if target is None:
            raise UnknownAnswer(
                f"no known truth of '{effect_id}' for source '{source_id}': no operator, no reference"
            )
        return target
    image, mask = world.source_image(source_id), world.mask(source_id)
    if mask is None and effect.scope != "image":
        raise UnknownAnswer(
            f"effect '{effect_id}' acts on the {effect.scope} and source '{source_id}' has no mask"
        )
    known = mask if mask is not None else np.zeros(image.shape[:2], np.float32)
    return reduce_to(operated(effect, source_id, image, known, draw), world.resolution)
