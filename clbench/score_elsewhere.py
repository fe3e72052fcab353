"""The draws of each effect that the bleeding meter is shown: its truth on a source and, where they help, its truths elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from clbench.calibration import meter_side, to_tensor
from clbench.metrics.elsewhere import carried_over
from clbench.metrics.features import to_side
from clbench.truth import METER_DRAWS, Truths

AT_ONCE = 8
"""Pictures that are numbers at a time before they are reduced: of 1024 px each takes 12 MB."""

Answers = tuple[list[str], Tensor, Tensor]
"""Names of sources, those sources (n, 3, S, S) and what the effect made of them, at the side of the meter."""


class Shown:
    """`draws` for any effect and source of a world; what is known of other sources is read once. Threads may share it."""

    def __init__(self, truths: Truths) -> None:
        self.truths = truths
        self._elsewhere = lru_cache(maxsize=None)(self._read)

    def draws(self, effect: str, source: str) -> Tensor:
        """Draws (K, 3, S, S) of a known truth at the side of the meter, in [0, 1]: those of `source` first.

        A random effect without a known operator has further ones from up to `METER_DRAWS` other sources (`carried_over`).
        """
        own = self._small(list(self.truths.many(effect, source)))
        names, sources, answers = self._elsewhere(effect)
        other = [at for at, name in enumerate(names) if name != source][: max(0, METER_DRAWS - len(own))]
        if not other:
            return own
        here = self._small([self.truths.source(source)])[0]
        return torch.cat([own, carried_over(here, own, sources[other], answers[other])])

    def _read(self, effect: str) -> Answers:
        found = self.truths.elsewhere(effect, METER_DRAWS)
        if not found:
            return [], torch.empty(0), torch.empty(0)
        names = [name for name, _ in found]
        return names, self._small([self.truths.source(name) for name in names]), self._small([picture for _, picture in found])

    def _small(self, pictures: Sequence[np.ndarray]) -> Tensor:
        side, few = meter_side(self.truths.world), range(0, len(pictures), AT_ONCE)
        return torch.cat([to_side(to_tensor(pictures[at : at + AT_ONCE]), side) for at in few])
