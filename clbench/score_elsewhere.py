"""What the bleeding meter is shown of each effect: its truths on a source and, without a known operator, some from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from clbench.calibration import meter_side, to_tensor
from clbench.metrics.bleeding import LEAK_DRAWS
from clbench.metrics.elsewhere import moved, slopes
from clbench.metrics.features import to_side
from clbench.score_table import Learnt
from clbench.truth import METER_DRAWS, Truths

RULE = 2
"""Version of how effects without known operator are judged; another one gives other labels and another leak. (1: by their
answers to the source alone.)"""
AT_ONCE = 8
"""Pictures that are numbers at a time before they are reduced: of 1024 px each takes 12 MB."""


@dataclass(frozen=True)
class Elsewhere:
    """Right answers (n, 3, S, S) of one effect without known operator, over two or more sources (n, 3, S, S) called `names`."""

    random: bool
    names: Sequence[str]
    sources: Tensor
    answers: Tensor

    @cached_property
    def slope(self) -> Tensor:
        return slopes(self.sources, self.answers)

    def draws(self, source: str, here: Tensor, own: Tensor) -> Tensor:
        """What the meter is shown: right answers `own` (K, 3, S, S) of `source`, the picture `here`, and others moved there.

        Others up to `METER_DRAWS` in all, and of a random effect alone: see `one_answer`.
        """
        if not self.random:
            return one_answer(own)
        other = [at for at, name in enumerate(self.names) if name != source][: max(0, METER_DRAWS - len(own))]
        return torch.cat([own, moved(self.answers[other], self.sources[other], here, self.slope)]) if other else own

    def composed(self, here: Tensor, draws: Tensor, onto: Tensor) -> Tensor:
        """The effect, whose `draws` of the source `here` are known, on another effect's answer `onto` (3, S, S) to it."""
        return moved(draws[: LEAK_DRAWS if self.random else 1], here[None], onto, self.slope)


def one_answer(own: Tensor) -> Tensor:
    """The first right answer of an effect that is not random, however often its teacher was asked.

    How few copies of one picture differ says nothing of how a right answer may, and the meter would take any likeness for right.
    """
    return own[:1]


class Shown:
    """`draws` and `composed` for the effects and sources of a world; what is known is read once. Threads may share it."""

    def __init__(self, truths: Truths) -> None:
        self.truths, self.world = truths, truths.world
        self._elsewhere = lru_cache(maxsize=None)(self._read)
        self._source = lru_cache(maxsize=2 * METER_DRAWS)(self._picture)

    def draws(self, effect: str, source: str) -> Tensor:
        """Draws (K, 3, S, S) of a known truth at the side of the meter, in [0, 1]: those of `source` first.

        A random effect without a known operator has further ones from other sources (see `Elsewhere`).
        """
        own, elsewhere = self._small(list(self.truths.many(effect, source))), self._elsewhere(effect)
        if elsewhere is not None:
            return elsewhere.draws(source, self._source(source), own)
        return own if self.world.effect(effect).random else one_answer(own)

    def composed(self, first: str, second: str, source: str, draws: Mapping[str, Tensor]) -> Tensor | None:
        """The effect `second` on the first draw of the truth of `first`: (K, 3, S, S), or None where nobody knows.

        By the operator of `second`, if both have one; where `second` has none, moved there from its truth on `source`. `draws`
        are those of `source` by effect.
        """
        if self.world.truth_kind(second) == "operator":
            known = self.truths.composed(first, second, source, LEAK_DRAWS)
            return None if known is None else self._small(list(known))
        elsewhere = self._elsewhere(second)
        return None if elsewhere is None else elsewhere.composed(self._source(source), draws[second], draws[first][0])

    def learn(self, effects: Sequence[str]) -> None:
        """Read now what `draws` and `composed` will need of `effects` beyond a source, for all processes that begin later."""
        for effect in effects:
            self._elsewhere(effect)

    def learnt(self, effects: Sequence[str]) -> Learnt | None:
        """How those of `effects` are judged that have no known operator, and from how many answers; None if all have one."""
        counts = [self.truths.count(effect) for effect in effects if self.world.truth_kind(effect) != "operator"]
        return Learnt(RULE, sum(counts), self.truths.made_from) if counts else None

    def _read(self, effect: str) -> Elsewhere | None:
        """What is known of an effect without operator over the world's sources; None with an operator, or of a single source."""
        found = self.truths.elsewhere(effect, METER_DRAWS)
        names = [name for name, _ in found]
        if len(set(names)) < 2:
            return None
        sources = torch.stack([self._source(name) for name in names])
        answers = self._small([picture for _, picture in found])
        return Elsewhere(self.world.effect(effect).random, names, sources, answers)

    def _picture(self, source: str) -> Tensor:
        return self._small([self.truths.source(source)])[0]

    def _small(self, pictures: Sequence[np.ndarray]) -> Tensor:
        side, few = meter_side(self.world), range(0, len(pictures), AT_ONCE)
        return torch.cat([to_side(to_tensor(pictures[at : at + AT_ONCE]), side) for at in few])
