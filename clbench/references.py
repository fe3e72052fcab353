"""Pairs of pictures that a user brings as the truth of an effect: ``<folder>/<effect id>/source`` and ``target``.

A pair counts for the world's source whose id is its file stem. An effect that has pairs is judged by them alone: where one
source has a pair and the next would be judged by its teacher, which is right by construction, no mean would mean anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from clbench.hashing import code_digest, tree_digest
from clbench.images import centre_square, reduce_to
from clbench.photos import photos_in, read_photo
from clbench.provenance import hash_value
from clbench.registry import ClbenchError

ALIKE = 8.0
"""Mean difference, in levels of 0 to 255 at `SEEN` px, up to which two files show one picture: more than a JPEG of it costs,
less than half of what lies between two scenes of the tiny world (a test)."""
SEEN = 64
SHAPE = 0.01
"""Relative difference of width / height up to which source and target have one shape."""


class References:
    """The pairs of a world; none without a folder. `size` is the side at which sources are known."""

    def __init__(self, folder: Path | None, size: int, source: Callable[[str], np.ndarray]) -> None:
        self.folder, self._size, self._source = folder, size, source
        self._pictures = cache(self._in_folder)
        self._sound: set[tuple[str, str]] = set()

    def targets(self, effect_id: str) -> Mapping[str, Path]:
        """File stem -> target picture; empty where the effect has no pairs.

        ClbenchError for a folder of the effect that holds no target.
        """
        return self._pictures(effect_id, "target")

    def target(self, effect_id: str, source_id: str, size: int) -> np.ndarray | None:
        """The target for this source, uint8 ``(size, size, 3)``, or None; ClbenchError where `check` would raise."""
        path = self.targets(effect_id).get(source_id)
        if path is None:
            return None
        self._check_pair(effect_id, source_id, path)
        return reduce_to(centre_square(read_photo(path)), size)

    def check(self, effect_id: str, source_ids: Sequence[str]) -> str:
        """ClbenchError unless the pairs of an effect fit these sources; a sentence where some sources have none, else "".

        Each pair must have both sides, of one shape, and its source must show the world's picture of that id.
        """
        targets = self.targets(effect_id)
        if not targets:
            return ""
        paired = [source_id for source_id in source_ids if source_id in targets]
        if not paired:
            some = ", ".join(f"'{stem}'" for stem in list(targets)[:3])
            raise ClbenchError(
                f"{self._home(effect_id) / 'target'} has pictures of none of the {len(source_ids)} sources asked for: a file "
                f"stem must be a source's id such as '{source_ids[0]}', and there are {some}{', ...' if len(targets) > 3 else ''}"
            )
        for source_id in paired:
            self._check_pair(effect_id, source_id, targets[source_id])
        lacking = len(source_ids) - len(paired)
        if not lacking:
            return ""
        share = f"{len(paired)} of {len(source_ids)} sources"
        return f"effect '{effect_id}' has a reference pair for {share}; the others have no truth"

    def digest(self) -> str:
        """Hash of all that can change a truth; "none" without a folder."""
        if self.folder is None:
            return "none"
        code = code_digest(*(Path(__file__).with_name(name) for name in ("photos.py", "references.py")))
        return hash_value([tree_digest(self.folder), code])

    def _check_pair(self, effect_id: str, source_id: str, target: Path) -> None:
        if (effect_id, source_id) in self._sound:
            return
        source = self._pictures(effect_id, "source").get(source_id)
        if source is None:
            raise ClbenchError(
                f"reference pair '{source_id}' of '{effect_id}' has a target but no picture in {self._home(effect_id) / 'source'}"
            )
        before, after = read_photo(source), read_photo(target)
        check_shapes(source, before, target, after)
        apart = distance(reduce_to(centre_square(before), self._size), self._source(source_id))
        if apart > ALIKE:
            raise ClbenchError(
                f"{source} is not the same picture as the world's source '{source_id}' (they differ by {apart:.0f} of 255 on "
                f"average, {ALIKE:g} is allowed); rename one of them"
            )
        self._sound.add((effect_id, source_id))

    def _in_folder(self, effect_id: str, side: str) -> Mapping[str, Path]:
        home = self._home(effect_id)
        if self.folder is None or not home.is_dir():
            return {}
        found = photos_in(home / side)
        if not found:
            raise ClbenchError(f"{home / side} holds no picture, so '{effect_id}' has no pair; fill it or take {home} away")
        return found

    def _home(self, effect_id: str) -> Path:
        return (self.folder or Path()) / effect_id


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """Mean absolute difference of two square pictures at `SEEN` px, 0 to 255."""
    return float(np.abs(reduce_to(one, SEEN).astype(np.float64) - reduce_to(two, SEEN)).mean())


def check_shapes(source: Path, before: np.ndarray, target: Path, after: np.ndarray) -> None:
    """ClbenchError unless both have one shape: centred squares of different shapes would not lie over each other."""
    (height, width), (tall, wide) = before.shape[:2], after.shape[:2]
    if abs(width * tall / (height * wide) - 1) > SHAPE:
        raise ClbenchError(
            f"{target} is {wide}x{tall} and its source {source} is {width}x{height}: a pair must have one shape (crop both alike)"
        )
