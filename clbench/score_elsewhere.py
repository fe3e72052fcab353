"""What the bleeding meter is shown of each effect: its truths on a source and, without a known operator, some from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from clbench.calibration import meter_side, to_tensor
from clbench.metrics.bleeding import LEAK_DRAWS
from clbench.metrics.elsewhere import moved, slopes
from clbench.metrics.features import to_side
from clbench.truth import METER_DRAWS, Truths

AT_ONCE = 8
"""Pictures that are numbers at a time before they are reduced: of 1024 px each takes 12 MB."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Right answers (n, 3, S, S) of one effect over sources called `names`, those sources, and the slopes between them."""

    names: Sequence[str]
    sources: Tensor
    answers: Tensor
    slope: Tensor

    def draws(self, source: str, here: Tensor, own: Tensor, most: int) -> Tensor:
        """`own` right answers (K, 3, S, S) of `source`, which is the picture `here`, then others moved there; at most `most`."""
        other = [at for at, name in enumerate(self.names) if name != source][: max(0, most - len(own))]
        return torch.cat([own, moved(self.answers[other], self.sources[other], here, self.slope)]) if other else own


class Shown:
    """`draws` and `composed` for the effects and sources of a world; what is known is read once. Threads may share it."""

    def __init__(self, truths: Truths) -> None:
        self.truths, self.world = truths, truths.world
        self._elsewhere = lru_cache(maxsize=None)(self._read)
        self._source = lru_cache(maxsize=2 * METER_DRAWS)(self._picture)

    def draws(self, effect: str, source: str) -> Tensor:
        """Draws (K, 3, S, S) of a known truth at the side of the meter, in [0, 1]: those of `source` first.

        A random effect without a known operator has further ones from other sources, up to `METER_DRAWS` in all. One that is not
        random has one right answer, the first, however often its teacher was asked: how few copies of one picture differ says
        nothing of how a right answer may, and the meter would take any likeness for right.
        """
        random = self.world.effect(effect).random
        own = self._small(list(self.truths.many(effect, source))[: None if random else 1])
        elsewhere = self._elsewhere(effect) if random else None
        return own if elsewhere is None else elsewhere.draws(source, self._source(source), own, METER_DRAWS)

    def composed(self, first: str, second: str, source: str, draws: Mapping[str, Tensor]) -> Tensor | None:
        """The effect `second` on the first draw of the truth of `first`: (K, 3, S, S), or None where nobody knows.

        By the operator of `second`, if both have one; where `second` has none, moved there from its truth on `source`. `draws`
        are those of `source` by effect.
        """
        if self.world.truth_kind(second) == "operator":
            known = self.truths.composed(first, second, source, LEAK_DRAWS)
            return None if known is None else self._small(list(known))
        elsewhere = self._elsewhere(second)
        if elsewhere is None:
            return None
        few = LEAK_DRAWS if self.world.effect(second).random else 1
        return moved(draws[second][:few], self._source(source)[None], draws[first][0], elsewhere.slope)

    def _read(self, effect: str) -> Elsewhere | None:
        """What is known of an effect without operator over the world's sources; None with an operator, or of a single source."""
        found = self.truths.elsewhere(effect, METER_DRAWS)
        names = [name for name, _ in found]
        if len(set(names)) < 2:
            return None
        sources = torch.stack([self._source(name) for name in names])
        answers = self._small([picture for _, picture in found])
        return Elsewhere(names, sources, answers, slopes(sources, answers))

    def _picture(self, source: str) -> Tensor:
        return self._small([self.truths.source(source)])[0]

    def _small(self, pictures: Sequence[np.ndarray]) -> Tensor:
        side, few = meter_side(self.world), range(0, len(pictures), AT_ONCE)
        return torch.cat([to_side(to_tensor(pictures[at : at + AT_ONCE]), side) for at in few])
